"""Agreement of two masks of the same size, bool [row, column]."""

from __future__ import annotations

import math

import numpy as np

from training.errors import ChexanatomyError

Box = tuple[float, float, float, float]


def dice(mask: np.ndarray, reference: np.ndarray) -> float:
    """Return twice the common area over the sum of the areas: 1 for equal masks, two empty ones included; 0 for disjoint ones."""
    _same_size(mask, reference)
    total = int(mask.sum()) + int(reference.sum())
    return 2 * int((mask & reference).sum()) / total if total else 1.0


def iou(mask: np.ndarray, reference: np.ndarray) -> float:
    """Return the common area over the united area: 1 for equal masks, two empty ones included."""
    _same_size(mask, reference)
    union = int((mask | reference).sum())
    return int((mask & reference).sum()) / union if union else 1.0


def hd95(mask: np.ndarray, reference: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """Return the 95th percentile of the distances between the outlines, the larger of the two directions (as MONAI defines it).

    spacing: (row, column) pixel pitch [mm]; leave it out for pixels. NaN when either mask is empty.
    """
    from scipy import ndimage

    _same_size(mask, reference)
    if not mask.any() or not reference.any():
        return math.nan
    window = _window(mask | reference)
    outlines = [_outline(m[window]) for m in (mask, reference)]
    directed = []
    for here, there in (outlines, outlines[::-1]):
        distance = ndimage.distance_transform_edt(~there, sampling=spacing)
        directed.append(float(np.percentile(distance[here], 95)))
    return max(directed)


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """Return the part of the image that holds the mask and one pixel around it where there is one."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return (
        slice(max(0, int(rows[0]) - 1), int(rows[-1]) + 2),
        slice(max(0, int(columns[0]) - 1), int(columns[-1]) + 2),
    )


def _outline(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    outline: np.ndarray = mask & ~ndimage.binary_erosion(mask)
    return outline


def _same_size(mask: np.ndarray, reference: np.ndarray) -> None:
    if mask.shape != reference.shape:
        raise ChexanatomyError(f"Masks are compared on the same pixels: one is {mask.shape}, the reference {reference.shape}.")
