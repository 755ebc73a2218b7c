"""Compiled work on whole pictures: reading a response table, weighing neighbours."""

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


@njit(cache=True, fastmath=True, parallel=True)
def block_means(image: np.ndarray, row_step: int, column_step: int, means: np.ndarray) -> None:
    """Fill means [block, block] with the means of row_step x column_step pixels; blocks at the end have fewer."""
    rows, columns = image.shape
    for i in prange(means.shape[0]):
        first, last = i * row_step, min((i + 1) * row_step, rows)
        for j in range(means.shape[1]):
            left, right = j * column_step, min((j + 1) * column_step, columns)
            total = np.float32(0)
            for row in range(first, last):
                for column in range(left, right):
                    total += image[row, column]
            means[i, j] = total / ((last - first) * (right - left))


@njit(cache=True, fastmath=True, parallel=True)
def weigh_rows(image: np.ndarray, first: np.ndarray, weights: np.ndarray, answer: np.ndarray) -> None:
    """Fill answer [i, column] with the sum over k of weights [i, k] x image [first [i] + k, column]."""
    for i in prange(answer.shape[0]):
        answer[i] = 0
        for k in range(weights.shape[1]):
            source, weight = image[first[i] + k], weights[i, k]
            for column in range(answer.shape[1]):
                answer[i, column] += weight * source[column]


@njit(cache=True, fastmath=True, parallel=True)
def weigh_columns(image: np.ndarray, first: np.ndarray, weights: np.ndarray, answer: np.ndarray) -> None:
    """Fill answer [row, j] with the sum over k of weights [j, k] x image [row, first [j] + k]."""
    for row in prange(answer.shape[0]):
        source = image[row]
        for j in range(answer.shape[1]):
            total = np.float32(0)
            for k in range(weights.shape[1]):
                total += weights[j, k] * source[first[j] + k]
            answer[row, j] = total
