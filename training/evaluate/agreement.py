"""How far a predicted mask and a reference agree in one image, structure by structure, and where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.anatomy import find
from training.errors import ChexanatomyError, UnknownStructure
from training.evaluate.metrics import dice, hd95, iou
from training.images.turning import AS_STORED, Turn

BOTH, PREDICTION_ONLY, REFERENCE_ONLY = 1, 2, 3
"""Values of an overlap map; 0 is neither."""
MASK_SUFFIXES = (".png", ".tif", ".tiff")


@dataclass(frozen=True)
class Agreement:
    """One structure. dice, iou: 0..1, 1 when both masks are empty; hd95: 95th percentile of the distance between the outlines
    [unit], NaN when either is empty; predicted, reference: area of each [px]."""

    structure: str
    dice: float
    iou: float
    hd95: float
    unit: str
    predicted: int
    reference: int

    @property
    def verdict(self) -> str:
        """What the figures mean when one of the masks is empty; "" otherwise."""
        if self.predicted and self.reference:
            return ""
        if self.predicted:
            return "predicted, and not in the reference"
        return "not predicted, and in the reference" if self.reference else "in neither"


def agree(
    structure: str, mask: np.ndarray | None, reference: np.ndarray, spacing: tuple[float, float] | None = None
) -> Agreement:
    """Compare a predicted mask bool [row, column], None where the structure was not seen, with a reference of the same size.

    spacing: (row, column) [mm] or None.
    """
    found = np.zeros(reference.shape, bool) if mask is None else mask
    return Agreement(
        structure,
        dice(found, reference),
        iou(found, reference),
        hd95(found, reference, spacing or (1.0, 1.0)),
        "mm" if spacing else "px",
        int(found.sum()),
        int(reference.sum()),
    )


def overlap_map(mask: np.ndarray | None, reference: np.ndarray) -> np.ndarray:
    """Where two masks agree, uint8 [row, column]: 0 neither, BOTH, PREDICTION_ONLY, REFERENCE_ONLY."""
    found = np.zeros(reference.shape, bool) if mask is None else mask
    chosen = np.zeros(reference.shape, np.uint8)
    chosen[found & reference] = BOTH
    chosen[found & ~reference] = PREDICTION_ONLY
    chosen[~found & reference] = REFERENCE_ONLY
    return chosen


def read_references(path: Path, structure: str | None, shape: tuple[int, int], turn: Turn = AS_STORED) -> dict[str, np.ndarray]:
    """Reference masks bool [row, column] by structure: from one mask picture, a folder of them named by structure, COCO JSON or
    DICOM SEG.

    structure: what one picture shows; of several masks the only one that is wanted, or None for all; shape: (rows, columns) of
    the radiograph as read; turn: how it was turned for that, see `MaskSet.on_read`. Raises ChexanatomyError when nothing is
    there, or a mask has another size.
    """
    from training.images import read_mask_png, read_masks

    if path.suffix.lower() in MASK_SUFFIXES:
        masks = {structure or _structure_of(path.stem): turn(read_mask_png(path))}
    else:
        sets = read_masks(path)
        if len(sets) != 1:
            raise ChexanatomyError(f"{path.name} holds masks of {len(sets)} images: give those of this radiograph alone.")
        masks = {name: mask for name, mask in sets[0].on_read(turn).masks.items() if structure in (None, name)}
    if not masks:
        raise ChexanatomyError(f"{path.name} holds no mask of what is wanted: name its structures as the table does.")
    for name, mask in masks.items():
        check_size(f"of {name} in {path.name}", mask, shape)
    return masks


def check_size(name: str, mask: np.ndarray, shape: tuple[int, int]) -> None:
    """Raise ChexanatomyError when a reference does not lie on the radiograph's pixels."""
    if mask.shape != shape:
        raise ChexanatomyError(
            f"The reference {name} is {mask.shape[0]} x {mask.shape[1]} pixels, the radiograph {shape[0]} x {shape[1]}: "
            "give one that was drawn on this radiograph."
        )


def matching(findings: Mapping[str, np.ndarray | None], references: Mapping[str, np.ndarray]) -> list[str]:
    """Return the structures that both have, in the findings' order. Raises ChexanatomyError when there is none."""
    common = [name for name in findings if name in references]
    if not common:
        raise ChexanatomyError("The reference has none of the structures that were found: find one that it has.")
    return common


def _structure_of(stem: str) -> str:
    try:
        return find(stem).key
    except UnknownStructure:
        return stem
