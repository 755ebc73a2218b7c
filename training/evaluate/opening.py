"""Models to be scored: token models, U-Nets, and the folders of training runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.evaluate.comparison import Segments


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


def card_of(model: Any) -> dict[str, Any]:
    """What a model says of itself."""
    card: dict[str, Any] = getattr(model, "card", {})
    return card
