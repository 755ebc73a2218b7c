"""The clavicle as a shape: an S between two points, the same in procedural bodies and in those it is put into."""

from __future__ import annotations

import numpy as np

from training.phantom.shapes import Grid, Shape, curve, tube

CORTEX, MARROW = 1000.0, 190.0
"""Attenuation of a clavicle's cortex and of what lies inside, in bones of usual density [HU]."""


def middle_line(start: np.ndarray, end: np.ndarray, size: float, side: int, curved: float, arch: float) -> np.ndarray:
    """Return the middle line [12, 3] from the medial to the lateral end (x, y, z) [mm]: forward near the sternum, backward near
    the shoulder.

    size: of the body, 1 for the reference adult; side: 1 left, -1 right; curved: strength of the S, 1 in most; arch: how far the
    middle stands above the line between the ends [mm, reference adult].
    """
    way = end - start
    u = np.linspace(0, 1, 12)
    bulge = curved * size * (11 * np.sin(2 * np.pi * u**0.85) + 4 * np.sin(np.pi * u))
    line = start + u[:, None] * way
    flat = np.array([way[1], -way[0], 0]) * side
    line += bulge[:, None] * flat / np.linalg.norm(flat)
    line[:, 2] += arch * size * np.sin(np.pi * u)
    return np.asarray(line)


def bone(grid: Grid, line: np.ndarray, size: float) -> tuple[Shape, Shape]:
    """Return the bone along a middle line [n, 3] and the marrow inside of it."""
    line = curve(line, 50)
    t = np.linspace(0, 1, 50)
    tall = np.interp(t, [0, 0.12, 0.4, 0.75, 1], [11, 8, 6.6, 6.2, 5.6]) * size
    deep = np.interp(t, [0, 0.12, 0.4, 0.75, 1], [10, 7.8, 6.6, 8.6, 10]) * size
    cortex = np.interp(t, [0, 0.15, 0.4, 0.7, 1], [1.0, 1.8, 2.6, 2.4, 1.2]) * size  # thick where the shaft is thin
    up = (0, 0, 1.0)
    shape = tube(grid, line, np.stack([tall, deep], axis=1), up)
    return shape, tube(grid, line, np.stack([tall - cortex, deep - cortex], axis=1), up)
