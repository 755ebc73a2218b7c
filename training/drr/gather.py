"""Compiled sums of interpolated voxel values over all slices; see traversal.py for the walk. Grids are [z, y, x], positions voxel
indices.

Each slice's voxel rows are first read at the ray columns (lanes.py), then two of them are blended per row of rays: the same
bilinear interpolation as ray by ray, with long contiguous loops.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from training.drr.lanes import LANES, LINES, interpolate_block, lay_weights, most_taps
from training.threads import in_stretches

BAND = 32
"""Rows of rays that one thread works on at a time."""
TILE = 4
"""Slices blended in one go; blend_rows names them one by one."""
SHEET = 16
"""Slices turned at a time where they do not lie contiguous in memory: half a cache line of int16."""
PADDING = 32
"""Voxels between turned rows, so that they do not compete for the same lines of the cache."""


@njit(inline="always")
def margin(count):
    """How far beyond its outer voxels' centres an axis is read: not at all, but a single voxel is read to its faces."""
    return 0.5 if count == 1 else 0.0


@njit(inline="always")
def share_inside(position, rate, count):
    """How much of a ray's way from half a slice before to half a slice behind lies between the outer centres of count voxels.

    rate: voxels the ray moves along this axis from slice to slice. Where it enters or leaves through a side, that is a part.
    """
    room = min(position + margin(count), count - 1 + margin(count) - position)
    if rate == 0.0:
        return 1.0 if room >= 0 else 0.0
    return min(max(0.5 + room / abs(rate), 0.0), 1.0) if room >= -0.5 else 0.0


@njit(inline="always")
def clip(index, count):
    """The nearest index that exists."""
    return min(max(index, 0), count - 1)


@njit(inline="always")
def columns_within(start, step, low, high, columns):
    """Columns whose position start + step * column lies in low..high: (first, one past the last)."""
    if step == 0.0:
        return (0, columns) if low <= start <= high else (0, 0)
    a, b = (low - start) / step, (high - start) / step
    low, high = min(a, b), max(a, b)
    if high < 0 or low > columns - 1:
        return 0, 0
    return max(0, math.ceil(low - 1e-9)), min(columns, math.floor(high + 1e-9) + 1)


@njit(inline="always")
def _thin_edges(weights, taps, left, right, start, step, rate_low, rate_high, count):
    """Weigh the rays at both ends of left..right - 1 by their share inside."""
    backward = 1 if step > 0 else -1
    for end in range(2):
        ray, ahead = (left, 1) if end == 0 else (right - 1, -1)
        rate = rate_low if ahead == backward else rate_high
        while left <= ray < right:
            share = share_inside(start + step * ray, rate, count)
            if share >= 1:
                break
            for tap in range(taps):
                weights[tap, ray] *= share
            ray += ahead


@njit(fastmath=True, cache=True)
def _clamp(voxels, count, low, high, zero, level):
    """level[1 + i] = clip(voxels[i], low, high) - zero; the ends repeat, so that what is read of them has a neighbour."""
    for i in range(count):
        level[i + 1] = min(max(np.float32(voxels[i]), low), high) - zero
    level[0] = level[1]
    level[count + 1] = level[count]


@njit(cache=True)
def _turn(plane, first, count, out):
    """out[j, i] = plane[i, first + j] for count columns, in small tiles that stay in the nearest cache."""
    length, whole = plane.shape[0], count - count % 4
    for begin in range(0, length, 16):
        for j in range(0, whole, 4):
            for i in range(begin, min(begin + 16, length)):
                out[j, i] = plane[i, first + j]
                out[j + 1, i] = plane[i, first + j + 1]
                out[j + 2, i] = plane[i, first + j + 2]
                out[j + 3, i] = plane[i, first + j + 3]
    for j in range(whole, count):
        for i in range(length):
            out[j, i] = plane[i, first + j]


