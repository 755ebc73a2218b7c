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
"""Detector lines that one thread works on at a time, at least."""
ROUNDING = 1e-6
"""Positions closer than this to a face are worked out exactly [voxels]."""
FAR = 1e9
"""Crossings are kept within this many pixels, so that they fit an integer."""
FEW = 4
"""So many detector lines are gone through one by one; of more, those are worked out that a run falls on."""


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
def _meeting(face, at, step):
    """The line i on which face = (base, slope, sideways), base + slope * i + sideways * j, is zero at j = at + i * step."""
    closing = face[1] + face[2] * step
    return -(face[0] + face[2] * at) / closing if closing != 0.0 else np.nan


@njit(cache=True)
def _lay_strip(near, far, forward, ahead, ahead_down, ahead_along, columns, left, right, top, bottom):
    """Pixels left..right - 1 of the lines top..bottom - 1 whose rays run towards the slice and between two row faces."""
    if forward and near[2] * far[2] > 0:
        rising = near[2] > 0
        one, two = (near, far) if rising else (far, near)
        at, step, at_end, step_end = -one[0] / one[2], -one[1] / one[2], -two[0] / two[2], -two[1] / two[2]
        for i in range(top, bottom):
            begin, end = at + i * step, at_end + i * step_end
            left[i] = max(0.0, np.ceil(begin) if rising else np.floor(begin) + 1)
            right[i] = min(float(columns), np.ceil(end) if rising else np.floor(end) + 1)
        return
    for i in range(top, bottom):
        begin, end = 0, columns
        if not forward:
            begin, end = _from(ahead + i * ahead_down - ROUNDING, _inverse(ahead_along), begin, end)
        begin, end = _from(near[0] + i * near[1], _inverse(near[2]), begin, end)
        begin, end = _before(far[0] + i * far[1], _inverse(far[2]), begin, end)
        left[i], right[i] = begin, end


@njit(cache=True)
def _cast_strip(
    begin_run, end_run, begin, end, ids, slots, rising, base, down, along, ahead, ahead_down, ahead_along,
    near, far, forward, left, right, top, bottom, bits, steps,
):  # fmt: skip
    """Cast the runs of one strip of voxels on the detector lines top..bottom - 1, of which it covers the pixels left..right - 1.

    near, far: (base, slope, sideways) of the strip's faces; forward: all rays of these lines run towards the slice. Run by run,
    not line by line: a tilted strip falls on many lines, a run on few of them.
    """
    for run in range(begin_run, end_run):
        slot = slots[ids[run]]
        if slot < 0:
            continue
        first, last = top, bottom
        face = (begin[run] if rising else end[run]) - 0.5
        a, a_step, seen = _edge(face, rising, base, down, along, ahead, ahead_down, ahead_along)
        face = (end[run] if rising else begin[run]) - 0.5
        b, b_step, also = _edge(face, rising, base, down, along, ahead, ahead_down, ahead_along)
        if forward and bottom - top > FEW and seen and also:
            p, q = _meeting(near, a, a_step), _meeting(far, a, a_step)
            v, w = _meeting(near, b, b_step), _meeting(far, b, b_step)
            if np.isfinite(p + q + v + w):
                first = math.ceil(max(float(top), min(FAR, p, q, v, w)))
                last = math.floor(min(bottom - 1.0, max(-FAR, p, q, v, w))) + 1
        for i in range(first, last):
            one, two = a + i * a_step, b + i * b_step
            one, two = (np.ceil(one), np.ceil(two)) if rising else (np.floor(one) + 1, np.floor(two) + 1)
            one, two = max(left[i], one), min(right[i], two)
            if one >= two:
                continue
            if bits.size:
                _mark(bits[slot, i], np.int64(one), np.int64(two))
            else:
                steps[slot, i, np.int64(one)] += 1
                steps[slot, i, np.int64(two)] -= 1


@njit(inline="always")
def _edge(face, rising, base, down, along, ahead, ahead_down, ahead_along):
    """Where a column face falls on detector line i: pixel at + i * step, and whether it is seen at all.

    No ray towards the slice meets a face beyond the horizon, which the line nears towards its end or comes from.
    """
    slope = along - face * ahead_along
    if slope == 0.0 or (slope > 0) != rising:
        return (FAR if ahead_along > 0 else -FAR), 0.0, False
    return -(base - face * ahead) / slope, -(down - face * ahead_down) / slope, True


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
    left, right = np.empty(last), np.empty(last)
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
            near_face = (row - (r - 0.5) * ahead, row_down - (r - 0.5) * ahead_down, row_along - (r - 0.5) * ahead_along)
            far_face = (row - (r + 0.5) * ahead, row_down - (r + 0.5) * ahead_down, row_along - (r + 0.5) * ahead_along)
            _lay_strip(near_face, far_face, forward, ahead, ahead_down, ahead_along, columns, left, right, top, bottom)
            while top < bottom:
                turn = column_along * ahead - column * ahead_along
                turn_down = column_along * ahead_down - column_down * ahead_along
                rising, until = turn + top * turn_down > 0, bottom
                if (turn + (bottom - 1) * turn_down > 0) != rising:
                    until = top + 1
                    while (turn + until * turn_down > 0) == rising:
                        until += 1
                _cast_strip(
                    offsets[line], offsets[line + 1], begin, end, ids, slots, rising,
                    column, column_down, column_along, ahead, ahead_down, ahead_along,
                    near_face, far_face, forward, left, right, top, until, bits, steps,
                )  # fmt: skip
                top = until


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
