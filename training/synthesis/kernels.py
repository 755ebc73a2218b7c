"""Compiled resampling of a CT and its labels through one displacement."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

AIR = -1000


@njit(parallel=True, cache=True, fastmath=True)
def warp(hu, ids, shape, origin, grid, centre, inverse, field, field_start, field_step, low, spacing):
    """Return (int16, ids' type) [z, y, x] of the new body.

    A new point p (x, y, z) [mm] is looked up in the old one at centre + inverse (p + displacement(p) - centre); the displacement
    is interpolated linearly from field [z, y, x, 3]. Beside the old volume lies air without a label; above and below, where
    the scan ends and the body does not, its last slice goes on.
    """
    new_hu = np.empty(shape, np.int16)
    new_ids = np.zeros(shape, ids.dtype)
    nz, ny, nx = hu.shape
    fz, fy, fx = field.shape[0], field.shape[1], field.shape[2]
    for k in prange(shape[0]):
        z = origin[2] + k * grid
        gz = min(max((z - field_start[2]) / field_step[2], 0.0), fz - 1.001)
        k0 = int(gz)
        wz = gz - k0
        for j in range(shape[1]):
            y = origin[1] + j * grid
            gy = min(max((y - field_start[1]) / field_step[1], 0.0), fy - 1.001)
            j0 = int(gy)
            wy = gy - j0
            for i in range(shape[2]):
                x = origin[0] + i * grid
                gx = min(max((x - field_start[0]) / field_step[0], 0.0), fx - 1.001)
                i0 = int(gx)
                wx = gx - i0
                moved0, moved1, moved2 = x - centre[0], y - centre[1], z - centre[2]
                for a in range(2):
                    for b in range(2):
                        for c in range(2):
                            w = (wz if a else 1 - wz) * (wy if b else 1 - wy) * (wx if c else 1 - wx)
                            moved0 += w * field[k0 + a, j0 + b, i0 + c, 0]
                            moved1 += w * field[k0 + a, j0 + b, i0 + c, 1]
                            moved2 += w * field[k0 + a, j0 + b, i0 + c, 2]
                ox = centre[0] + inverse[0, 0] * moved0 + inverse[0, 1] * moved1 + inverse[0, 2] * moved2
                oy = centre[1] + inverse[1, 0] * moved0 + inverse[1, 1] * moved1 + inverse[1, 2] * moved2
                oz = centre[2] + inverse[2, 0] * moved0 + inverse[2, 1] * moved1 + inverse[2, 2] * moved2
                vx, vy, vz = (ox - low[0]) / spacing[0], (oy - low[1]) / spacing[1], (oz - low[2]) / spacing[2]
                vz = min(max(vz, 0.0), nz - 1.0)
                if vx < -0.5 or vy < -0.5 or vx > nx - 0.5 or vy > ny - 0.5:
                    new_hu[k, j, i] = AIR
                    continue
                x0, y0, z0 = math.floor(vx), math.floor(vy), math.floor(vz)
                total = 0.0
                for a in range(2):
                    for b in range(2):
                        for c in range(2):
                            w = (
                                (vz - z0 if a else 1 - vz + z0)
                                * (vy - y0 if b else 1 - vy + y0)
                                * (vx - x0 if c else 1 - vx + x0)
                            )
                            total += w * hu[min(max(z0 + a, 0), nz - 1), min(max(y0 + b, 0), ny - 1), min(max(x0 + c, 0), nx - 1)]
                new_hu[k, j, i] = np.int16(round(total))
                new_ids[k, j, i] = ids[
                    min(max(math.floor(vz + 0.5), 0), nz - 1),
                    min(max(math.floor(vy + 0.5), 0), ny - 1),
                    min(max(math.floor(vx + 0.5), 0), nx - 1),
                ]
    return new_hu, new_ids


@njit(cache=True)
def extents(ids, count):
    """Return int64 [id, 6]: first and last z, y, x of every id below count; the last is -1 where there is none of it."""
    box = np.empty((count, 6), np.int64)
    box[:, 0::2], box[:, 1::2] = 1 << 40, -1
    for k in range(ids.shape[0]):
        for j in range(ids.shape[1]):
            before = -1
            for i in range(ids.shape[2]):
                id_ = int(ids[k, j, i])
                if id_ == 0 or id_ >= count:
                    before = -1
                    continue
                if id_ != before:
                    box[id_, 0], box[id_, 1] = min(box[id_, 0], k), max(box[id_, 1], k)
                    box[id_, 2], box[id_, 3] = min(box[id_, 2], j), max(box[id_, 3], j)
                    box[id_, 4] = min(box[id_, 4], i)
                    before = id_
                box[id_, 5] = max(box[id_, 5], i)
    return box