@njit(fastmath=True, cache=True)
def _blend(total, lines, one, two, weight_one, weight_two):
    """Add TILE slices to a row of rays, each the blend of two of its lines [slice, line, ray]."""
    a, b, c, d = lines[0, one[0]], lines[0, two[0]], lines[1, one[1]], lines[1, two[1]]
    e, f, g, h = lines[2, one[2]], lines[2, two[2]], lines[3, one[3]], lines[3, two[3]]
    wa, wb, wc, wd = weight_one[0], weight_two[0], weight_one[1], weight_two[1]
    we, wf, wg, wh = weight_one[2], weight_two[2], weight_one[3], weight_two[3]
    for p in range(total.size):
        total[p] += wa * a[p] + wb * b[p] + wc * c[p] + wd * d[p] + we * e[p] + wf * f[p] + wg * g[p] + wh * h[p]


@njit(fastmath=True, cache=True)
def _clear_beside(lines, left, right):
    """Zero the rays before left and from right on."""
    for i in range(lines.shape[0]):
        for p in range(left):
            lines[i, p] = 0
        for p in range(right, lines.shape[1]):
            lines[i, p] = 0


@njit(cache=True, fastmath=True, nogil=True)
def _sum_band(values, march, source, per_slice, first, pitch, ramps, begin, total, lines, level, nearby, offset, weights, turned):
    """Sum the rows begin.. of rays into total float32 [ramp, row, ray], zero before; the other arrays are room to work in."""
    row_axis, column_axis = 1 if march == 0 else 0, 1 if march == 2 else 2
    slices, row_count, across = values.shape[march], values.shape[row_axis], values.shape[column_axis]
    kinds, rows, columns = total.shape
    to_first, to_last = (
        first[0] + begin * pitch[0] - source[row_axis],
        first[0] + (begin + rows - 1) * pitch[0] - source[row_axis],
    )
    nothing, lowest = lines.shape[2] - 1, 0
    one, two, base = np.zeros(TILE, np.int64), np.zeros(TILE, np.int64), np.zeros(TILE, np.int64)
    weight_one, weight_two, depths = np.zeros(TILE, np.float32), np.zeros(TILE, np.float32), np.zeros(TILE, np.float64)
    share = np.ones(TILE, np.float32)
    for tile in range(0, slices, TILE):
        if march == 2 and tile % SHEET == 0:
            last = min(tile + SHEET, slices) - 1
            near, far = (tile - source[march]) * per_slice, (last - source[march]) * per_slice
            low = min(near * to_first, near * to_last, far * to_first, far * to_last)
            high = max(near * to_first, near * to_last, far * to_first, far * to_last)
            lowest = clip(math.floor(source[row_axis] + low), row_count)
            for r in range(lowest, clip(math.floor(source[row_axis] + high) + 1, row_count) + 1):
                _turn(values[r], tile, last + 1 - tile, turned[r - lowest])
        for j in range(TILE):
            k = tile + j
            depths[j] = (k - source[march]) * per_slice if k < slices else 0.0
            share[j] = 0.5 if slices > 1 and (k == 0 or k == slices - 1) else 1.0  # a ray starts and ends in their midst
            if depths[j] <= 0:
                continue
            way = k - source[march]
            low, high = source[row_axis] + depths[j] * to_first, source[row_axis] + depths[j] * to_last
            low, high = min(low, high), max(low, high)
            start = source[column_axis] + depths[j] * (first[1] - source[column_axis])
            edge = margin(across)
            rate_low, rate_high = (-edge - source[column_axis]) / way, (across - 1 + edge - source[column_axis]) / way
            lowest_at, highest_at = -edge - min(0.5, abs(rate_low) / 2), across - 1 + edge + min(0.5, abs(rate_high) / 2)
            left, right = columns_within(start, depths[j] * pitch[1], lowest_at, highest_at, columns)
            if high < -0.5 or low > row_count - 0.5 or right <= left:
                depths[j] = 0
                continue
            taps = lay_weights(start + 1, depths[j] * pitch[1], left, right, nearby, offset, weights)
            _thin_edges(weights, taps, left, right, start, depths[j] * pitch[1], rate_low, rate_high, across)
            left, right = left // LANES, (right + LANES - 1) // LANES
            base[j], end = clip(math.floor(low), row_count), clip(math.floor(high) + 1, row_count) + 1
            for m in range(kinds):
                for group in range(base[j], end, LINES):
                    for r in range(group, min(group + LINES, end)):
                        row = values[r, k] if march == 1 else values[k, r] if march == 0 else turned[r - lowest, k % SHEET]
                        _clamp(row, across, ramps[m, 0], ramps[m, 1], ramps[m, 2], level[r - group])
                    into = lines[m, j, group - base[j] : group - base[j] + LINES]
                    _clear_beside(into, left * LANES, right * LANES)
                    for block in range(left, right):
                        interpolate_block(level, nearby[block], weights, taps, into, block * LANES)
        for q in range(rows):
            hit = False
            for j in range(TILE):
                rate = per_slice * (first[0] + (begin + q) * pitch[0] - source[row_axis])
                at = source[row_axis] + (depths[j] / per_slice) * rate
                weight = share[j] * share_inside(at, rate, row_count) if depths[j] > 0 else 0.0
                crossed = weight > 0
                lower = math.floor(at)
                one[j] = clip(lower, row_count) - base[j] if crossed else nothing
                two[j] = clip(lower + 1, row_count) - base[j] if crossed else nothing
                weight_two[j] = (at - lower) * weight if crossed else 0.0
                weight_one[j] = weight - weight_two[j] if crossed else 0.0
                hit |= crossed
            if hit:
                for m in range(kinds):
                    _blend(total[m, q], lines[m], one, two, weight_one, weight_two)


