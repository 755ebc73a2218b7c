"""Compiled strokes of the canvas: soft-edged paint on attenuation and labels, and the CT's grain."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)  # type: ignore[untyped-decorator]
def lay(values, ids, distance, hu, spacing, number, allowed):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Blend one attenuation [HU] into values [z, y, x] where distance [mm] is negative, and set ids unless number is 0.

    A voxel is covered in part while the surface passes through it; allowed: bool per id that may be painted over.
    """
    for k in range(values.shape[0]):
        for j in range(values.shape[1]):
            for i in range(values.shape[2]):
                cover = min(np.float32(0.5) - distance[k, j, i] / np.float32(spacing), np.float32(1.0))
                if cover > 0 and allowed[ids[k, j, i]]:
                    values[k, j, i] += cover * (hu - values[k, j, i])
                    if number > 0 and cover >= 0.5:
                        ids[k, j, i] = number


@njit(cache=True)  # type: ignore[untyped-decorator]
def lay_field(values, ids, distance, hu, spacing, number, allowed):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Do as lay with an attenuation of its own for every voxel: hu [z, y, x]."""
    for k in range(values.shape[0]):
        for j in range(values.shape[1]):
            for i in range(values.shape[2]):
                cover = min(np.float32(0.5) - distance[k, j, i] / np.float32(spacing), np.float32(1.0))
                if cover > 0 and allowed[ids[k, j, i]]:
                    values[k, j, i] += cover * (hu[k, j, i] - values[k, j, i])
                    if number > 0 and cover >= 0.5:
                        ids[k, j, i] = number


@njit(cache=True)  # type: ignore[untyped-decorator]
def develop(values, ids, grain, amplitude, air):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return int16 [z, y, x]: values with noise correlated between neighbours as a CT's kernel leaves it, air outside the body.

    grain: white noise one voxel longer on each axis; amplitude [HU] of a sum of eight of its values.
    """
    out = np.empty(values.shape, np.int16)
    for k in range(values.shape[0]):
        for j in range(values.shape[1]):
            for i in range(values.shape[2]):
                if ids[k, j, i] == 0:
                    out[k, j, i] = air
                    continue
                noise = np.float32(0.0)
                for a in range(2):
                    for b in range(2):
                        noise += grain[k + a, j + b, i] + grain[k + a, j + b, i + 1]
                out[k, j, i] = np.int16(min(max(values[k, j, i] + amplitude * noise, np.float32(-1024)), np.float32(3071)))
    return out
