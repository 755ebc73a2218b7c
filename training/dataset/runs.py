"""Compiled loops over run-length codes (COCO's compressed text): what a mask is like, without unpacking it into pixels.

Pixels are counted column by column, as COCO does: with `rows` rows, pixel (row, column) is number column * rows + row.
"""

from __future__ import annotations

import numpy as np
from numba import njit

TOP, BOTTOM, LEFT, RIGHT = 1, 2, 4, 8
"""Bits that say which borders of the picture a mask touches."""


@njit(cache=True)
def read_runs(text, pixels, rows, runs):
    """Runs of set pixels of COCO's text (uint8) as rows (column, first row, last row + 1) of int32 `runs`, split at column ends.

    Returns their number, -1 where the code is damaged, -2 where `runs` is too short.
    """
    count = value = shift = position = 0
    last = before = 0
    found = 0
    for character in text:
        bits = int(character) - 48
        if bits < 0 or bits > 63 or shift > 50:
            return -1
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        if count > 2:
            value += before
        if value < 0 or position + value > pixels:
            return -1
        if count % 2 == 1:
            start, stop = position, position + value
            while start < stop:
                column = start // rows
                end = min(stop, (column + 1) * rows)
                if found == runs.shape[0]:
                    return -2
                runs[found, 0], runs[found, 1], runs[found, 2] = column, start - column * rows, end - column * rows
                found += 1
                start = end
        position += value
        before, last = last, value
        count += 1
        value = shift = 0
    return -1 if shift or position != pixels else found


@njit(cache=True)
def outline(runs, rows, columns):
    """Area [px], centroid (row, column) and its covariance (rows, columns, both) in shares of the picture, and border bits."""
    area = 0
    r1 = c1 = r2 = c2 = rc = 0.0
    border = 0
    for i in range(runs.shape[0]):
        column, first, stop = runs[i, 0], runs[i, 1], runs[i, 2]
        n = stop - first
        area += n
        middle = (first + stop) / 2  # of pixels' edges, so the centre of pixel 0 is at 0.5
        r1 += n * middle
        r2 += n * (middle * middle + n * n / 12)
        c1 += n * (column + 0.5)
        c2 += n * ((column + 0.5) * (column + 0.5) + 1 / 12)
        rc += n * middle * (column + 0.5)
        if first == 0:
            border |= TOP
        if stop == rows:
            border |= BOTTOM
        if column == 0:
            border |= LEFT
        if column == columns - 1:
            border |= RIGHT
    if area == 0:
        return area, 0.0, 0.0, 0.0, 0.0, 0.0, border
    r1, c1 = r1 / area, c1 / area
    rows_variance, columns_variance, both = r2 / area - r1 * r1, c2 / area - c1 * c1, rc / area - r1 * c1
    return (
        area,
        r1 / rows,
        c1 / columns,
        rows_variance / rows**2,
        columns_variance / columns**2,
        both / (rows * columns),
        border,
    )


@njit(cache=True)
def extent(runs):
    """First row, last row + 1, first column, last column + 1 of a mask that is not empty."""
    return runs[:, 1].min(), runs[:, 2].max(), runs[:, 0].min(), runs[:, 0].max() + 1


