"""Gaussian blur of any width in a few milliseconds: block means, weighed by a band of neighbours."""

from __future__ import annotations

import math

import numpy as np

REACH = 3.5
"""Standard deviations after which a Gaussian is taken for zero."""


def gaussian_blur(image: np.ndarray, sigma: tuple[float, float], dark_outside: bool = False) -> np.ndarray:
    """Return float32 [row, column]: image under a Gaussian of sigma (rows, columns) [pixels].

    Beyond the borders lies what is near them, or nothing (dark_outside).
    """
    from training.drr import pointwise

    steps = (max(1, int(sigma[0] / 2)), max(1, int(sigma[1] / 2)))
    blocks = block_means(image, steps)
    (rows, row_weights), (columns, column_weights) = (
        _band(n, s, step, dark_outside) for n, s, step in zip(image.shape, sigma, steps, strict=True)
    )
    wide = np.empty((blocks.shape[0], image.shape[1]), np.float32)
    pointwise.weigh_columns(blocks, columns, column_weights, wide)
    answer = np.empty(image.shape, np.float32)
    pointwise.weigh_rows(wide, rows, row_weights, answer)
    return answer


def block_means(image: np.ndarray, steps: tuple[int, int]) -> np.ndarray:
    """Return float32 [block, block]: means of blocks of steps (rows, columns) pixels; the last ones may hold fewer."""
    from training.drr import pointwise

    if steps == (1, 1):
        return np.ascontiguousarray(image, np.float32)
    means = np.empty((-(-image.shape[0] // steps[0]), -(-image.shape[1] // steps[1])), np.float32)
    pointwise.block_means(np.ascontiguousarray(image, np.float32), *steps, means)
    return means


def _band(count: int, sigma: float, step: int, dark_outside: bool) -> tuple[np.ndarray, np.ndarray]:
    """Per pixel the first block and the weights of it and the next ones, int64 [pixel] and float32 [pixel, band].

    The Gaussian is narrower by what the block means have blurred already.
    """
    starts = np.arange(0, count, step)
    sizes = np.minimum(starts + step, count) - starts
    variance = max(sigma**2 - (step**2 - 1) / 12, 1e-6)
    whole = 2 * math.ceil(REACH * sigma / step) + 1
    wide = min(len(starts), whole)
    pixels = np.arange(count)
    first = np.clip(pixels // step - wide // 2, 0, len(starts) - wide)
    band = first[:, None] + np.arange(wide)
    weights = sizes[band] * np.exp(-((pixels[:, None] - (starts + (sizes - 1) / 2)[band]) ** 2) / (2 * variance))
    if dark_outside:
        endless = np.arange(-whole, whole + 1) * step + (step - 1) / 2
        weights /= step * np.exp(-(((pixels % step)[:, None] - endless) ** 2) / (2 * variance)).sum(axis=1, keepdims=True)
    else:
        weights /= weights.sum(axis=1, keepdims=True)
    return first, weights.astype(np.float32)
