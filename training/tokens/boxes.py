"""Boxes as location bins: four numbers between 0 and 1023, a fraction of the image's height or width each.

PaliGemma's convention (big_vision, `pp/proj/paligemma`): the order is y_min, x_min, y_max, x_max; bin = round(fraction * 1023).
Boxes in pixels are (top, left, bottom, right), floating point, bottom and right exclusive: a full image is (0, 0, rows, columns).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LOC_BINS = 1024
"""Number of location tokens, `<loc0000>` to `<loc1023>`."""

BOX_PADDING = 0.011
"""Room left around a structure on every side, as a fraction of the image's side (10 px at 896 px in CheXanatomy)."""

Box = tuple[float, float, float, float]
Bins = tuple[int, int, int, int]


def box_to_bins(box: Box, size: tuple[int, int]) -> Bins:
    """Return the location bins (y_min, x_min, y_max, x_max) of a pixel box in an image of `size` (rows, columns).

    What lies outside the image is clipped. The result always spans at least one bin each way, so that it reads back as a box.
    """
    sides = (size[0], size[1], size[0], size[1])
    y0, x0, y1, x1 = (
        int(np.floor(min(max(value / side, 0.0), 1.0) * (LOC_BINS - 1) + 0.5)) for value, side in zip(box, sides, strict=True)
    )
    y0, y1 = _at_least_one_bin(y0, y1)
    x0, x1 = _at_least_one_bin(x0, x1)
    return y0, x0, y1, x1


def bins_to_box(bins: Bins, size: tuple[int, int]) -> Box:
    """Return the pixel box (top, left, bottom, right) that location bins name in an image of `size` (rows, columns)."""
    rows, columns = size
    last = LOC_BINS - 1
    return bins[0] / last * rows, bins[1] / last * columns, bins[2] / last * rows, bins[3] / last * columns


def tight_box(mask: NDArray[np.bool_], pad: float = BOX_PADDING) -> Box | None:
    """Return the pixel box around the set pixels of `mask` [row, column], or None for an empty mask.

    pad: room added on every side, as a fraction of the image's height (top, bottom) or width (left, right); the box is
    clipped to the image.
    """
    in_row = np.flatnonzero(mask.any(axis=1))
    if in_row.size == 0:
        return None
    top, bottom = int(in_row[0]), int(in_row[-1]) + 1
    in_column = np.flatnonzero(mask[top:bottom].any(axis=0))
    left, right = int(in_column[0]), int(in_column[-1]) + 1
    rows, columns = mask.shape
    return (
        max(0.0, top - pad * rows),
        max(0.0, left - pad * columns),
        min(float(rows), bottom + pad * rows),
        min(float(columns), right + pad * columns),
    )


def is_box(bins: Bins) -> bool:
    """Whether the bins name a box with an inside: in range, bottom below top, right beyond left."""
    y0, x0, y1, x1 = bins
    return 0 <= y0 < y1 < LOC_BINS and 0 <= x0 < x1 < LOC_BINS


def _at_least_one_bin(low: int, high: int) -> tuple[int, int]:
    """Widen an empty or inverted interval to the one bin around its start."""
    if high > low:
        return low, high
    return (low, low + 1) if low < LOC_BINS - 1 else (low - 1, low)
