"""Compiled writer of COCO's compressed run-length code."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def _emit(value, text, at):  # type: ignore[no-untyped-def]
    """Write a whole number in COCO's 5 bits a character; return where the next one goes."""
    while True:
        bits = value & 0x1F
        value >>= 5
        more = value != -1 if bits & 0x10 else value != 0
        text[at] = (bits | 0x20 if more else bits) + 48
        at += 1
        if not more:
            return at


@njit(cache=True)
def _encode(mask, top, bottom, left, right, text):  # type: ignore[no-untyped-def]
    """Write the runs of a mask [row, column] of 0 and 1, column by column, of which only the given box is not empty."""
    rows, columns = mask.shape
    run = rows * left + top
    before_last, last = 0, 0
    at, count, value = 0, 0, 0
    for c in range(left, right):
        for r in range(top, bottom):
            if mask[r, c] != value:
                at = _emit(run - (before_last if count > 2 else 0), text, at)
                before_last, last = last, run
                count += 1
                run = 0
                value = 1 - value
            run += 1
        if c + 1 < right and bottom - top < rows:
            if value == 1:
                at = _emit(run - (before_last if count > 2 else 0), text, at)
                before_last, last = last, run
                count += 1
                run = 0
                value = 0
            run += rows - bottom + top
    rest = rows * (columns - right) + rows - bottom
    if value == 1:
        at = _emit(run - (before_last if count > 2 else 0), text, at)
        before_last, last = last, run
        count += 1
        run = 0
    if run + rest > 0:
        at = _emit(run + rest - (before_last if count > 2 else 0), text, at)
    return at


def encode(mask: np.ndarray) -> str:
    """Return COCO's compressed text of a bool mask [row, column]: run lengths, the first of the background, down the columns."""
    values = np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    rows, columns = (np.flatnonzero(values.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        box = (0, values.shape[0], 0, 0)
    else:
        box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    text = np.empty(7 * (values.size + 2), dtype=np.uint8)
    return text[: _encode(values, *box, text)].tobytes().decode("ascii")
