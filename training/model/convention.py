"""What "left lung" means on a radiograph: the lung as readers outline it, not the shadow that a CT's lung would cast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from training.anatomy import find
from training.errors import UnknownStructure
from training.images.types import Radiograph
from training.model.parts import united

if TYPE_CHECKING:
    from training.model.predictor import Finding

OUTLINE = "outline"
LEFT, RIGHT = "lung_outline_left", "lung_outline_right"
AS_DRAWN = {"lung_left": (LEFT,), "lung_right": (RIGHT,), "lungs": (RIGHT, LEFT)}
"""Projected lungs, which reach behind diaphragm and spine where nobody sees them, and what is drawn in their place."""


@dataclass(frozen=True)
class AsDrawn:
    """A model that answers lungs with their outlines on radiographs that were taken of a person.

    The answer keeps the name that was asked for and says so (`Finding.convention`). Radiographs reckoned from a CT, lateral
    views, models that were not taught outlines, and lungs that were taught from drawings are answered to the letter.
    """

    model: Any  # a Predictor, a U-Net, or what else has `segment` and a card

    @property
    def card(self) -> dict[str, Any]:
        """The model's own."""
        card: dict[str, Any] = self.model.card
        return card

    def segment(self, radiograph: Radiograph, structures: Sequence[str], **options: Any) -> list[Finding]:
        """One Finding per structure, in the order asked. Raises as the model does."""
        wanted = self._wanted(structures, radiograph)
        asked = list(dict.fromkeys(part for parts in wanted for part in parts))
        found = dict(zip(asked, self.model.segment(radiograph, asked, **options), strict=True))
        return [_one(_key(name), [found[part] for part in parts]) for name, parts in zip(structures, wanted, strict=True)]

    def untaught(self, names: Sequence[str], radiograph: Radiograph | None = None) -> list[str]:
        """Return the keys of those structures that the model was not taught, on this radiograph or, without one, on one taken
        of a person. Raises as the model does."""
        wanted = self._wanted(names, radiograph)
        return [_key(name) for name, parts in zip(names, wanted, strict=True) if self.model.untaught(parts)]

    def _wanted(self, structures: Sequence[str], radiograph: Radiograph | None) -> list[tuple[str, ...]]:
        """What the model is asked for each name."""
        to_the_letter = radiograph is not None and (radiograph.reconstructed or radiograph.view == "LATERAL")
        if to_the_letter or not {LEFT, RIGHT} <= set(self.card.get("structures", ())):
            return [(name,) for name in structures]
        own = set(self.card.get("from_drawings", ()))
        return [(name,) if _key(name) in own else AS_DRAWN.get(_key(name), (name,)) for name in structures]


def _key(name: str) -> str:
    try:
        return find(name).key
    except UnknownStructure:
        return name


def _one(key: str, parts: Sequence[Finding]) -> Finding:
    """The finding under the name it was asked by; of both lungs together if there are two."""
    if parts[0].structure == key or key not in AS_DRAWN:
        return parts[0]
    return replace(united(key, parts), convention=OUTLINE)
