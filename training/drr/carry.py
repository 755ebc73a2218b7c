"""Compiled homography from the virtual detector to the real one; see traversal.py. Positions are voxel indices (z, y, x)."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(inline="always")
def _virtual_pixel(r, c, corner, row_step, column_step, march, row_axis, column_axis, source, plane, first, pitch):
    """Position of detector pixel [r, c] on the virtual detector, and whether the ray runs forward."""
    at_march = corner[march] + r * row_step[march] + c * column_step[march]
    at_row = corner[row_axis] + r * row_step[row_axis] + c * column_step[row_axis]
    at_column = corner[column_axis] + r * row_step[column_axis] + c * column_step[column_axis]
    depth = (at_march - source[march]) / (plane - source[march])
    if depth <= 1e-6:
        return 0.0, 0.0, False
    row = source[row_axis] + (at_row - source[row_axis]) / depth
    column = source[column_axis] + (at_column - source[column_axis]) / depth
    return (row - first[0]) / pitch[0], (column - first[1]) / pitch[1], True


@njit(inline="always")
def _cubic(t, a, b, c, d):
    """Catmull-Rom interpolation between b and c."""
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


@njit(cache=True, fastmath=True, nogil=True)
def carry_over(sums, corner, row_step, column_step, march, source, plane, first, pitch, out, begin, end):
    """Read sums [m, row, column] of the virtual detector into the rows begin..end - 1 of out float32 [m, row, column]."""
    row_axis = 1 if march == 0 else 0
    column_axis = 1 if march == 2 else 2
    rows, columns = sums.shape[1], sums.shape[2]
    for r in range(begin, end):
        line = np.empty(4, np.float64)
        for c in range(out.shape[2]):
            q, p, forward = _virtual_pixel(
                r, c, corner, row_step, column_step, march, row_axis, column_axis, source, plane, first, pitch
            )
            if not forward or q <= -1 or p <= -1 or q >= rows or p >= columns:
                out[:, r, c] = 0
                continue
            q0, p0 = math.floor(q), math.floor(p)
            for m in range(out.shape[0]):
                for i in range(4):
                    row = min(max(q0 - 1 + i, 0), rows - 1)
                    line[i] = _cubic(
                        p - p0,
                        sums[m, row, min(max(p0 - 1, 0), columns - 1)],
                        sums[m, row, min(max(p0, 0), columns - 1)],
                        sums[m, row, min(max(p0 + 1, 0), columns - 1)],
                        sums[m, row, min(max(p0 + 2, 0), columns - 1)],
                    )
                out[m, r, c] = _cubic(q - q0, line[0], line[1], line[2], line[3])
