"""The masks of one image, whatever file they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from training.errors import ChexanatomyError


@dataclass(frozen=True)
class MaskSet:
    """Masks of one image.

    image: the image's file name, empty where unknown; size: (rows, columns) [px]; masks: bool [row, column] by structure, which
    may overlap; a mask without a pixel says that the structure is known not to be there; scores: confidence 0..1 where known;
    notes: plain sentences on what reading changed.
    """

    image: str
    size: tuple[int, int]
    masks: Mapping[str, np.ndarray]
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for structure, mask in self.masks.items():
            if mask.shape != self.size or mask.dtype != bool:
                raise ChexanatomyError(
                    f"The mask of {structure!r} is {mask.dtype} {mask.shape} where bool {self.size} [row, column] belongs: "
                    "give masks of the image's size."
                )
