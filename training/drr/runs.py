"""Label maps as runs: stretches of one label along a voxel row.

A label map has some millions of runs where it has a hundred million voxels, and a whole run falls onto the detector at once.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
from numba import njit

from training.images.types import LabelMap
from training.threads import in_stretches

PLANES = 16
"""Planes that one thread works on at a time."""
CHUNK = 16
"""Voxels compared at once when looking for the end of a run."""


@dataclass(frozen=True)
class Runs:
    """All runs of a label map along x (axis 2) or y (axis 1), the lines of a plane z being its rows (y) or columns (x).

    offsets: int64 [z * lines + line + 1] first run of every line; begin, end: int32 [run], voxels begin..end - 1; ids: [run].
    """

    axis: int
    lines: int
    offsets: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    ids: np.ndarray


_known: dict[tuple[int, int], Runs] = {}


def runs_of(labels: LabelMap, axis: int) -> Runs:
    """Return the runs of a label map along axis 1 or 2; found once and kept as long as the label map: its ids must not change."""
    key = (id(labels), axis)
    if key not in _known:
        _known[key] = find_runs(labels.ids, axis)
        weakref.finalize(labels, _known.pop, key, None)
    return _known[key]


def find_runs(ids: np.ndarray, axis: int) -> Runs:
    """Find the runs of ids, unsigned [z, y, x], along axis 1 (y) or 2 (x); voxels of id 0 belong to none."""
    ids = np.ascontiguousarray(ids)
    lines = ids.shape[2 if axis == 1 else 1]
    offsets = np.zeros(ids.shape[0] * lines + 1, np.int64)
    nothing, no_ids = np.empty(0, np.int32), np.empty(0, ids.dtype)
    in_stretches(lambda z, stop: _scan(ids, axis, offsets, nothing, nothing, no_ids, True, z, stop), len(ids), PLANES)
    np.cumsum(offsets, out=offsets)
    total = int(offsets[-1])
    begin, end, found = np.empty(total, np.int32), np.empty(total, np.int32), np.empty(total, ids.dtype)
    in_stretches(lambda z, stop: _scan(ids, axis, offsets, begin, end, found, False, z, stop), len(ids), PLANES)
    return Runs(axis, lines, offsets, begin, end, found)


@njit(cache=True, nogil=True)
def _scan(ids, axis, offsets, begin, end, found, count_only, first, last):
    """Count the runs of every line of the planes first..last - 1 into offsets[line + 1], or write them from offsets[line] on."""
    lines = ids.shape[2] if axis == 1 else ids.shape[1]
    for z in range(first, last):
        plane = ids[z].T.copy() if axis == 1 else ids[z]
        for line in range(lines):
            row = plane[line]
            at = offsets[z * lines + line]
            count = 0
            x = 0
            while x < row.size:
                id_ = row[x]
                stop = _end_of_run(row, x)
                if id_ != 0:
                    if not count_only:
                        begin[at + count], end[at + count], found[at + count] = x, stop, id_
                    count += 1
                x = stop
            if count_only:
                offsets[z * lines + line + 1] = count


@njit(inline="always")
def _end_of_run(row, x):
    """One past the last voxel that continues the run at x."""
    id_ = row[x]
    x += 1
    while x + CHUNK <= row.size:
        other = id_ ^ id_
        for i in range(CHUNK):
            other |= row[x + i] ^ id_
        if other != 0:
            break
        x += CHUNK
    while x < row.size and row[x] == id_:
        x += 1
    return x