def gather(
    values: np.ndarray,
    march: int,
    source: np.ndarray,
    plane: float,
    first: tuple[float, float],
    pitch: tuple[float, float],
    ramps: np.ndarray,
    out: np.ndarray,
) -> None:
    """Sum the interpolated values of all slices for every virtual detector pixel; the geometry is that of a Traversal.

    values: int16 or float32 [z, y, x]; ramps: float32 [m, 3] of (low, high, zero): values count as clip(value, low, high) - zero;
    out: float32 [m, row, column], overwritten.
    """
    row_axis, across = 1 if march == 0 else 0, values.shape[1 if march == 2 else 2]
    kinds, rows, columns = out.shape
    per_slice = 1 / (plane - float(source[march]))
    deepest = max(-float(source[march]) * per_slice, (values.shape[march] - 1 - float(source[march])) * per_slice)
    most_lines = int(deepest * abs(pitch[0]) * (BAND - 1)) + 4
    farthest = max(abs(first[0] - source[row_axis]), abs(first[0] + (rows - 1) * pitch[0] - source[row_axis]))
    sheet = (most_lines + int(SHEET * abs(per_slice) * farthest) + 2, SHEET, across + PADDING) if march == 2 else (0, SHEET, 1)
    wide, taps = -(-columns // LANES) * LANES, most_taps(deepest * pitch[1])

    def sum_band(begin: int, end: int) -> None:
        total = np.zeros((kinds, end - begin, wide), np.float32)
        lines = np.zeros((kinds, TILE, most_lines + LINES + 1, wide), np.float32)
        level = np.zeros((LINES, across + taps + 2), np.float32)
        nearby, offset, weights = (
            np.zeros(wide // LANES, np.int64),
            np.zeros(wide, np.float32),
            np.zeros((taps, wide), np.float32),
        )
        room = (total, lines, level, nearby, offset, weights, np.empty(sheet, values.dtype))
        _sum_band(values, march, source, per_slice, first, pitch, ramps, begin, *room)
        out[:, begin:end] = total[:, :, :columns]

    in_stretches(sum_band, rows, BAND)
