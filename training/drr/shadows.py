"""Compiled shadows of runs of labelled voxels on the detector.

In every slice a run of voxels is a rectangle; seen from the source, its faces are straight lines on the detector, so along one
line of detector pixels it covers one interval. Intervals are marked in bit rows (masks) or in difference rows (thickness): no
voxel is visited one by one, and the rays through pixel centres are met exactly.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

LINES = 32
"""Detector lines that one thread works on at a time."""
ROUNDING = 1e-6
"""Positions closer than this to a face are worked out exactly [voxels]."""
FAR = 1e9
"""Crossings are kept within this many pixels, so that they fit an integer."""


@njit(inline="always")
def _inverse(slope):
    """1 / slope, and 0 for a face that is parallel to the detector lines."""
    return 1 / slope if slope != 0.0 else 0.0


@njit(inline="always")
def _from(base, inverse, left, right):
    """Pixels j among left..right - 1 where base + j / inverse is not negative: (first, one past the last)."""
    if inverse == 0.0:
        return (left, right) if base >= 0 else (0, 0)
    at = min(max(-base * inverse, -FAR), FAR)
    return (max(left, math.ceil(at)), right) if inverse > 0 else (left, min(right, math.floor(at) + 1))


@njit(inline="always")
def _before(base, inverse, left, right):
    """Pixels j among left..right - 1 where base + j / inverse is negative: (first, one past the last)."""
    if inverse == 0.0:
        return (left, right) if base < 0 else (0, 0)
    at = min(max(-base * inverse, -FAR), FAR)
    return (left, min(right, math.ceil(at))) if inverse > 0 else (max(left, math.floor(at) + 1), right)


@njit(inline="always")
def _mark(row, left, right):
    """Set the bits left..right - 1 of a row of 64-bit words."""
    first, last = left >> 6, (right - 1) >> 6
    everything = ~np.uint64(0)
    begin = everything << np.uint64(left & 63)
    end = everything >> np.uint64(63 - ((right - 1) & 63))
    if first == last:
        row[first] |= begin & end
        return
    row[first] |= begin
    for word in range(first + 1, last):
        row[word] = everything
    row[last] |= end


@njit(inline="always")
def _rows_met(reach, corner, down, along, march, row_axis, source, row_count, begin, end, columns):
    """Voxel rows of a slice that the rays of the detector lines begin..end - 1 can meet: (first, one past the last, whether all
    of these rays run towards the slice)."""
    low, high = np.inf, -np.inf
    for i in (begin, end - 1):
        for j in (0, columns - 1):
            ahead = corner[march] + i * down[march] + j * along[march]
            if ahead * reach <= 0:
                return 0, row_count, False
            at = source[row_axis] + reach * (corner[row_axis] + i * down[row_axis] + j * along[row_axis]) / ahead
            low, high = min(low, at), max(high, at)
    low, high = min(max(low, -1.0), row_count), min(max(high, -1.0), row_count)
    return max(0, math.floor(low)), min(row_count, math.ceil(high) + 1), True


@njit(inline="always")
def _lines_met(base, slope, sideways, ahead, ahead_slope, ahead_sideways, row, columns, begin, end):
    """Detector lines among begin..end - 1 that a strip of voxels, one row wide, can fall on: (first, one past the last)."""
    one, two = _inverse(slope - (row - 0.5) * ahead_slope), _inverse(slope - (row + 0.5) * ahead_slope)
    if one * two <= 0:
        return begin, end
    low, high = FAR, -FAR
    for j in (0, columns - 1):
        here, ahead_here = base + j * sideways, ahead + j * ahead_sideways
        a, b = -(here - (row - 0.5) * ahead_here) * one, -(here - (row + 0.5) * ahead_here) * two
        low, high = min(low, a, b), max(high, a, b)
    return max(begin, math.ceil(max(low, -FAR))), min(end, math.floor(min(high, FAR)) + 1)


@njit(inline="always")
def _pixel(edges, side, t, i, rising):
    """First pixel of line i from the edge on."""
    at = min(max(edges[t, side, 0] + i * edges[t, side, 1], -FAR), FAR)
    return math.ceil(at) if rising else math.floor(at) + 1


@njit(cache=True)
def _lay_edges(
    begin_run, end_run, begin, end, ids, slots, rising, base, down, along, ahead, ahead_down, ahead_along, edges, order
):
    """Where the faces of a line's runs fall on detector line i: edges[t, side, 0] + i * edges[t, side, 1] for its begin (side 0)
    and end (side 1), in the order along the detector; order[t]: the run's slot. Returns how many runs there are.

    No ray towards the slice meets a face beyond the horizon, which the line nears towards its end or comes from.
    """
    count = 0
    for n in range(end_run - begin_run):
        run = begin_run + n if rising else end_run - 1 - n
        slot = slots[ids[run]]
        if slot < 0:
            continue
        for side in range(2):
            face = (begin[run] if (side == 0) == rising else end[run]) - 0.5
            slope = along - face * ahead_along
            if slope == 0.0 or (slope > 0) != rising:
                edges[count, side, 0], edges[count, side, 1] = FAR if ahead_along > 0 else -FAR, 0.0
            else:
                edges[count, side, 0] = -(base - face * ahead) / slope
                edges[count, side, 1] = -(down - face * ahead_down) / slope
        order[count] = slot
        count += 1
    return count


@njit(cache=True, nogil=True)
def cast(offsets, begin, end, ids, shape, march, source, corner, down, along, slots, columns, bits, steps, first, last):
    """Cast runs of labelled voxels (see runs.Runs) onto the detector lines first..last - 1 of columns pixels each.

    source: voxel position (z, y, x); corner: from it to pixel [0, 0]; down, along: steps to the next line and the next pixel of a
    line [voxels]; slots: int64 [id], where an id goes, -1 for nowhere. Either bits, uint64 [slot, line, word], gets the pixels
    set whose ray meets the slot, or (bits empty) steps, int32 [slot, line, columns + 1], gets the change from pixel to pixel of
    the number of slices in which the ray meets it.

    On line i, ray j is at or beyond voxel face f where (base + slope * j) - f * (ahead + ahead_along * j) is not negative; base
    and slope are those of the row axis or of the column axis.
    """
    row_axis, column_axis = 1 if march == 0 else 0, 1 if march == 2 else 2
    slices, row_count, lines = shape[march], shape[row_axis], shape[2] if march == 2 else shape[1]
    edges, order = np.empty((shape[column_axis], 2, 2)), np.empty(shape[column_axis], np.int64)
    for k in range(slices):
        reach = k - source[march]
        if reach == 0:
            continue
        far, side = abs(reach), 1.0 if reach > 0 else -1.0
        ahead, ahead_down, ahead_along = side * corner[march], side * down[march], side * along[march]
        row, column = far * corner[row_axis] + source[row_axis] * ahead, far * corner[column_axis] + source[column_axis] * ahead
        row_down, row_along = (
            far * down[row_axis] + source[row_axis] * ahead_down,
            far * along[row_axis] + source[row_axis] * ahead_along,
        )
        column_down = far * down[column_axis] + source[column_axis] * ahead_down
        column_along = far * along[column_axis] + source[column_axis] * ahead_along
        low_row, high_row, forward = _rows_met(
            reach, corner, down, along, march, row_axis, source, row_count, first, last, columns
        )
        for r in range(low_row, high_row):
            line = k * lines + r if march == 0 else r * lines + k
            if offsets[line] == offsets[line + 1]:
                continue
            top, bottom = first, last
            if forward:
                top, bottom = _lines_met(row, row_down, row_along, ahead, ahead_down, ahead_along, r, columns, first, last)
            near_face, far_face = _inverse(row_along - (r - 0.5) * ahead_along), _inverse(row_along - (r + 0.5) * ahead_along)
            count, now, rising, laid = 0, 0, False, False
            for i in range(top, bottom):
                here, there, across = ahead + i * ahead_down, row + i * row_down, column + i * column_down
                left, right = (0, columns) if forward else _from(here - ROUNDING, _inverse(ahead_along), 0, columns)
                left, right = _from(there - (r - 0.5) * here, near_face, left, right)
                left, right = _before(there - (r + 0.5) * here, far_face, left, right)
                if left >= right:
                    continue
                if not laid or rising != (column_along * here > across * ahead_along):
                    laid, rising, now = True, column_along * here > across * ahead_along, 0
                    count = _lay_edges(
                        offsets[line], offsets[line + 1], begin, end, ids, slots, rising,
                        column, column_down, column_along, ahead, ahead_down, ahead_along, edges, order,
                    )  # fmt: skip
                # From line to line the rays in this strip move along it: the runs they meet are next to those met before.
                while now > 0 and _pixel(edges, 1, now - 1, i, rising) > left:
                    now -= 1
                while now < count and _pixel(edges, 1, now, i, rising) <= left:
                    now += 1
                for t in range(now, count):
                    a, b = max(left, _pixel(edges, 0, t, i, rising)), min(right, _pixel(edges, 1, t, i, rising))
                    if a >= right:
                        break
                    if a < b and bits.size:
                        _mark(bits[order[t], i], a, b)
                    elif a < b:
                        steps[order[t], i, a] += 1
                        steps[order[t], i, b] -= 1


@njit(cache=True, nogil=True)
def tally(steps, first, members, swapped, out, begin, end):
    """Add up steps int32 [slot, line, pixels + 1] (see cast) of each structure's slots members[first[s]:first[s + 1]].

    out: float32 [structure, row, column], the number of slices met, for the lines begin..end - 1: the picture's columns when
    swapped, otherwise its rows.
    """
    total = np.zeros(steps.shape[2], np.int32)
    for i in range(begin, end):
        for s in range(out.shape[0]):
            total[:] = 0
            for member in range(first[s], first[s + 1]):
                for j in range(total.size):
                    total[j] += steps[members[member], i, j]
            count = 0
            for j in range(total.size - 1):
                count += total[j]
                if swapped:
                    out[s, j, i] = count
                else:
                    out[s, i, j] = count


@njit(cache=True, nogil=True)
def unpack(bits, first, members, swapped, out, begin, end):
    """Set out bool [structure, row, column], all False before, where one of the structure's slots has its bit set.

    bits: uint64 [slot, line, word]; structure s has members[first[s]:first[s + 1]]; lines
    begin..end - 1: the picture's columns when swapped, otherwise its rows.
    """
    pixels = out.shape[1] if swapped else out.shape[2]
    for i in range(begin, end):
        for s in range(out.shape[0]):
            for word in range(bits.shape[2]):
                union = np.uint64(0)
                for member in range(first[s], first[s + 1]):
                    union |= bits[members[member], i, word]
                if union != 0:
                    for j in range(word * 64, min(word * 64 + 64, pixels)):
                        hit = (union >> np.uint64(j - word * 64)) & np.uint64(1) != 0
                        if swapped:
                            out[s, j, i] = hit
                        else:
                            out[s, i, j] = hit
