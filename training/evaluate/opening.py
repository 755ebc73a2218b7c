"""Models to be scored: token models, U-Nets, and the folders of training runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.evaluate.comparison import Segments

if TYPE_CHECKING:
    from training.images import Radiograph
    from training.model import Finding


def open_model(spec: str, codebook: Path | None = None) -> Segments:
    """Open anything that `training.model.load` opens, a U-Net's folder, or the run that either came from."""
    from training.model import load
    from training.model.unet import WEIGHTS, load_unet

    folder = Path(spec).expanduser()
    if (folder / "checkpoint").is_dir():
        folder = folder / "checkpoint"
    if (folder / WEIGHTS).exists():
        return load_unet(folder)
    return load(folder if folder.is_dir() else spec, codebook=codebook)


@dataclass(frozen=True)
class Accurate:
    """A model that takes its time over every answer: `Predictor.segment(..., accurate=True)`. A U-Net answers as ever."""

    model: Any

    @property
    def card(self) -> dict[str, Any]:
        """The model's own."""
        return card_of(self.model)

    def segment(self, radiograph: Radiograph, structures: Sequence[str], **options: Any) -> list[Finding]:
        """One Finding per structure, in the order asked. Raises as the model does."""
        found: list[Finding] = self.model.segment(radiograph, structures, **{**options, "accurate": True})
        return found

    def untaught(self, names: Sequence[str]) -> list[str]:
        """As the model."""
        keys: list[str] = self.model.untaught(names)
        return keys


def card_of(model: Any) -> dict[str, Any]:
    """What a model says of itself."""
    card: dict[str, Any] = getattr(model, "card", {})
    return card
