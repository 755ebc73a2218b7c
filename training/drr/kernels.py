"""Compiled inner loops of the projector. Grids are [z, y, x]; coordinates are voxel indices; see traversal.py for the walk."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

SHEET = 16
"""Slices gathered before they are marched: one sheet of floats stays in the nearest cache."""


@njit(inline="always")
def _inside(position: float, count: int) -> bool:
    return position >= -0.5 and position <= count - 0.5


@njit(inline="always")
def _floor_pair(position: float, count: int) -> tuple[int, int, float]:
    """Neighbouring indices and the weight of the second; the outer half voxels hold the edge value."""
    lower = math.floor(position)
    weight = position - lower
    first = min(max(lower, 0), count - 1)
    return first, min(max(lower + 1, 0), count - 1), weight


@njit(cache=True, fastmath=True)
def _fill(values, march, slices, rows_at, count, ramps, sheet):
    """Blend two volume rows per slice into sheet [ramp, slice, column + 1]; the first and last column repeat their neighbours."""
    across = values.shape[2] if march != 2 else values.shape[1]
    row_count = values.shape[0] if march != 0 else values.shape[1]
    for ramp in range(ramps.shape[0]):
        low, high, zero = ramps[ramp, 0], ramps[ramp, 1], ramps[ramp, 2]
        if march == 2:
            for j in range(count):
                first, second, weight = _floor_pair(rows_at[j], row_count)
                x = slices[j]
                w = np.float32(weight)
                for y in range(across):
                    a = min(max(np.float32(values[first, y, x]), low), high)
                    b = min(max(np.float32(values[second, y, x]), low), high)
                    sheet[ramp, j, y + 1] = a + w * (b - a) - zero
        else:
            for j in range(count):
                first, second, weight = _floor_pair(rows_at[j], row_count)
                k = slices[j]
                w = np.float32(weight)
                one = values[first, k] if march == 1 else values[k, first]
                two = values[second, k] if march == 1 else values[k, second]
                for x in range(across):
                    a = min(max(np.float32(one[x]), low), high)
                    b = min(max(np.float32(two[x]), low), high)
                    sheet[ramp, j, x + 1] = a + w * (b - a) - zero
        for j in range(count):
            sheet[ramp, j, 0] = sheet[ramp, j, 1]
            sheet[ramp, j, across + 1] = sheet[ramp, j, across]


@njit(cache=True, fastmath=True)
def _march(sheet_row, start, step, low, high, total):
    """Add one sheet row, read at start + step * column, to total [column]."""
    for p in range(low, high):
        position = start + step * np.float32(p)
        i = np.int32(position)
        weight = position - np.float32(i)
        a = sheet_row[i]
        total[p] += a + weight * (sheet_row[i + 1] - a)


@njit(inline="always")
def _column_range(start, step, count, columns):
    """Columns whose position start + step * column lies within the outer faces of count voxels."""
    if step == 0.0:
        return (0, columns) if _inside(start, count) else (0, 0)
    a, b = (-0.5 - start) / step, (count - 0.5 - start) / step
    low, high = min(a, b), max(a, b)
    if high < 0 or low > columns - 1:
        return 0, 0
    return max(0, math.ceil(low - 1e-9)), min(columns, math.floor(high + 1e-9) + 1)


@njit(parallel=True, cache=True, fastmath=True)
def gather(values, march, source, plane, first, pitch, ramps, out):
    """Sum the interpolated values of all slices for every virtual detector pixel.

    values: int16 or float32 [z, y, x]; ramps: float32 [m, 3] of (low, high, zero): values count as clip(value, low, high) - zero;
    out: float32 [m, row, column], overwritten.
    """
    row_axis = 1 if march == 0 else 0
    column_axis = 1 if march == 2 else 2
    slices, row_count, across = values.shape[march], values.shape[row_axis], values.shape[column_axis]
    rows, columns = out.shape[1], out.shape[2]
    for q in prange(rows):
        sheet = np.empty((ramps.shape[0], SHEET, across + 3), np.float32)
        wanted = np.empty(SHEET, np.int64)
        rows_at = np.empty(SHEET, np.float64)
        depths = np.empty(SHEET, np.float64)
        total = np.zeros((ramps.shape[0], columns), np.float32)
        target = first[0] + q * pitch[0] - source[row_axis]
        count = 0
        for k in range(slices):
            depth = (k - source[march]) / (plane - source[march])
            if depth > 0:
                row = source[row_axis] + depth * target
                if _inside(row, row_count):
                    wanted[count], rows_at[count], depths[count] = k, row, depth
                    count += 1
            if count == SHEET or (k == slices - 1 and count > 0):
                _fill(values, march, wanted, rows_at, count, ramps, sheet)
                for j in range(count):
                    start = source[column_axis] + depths[j] * (first[1] - source[column_axis])
                    step = depths[j] * pitch[1]
                    low, high = _column_range(start, step, across, columns)
                    for ramp in range(ramps.shape[0]):
                        _march(sheet[ramp, j], np.float32(start + 1), np.float32(step), low, high, total[ramp])
                count = 0
        out[:, q] = total


@njit(parallel=True, cache=True)
def label_extent(ids):
    """First and one past the last labelled x of every voxel row: int32 [z, y, 2], both 0 for an empty row."""
    extent = np.zeros((ids.shape[0], ids.shape[1], 2), np.int32)
    for z in prange(ids.shape[0]):
        for y in range(ids.shape[1]):
            row = ids[z, y]
            low, high = 0, row.size
            while low < high and row[low] == 0:
                low += 1
            while high > low and row[high - 1] == 0:
                high -= 1
            if high > low:
                extent[z, y, 0], extent[z, y, 1] = low, high
    return extent


@njit(inline="always")
def _nearest(position, count):
    return min(max(math.floor(position + 0.5), 0), count - 1)


@njit(inline="always")
def _id_at(ids, march, slice_, row, column):
    if march == 1:
        return ids[row, slice_, column]
    if march == 0:
        return ids[slice_, row, column]
    return ids[row, column, slice_]


@njit(inline="always")
def _labelled_span(ids, extent, march, slice_, row):
    """Voxels along the column axis that can hold a label; the whole line where the extent does not tell."""
    if march == 1:
        return extent[row, slice_, 0], extent[row, slice_, 1]
    if march == 0:
        return extent[slice_, row, 0], extent[slice_, row, 1]
    return 0, ids.shape[1]


@njit(inline="always")
def _crossing(ids, extent, march, source, plane, first, pitch, k, q, columns):
    """Where row q of rays crosses slice k: (voxel row, column of the first ray, column step, first and one past the last ray)."""
    row_axis = 1 if march == 0 else 0
    column_axis = 1 if march == 2 else 2
    depth = (k - source[march]) / (plane - source[march])
    row_at = source[row_axis] + depth * (first[0] + q * pitch[0] - source[row_axis])
    if depth <= 0 or not _inside(row_at, ids.shape[row_axis]):
        return 0, 0.0, 0.0, 0, 0
    row = _nearest(row_at, ids.shape[row_axis])
    left, right = _labelled_span(ids, extent, march, k, row)
    if right <= left:
        return 0, 0.0, 0.0, 0, 0
    start = source[column_axis] + depth * (first[1] - source[column_axis])
    step = depth * pitch[1]
    low, high = _column_range(start - left, step, right - left, columns)
    return row, start, step, low, high


@njit(parallel=True, cache=True)
def gather_bits(ids, extent, march, source, plane, first, pitch, table, out):
    """Or together the bit sets of all nearest voxels along every ray.

    ids: unsigned [z, y, x]; extent: see label_extent; table: uint64 [id, word]; out: uint64 [row, column, word], overwritten.
    """
    slices, across = ids.shape[march], ids.shape[1 if march == 2 else 2]
    rows, columns, words = out.shape
    for q in prange(rows):
        found = np.zeros((columns, words), np.uint64)
        for k in range(slices):
            row, start, step, low, high = _crossing(ids, extent, march, source, plane, first, pitch, k, q, columns)
            for p in range(low, high):
                id_ = _id_at(ids, march, k, row, _nearest(start + step * p, across))
                if id_ != 0:
                    for w in range(words):
                        found[p, w] |= table[id_, w]
        out[q] = found


@njit(parallel=True, cache=True)
def gather_counts(ids, extent, march, source, plane, first, pitch, table, out):
    """Count the slices in which every ray meets each structure.

    table: float32 [id, structure], 1 where the id belongs to the structure; out: float32 [structure, row, column], overwritten.
    """
    slices, across = ids.shape[march], ids.shape[1 if march == 2 else 2]
    structures, rows, columns = out.shape
    for q in prange(rows):
        found = np.zeros((columns, structures), np.float32)
        for k in range(slices):
            row, start, step, low, high = _crossing(ids, extent, march, source, plane, first, pitch, k, q, columns)
            for p in range(low, high):
                id_ = _id_at(ids, march, k, row, _nearest(start + step * p, across))
                if id_ != 0:
                    for s in range(structures):
                        found[p, s] += table[id_, s]
        for s in range(structures):
            out[s, q] = found[:, s]


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


@njit(parallel=True, cache=True, fastmath=True)
def carry_over(sums, corner, row_step, column_step, march, source, plane, first, pitch, out):
    """Read sums float32 [m, row, column] of the virtual detector at every detector pixel into out [m, row, column]."""
    row_axis = 1 if march == 0 else 0
    column_axis = 1 if march == 2 else 2
    rows, columns = sums.shape[1], sums.shape[2]
    for r in prange(out.shape[1]):
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


@njit(parallel=True, cache=True)
def nearest_pixels(shape, virtual, corner, row_step, column_step, march, source, plane, first, pitch):
    """Flat index of the nearest virtual detector pixel for every detector pixel: int64 [row, column], -1 outside."""
    row_axis = 1 if march == 0 else 0
    column_axis = 1 if march == 2 else 2
    index = np.empty(shape, np.int64)
    for r in prange(shape[0]):
        for c in range(shape[1]):
            q, p, forward = _virtual_pixel(
                r, c, corner, row_step, column_step, march, row_axis, column_axis, source, plane, first, pitch
            )
            row, column = math.floor(q + 0.5), math.floor(p + 0.5)
            if forward and 0 <= row < virtual[0] and 0 <= column < virtual[1]:
                index[r, c] = row * virtual[1] + column
            else:
                index[r, c] = -1
    return index


@njit(parallel=True, cache=True)
def unpack(bits, index, wanted, out):
    """Set out bool [structure, row, column] where the bit set of the pixel's ray shares a bit with the structure's.

    bits: uint64 [virtual pixel, word]; index: int64 [row, column] into it, -1 for nothing; wanted: uint64 [structure, word].
    """
    structures, rows, columns = out.shape
    for r in prange(rows):
        for s in range(structures):
            for c in range(columns):
                i = index[r, c]
                hit = False
                if i >= 0:
                    for w in range(bits.shape[1]):
                        hit |= (bits[i, w] & wanted[s, w]) != 0
                out[s, r, c] = hit
