"""Compiled reading of a response table."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, fastmath=True, parallel=True)
def look_up(
    table: np.ndarray, soft_step: float, bone_step: float, soft: np.ndarray, bone: np.ndarray, answer: np.ndarray
) -> None:
    """Fill answer [k, row, column] from table [k, i, j] at i = soft / soft_step, j = bone / bone_step, and straight between."""
    last_i, last_j = table.shape[1] - 2, table.shape[2] - 2
    for row in prange(soft.shape[0]):
        for column in range(soft.shape[1]):
            u, v = max(soft[row, column], 0) / soft_step, max(bone[row, column], 0) / bone_step
            i, j = min(int(u), last_i), min(int(v), last_j)
            u -= i
            v -= j
            for k in range(table.shape[0]):
                near = table[k, i, j] + v * (table[k, i, j + 1] - table[k, i, j])
                far = table[k, i + 1, j] + v * (table[k, i + 1, j + 1] - table[k, i + 1, j])
                answer[k, row, column] = near + u * (far - near)
