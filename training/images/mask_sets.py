"""The masks of one image, whatever file they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from training.errors import ChexanatomyError
from training.images.turning import AS_STORED, Turn


@dataclass(frozen=True)
class MaskSet:
    """Masks of one image.

    image: the image's file name, empty where unknown; size: (rows, columns) [px]; masks: bool [row, column] by structure, which
    may overlap; a mask without a pixel says that the structure is known not to be there; scores: confidence 0..1 where known;
    notes: plain sentences on what reading changed; turn: how the masks were turned from their file's own grid when they were
    read, None where the file does not say how it lies (PNG, COCO).
    """

    image: str
    size: tuple[int, int]
    masks: Mapping[str, np.ndarray]
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    turn: Turn | None = None

    def __post_init__(self) -> None:
        for structure, mask in self.masks.items():
            if mask.shape != self.size or mask.dtype != bool:
                raise ChexanatomyError(
                    f"The mask of {structure!r} is {mask.dtype} {mask.shape} where bool {self.size} [row, column] belongs: "
                    "give masks of the image's size."
                )

    def on_read(self, turn: Turn) -> MaskSet:
        """The masks as they lie on a radiograph that was turned so when it was read; those that their own file turned stay."""
        return self if self.turn is not None or turn == AS_STORED else replace(self._turned(turn), turn=turn)

    def on_stored(self) -> MaskSet:
        """The masks on the pixels as they stand in the image's file."""
        return self if self.turn in (None, AS_STORED) else replace(self._turned(self.turn.back), turn=None)

    def _turned(self, turn: Turn) -> MaskSet:
        size = self.size[::-1] if turn.transposed else self.size
        return replace(self, size=size, masks={structure: turn(mask) for structure, mask in self.masks.items()})
