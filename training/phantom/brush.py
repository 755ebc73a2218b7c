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


@njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _ease(position, step):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the knot before a voxel and the smooth weight of the next."""
    at = position / step
    low = int(at)
    part = at - low
    return low, part * part * (3 - 2 * part)


@njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def swell(knots, step, noise):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Fill noise [z, y, x] with knots [k, j, i], `step` voxels apart, joined smoothly."""
    depth, height, width = noise.shape
    row = np.empty(knots.shape[2], np.float32)
    for z in range(depth):
        k, w = _ease(np.float32(z), step)
        for y in range(height):
            j, v = _ease(np.float32(y), step)
            for i in range(knots.shape[2]):
                near = knots[k, j, i] * (1 - v) + knots[k, j + 1, i] * v
                far = knots[k + 1, j, i] * (1 - v) + knots[k + 1, j + 1, i] * v
                row[i] = near * (1 - w) + far * w
            for x in range(width):
                i, u = _ease(np.float32(x), step)
                noise[z, y, x] = row[i] * (1 - u) + row[i + 1] * u


@njit(cache=True)  # type: ignore[untyped-decorator]
def flesh(fascia, marbling, muscle, fat):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Turn smooth noise [z, y, x] into muscle [HU] with a second noise as marbling and sheets of fat where it is near zero."""
    width = np.float32(0.07)
    for k in range(fascia.shape[0]):
        for j in range(fascia.shape[1]):
            for i in range(fascia.shape[2]):
                sheet = max(1 - abs(fascia[k, j, i]) / width, np.float32(0)) * np.float32(0.72)
                tissue = muscle + min(marbling[k, j, i], np.float32(8))
                fascia[k, j, i] = tissue + sheet * (fat - tissue)


@njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def depth(x, y, frame, roundness):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return float32 [z, y, x]: how deep points lie inside a superellipse of an exponent in every slice [mm].

    frame: middle x, middle y, left, right and front half-axis of every slice [5, z] in mm.
    """
    out = np.empty((frame.shape[1], len(y), len(x)), np.float32)
    for k in range(frame.shape[1]):
        for j in range(len(y)):
            ahead = y[j] - frame[1, k]
            along = (abs(ahead) / frame[4, k]) ** roundness
            for i in range(len(x)):
                across = x[i] - frame[0, k]
                half = frame[2, k] if across > 0 else frame[3, k]
                q = max((abs(across) / half) ** roundness + along, np.float32(1e-4)) ** (1 / roundness)
                out[k, j, i] = np.sqrt(across * across + ahead * ahead) * (1 / q - 1)
    return out
