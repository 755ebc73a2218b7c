"""Wide Gaussian blur, fast: block means weighted by two small matrices."""

from __future__ import annotations

import numpy as np


def wide_blur(image: np.ndarray, sigma: tuple[float, float], dark_outside: bool = False) -> np.ndarray:
    """Return float32 [row, column]: image under a Gaussian of sigma (rows, columns) [pixels].

    Beyond the borders lies what is near them, or nothing (dark_outside).
    """
    strides = tuple(max(1, int(s / 3)) for s in sigma)
    rows, columns = (_weights(n, s, step, dark_outside) for n, s, step in zip(image.shape, sigma, strides, strict=True))
    return rows @ block_means(image, strides) @ columns.T


def block_means(image: np.ndarray, strides: tuple[int, ...]) -> np.ndarray:
    """Return float32 [block, block]: means of blocks of strides (rows, columns) pixels; the last ones repeat the border."""
    if max(strides) == 1:
        return image
    rest = [-n % step for n, step in zip(image.shape, strides, strict=True)]
    whole = np.pad(image, [(0, r) for r in rest], mode="edge") if any(rest) else image
    blocks = whole.reshape(whole.shape[0] // strides[0], strides[0], whole.shape[1] // strides[1], strides[1])
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def _weights(count: int, sigma: float, stride: int, dark_outside: bool) -> np.ndarray:
    """Float32 [pixel, block]: Gaussian weights of the blocks, narrower by what the block means have blurred already."""
    blocks = np.arange(-(-count // stride)) * stride + (stride - 1) / 2
    variance = max(sigma**2 - (stride**2 - 1) / 12, 1e-6)
    weights = np.exp(-((np.arange(count)[:, None] - blocks) ** 2) / (2 * variance))
    weights /= np.sqrt(2 * np.pi * variance) / stride if dark_outside else weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)