@njit(cache=True)
def coarse(runs, rows, columns, cells):
    """The mask on a grid of cells x cells over the picture: share of each that it covers, uint8 [row, column], 255 for all."""
    covered = np.zeros((cells, cells), np.float64)
    for i in range(runs.shape[0]):
        column = runs[i, 0] * cells // columns
        position = runs[i, 1]
        while position < runs[i, 2]:
            row = position * cells // rows
            until = min(runs[i, 2], -((-(row + 1) * rows) // cells))
            covered[row, column] += until - position
            position = until
    out = np.zeros((cells, cells), np.uint8)
    for row in range(cells):
        tall = -((-(row + 1) * rows) // cells) + (-row * rows) // cells
        for column in range(cells):
            wide = -((-(column + 1) * columns) // cells) + (-column * columns) // cells
            if tall * wide > 0:
                out[row, column] = np.ceil(255 * covered[row, column] / (tall * wide))
    return out


@njit(cache=True)
def _root(parents, i):
    while parents[i] != i:
        parents[i] = parents[parents[i]]
        i = parents[i]
    return i


@njit(cache=True)
def pieces(runs, area, speck):
    """Number of pieces (joined by edges or corners) that hold at least the share `speck` of the mask's area."""
    count = runs.shape[0]
    parents = np.arange(count)
    earlier, start = 0, 0
    while start < count:
        stop = start
        while stop < count and runs[stop, 0] == runs[start, 0]:
            stop += 1
        if earlier < start and runs[earlier, 0] == runs[start, 0] - 1:
            i, j = earlier, start
            while i < start and j < stop:
                if runs[i, 1] <= runs[j, 2] and runs[j, 1] <= runs[i, 2]:
                    parents[_root(parents, i)] = _root(parents, j)
                if runs[i, 2] < runs[j, 2]:
                    i += 1
                else:
                    j += 1
        earlier, start = start, stop
    areas = np.zeros(count, np.int64)
    for i in range(count):
        areas[_root(parents, i)] += runs[i, 2] - runs[i, 1]
    return int((areas >= max(speck * area, 1)).sum())


@njit(cache=True)
def _mean_under(runs, totals, rows, columns, down, right):
    """Mean of a picture under the mask moved by whole pixels; NaN where nothing of it is left in the picture."""
    total, count = 0.0, 0
    for i in range(runs.shape[0]):
        column = runs[i, 0] + right
        first, stop = max(0, runs[i, 1] + down), min(rows, runs[i, 2] + down)
        if 0 <= column < columns and first < stop:
            total += totals[column * rows + stop] - totals[column * rows + first]
            count += stop - first
    return total / count if count else np.nan


@njit(cache=True)
def _column_starts(runs, columns):
    """Number of the first run of each column, and the number of runs."""
    starts = np.zeros(columns + 1, np.int64)
    for i in range(runs.shape[0]):
        starts[runs[i, 0] + 1] += 1
    return np.cumsum(starts)


@njit(cache=True)
def _side_steps(runs, starts, totals, rows, columns, near, side):
    """Mean step from outside to inside over the left (side -1) or right (+1) edges, by picture; see look_under."""
    steps, count = np.zeros(totals.shape[0]), 0
    for i in range(runs.shape[0]):
        column, position, stop = runs[i, 0], runs[i, 1], runs[i, 2]
        inner, outer = (column - side * (near - 1)) * rows, (column + side * near) * rows
        if min(inner, outer) < 0 or max(inner, outer) >= columns * rows:
            continue
        beside = column + side
        k, end = starts[beside], starts[beside + 1]
        while position < stop:
            while k < end and runs[k, 2] <= position:
                k += 1
            until = min(stop, runs[k, 1]) if k < end else stop
            if until > position:
                for p in range(totals.shape[0]):
                    steps[p] += totals[p, inner + until] - totals[p, inner + position]
                    steps[p] -= totals[p, outer + until] - totals[p, outer + position]
                count += until - position
            position = max(until, runs[k, 2]) if k < end else stop
    return steps / count if count else np.full(totals.shape[0], np.nan)


@njit(cache=True)
def look_under(runs, totals, rows, columns, far, near):
    """Nine numbers on each of several pictures under a mask: float64 [picture, 9].

    Its mean, how much that changes when the mask moves up, down, left and right by `far` pixels, and the mean step from outside
    to inside over its upper, lower, left and right edges, `near` pixels to either side. totals: running sums of the pictures,
    column by column, float64 [picture, pixels + 1]. NaN stands where there is nothing to look at.
    """
    out = np.full((totals.shape[0], 9), np.nan)
    for p in range(totals.shape[0]):
        out[p, 0] = _mean_under(runs, totals[p], rows, columns, 0, 0)
        out[p, 1] = _mean_under(runs, totals[p], rows, columns, -far, 0) - out[p, 0]
        out[p, 2] = _mean_under(runs, totals[p], rows, columns, far, 0) - out[p, 0]
        out[p, 3] = _mean_under(runs, totals[p], rows, columns, 0, -far) - out[p, 0]
        out[p, 4] = _mean_under(runs, totals[p], rows, columns, 0, far) - out[p, 0]
        upper = lower = 0.0
        uppers = lowers = 0
        for i in range(runs.shape[0]):
            base, first, stop = runs[i, 0] * rows, runs[i, 1], runs[i, 2]
            if first >= near and first + near <= rows:
                inner, outer = base + first + near - 1, base + first - near
                upper += totals[p, inner + 1] - totals[p, inner] - totals[p, outer + 1] + totals[p, outer]
                uppers += 1
            if stop + near <= rows and stop >= near:
                inner, outer = base + stop - near, base + stop + near - 1
                lower += totals[p, inner + 1] - totals[p, inner] - totals[p, outer + 1] + totals[p, outer]
                lowers += 1
        if uppers:
            out[p, 5] = upper / uppers
        if lowers:
            out[p, 6] = lower / lowers
    starts = _column_starts(runs, columns)
    out[:, 7] = _side_steps(runs, starts, totals, rows, columns, near, -1)
    out[:, 8] = _side_steps(runs, starts, totals, rows, columns, near, 1)
    return out


@njit(cache=True)
def paint(runs, rows, canvas, value):
    """Set the mask's pixels of the flat uint8 canvas to a value."""
    for i in range(runs.shape[0]):
        start = runs[i, 0] * rows
        for pixel in range(start + runs[i, 1], start + runs[i, 2]):
            canvas[pixel] = value


@njit(cache=True)
def count_value(runs, rows, canvas, value):
    """Number of the mask's pixels at which the canvas holds a value."""
    found = 0
    for i in range(runs.shape[0]):
        start = runs[i, 0] * rows
        for pixel in range(start + runs[i, 1], start + runs[i, 2]):
            found += canvas[pixel] == value
    return found
