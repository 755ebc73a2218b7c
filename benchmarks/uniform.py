"""How long every ray's way through a uniform volume is, by each projector, and exactly: `python -m benchmarks.uniform`.

The volume ends at the centres of its outer voxels, as the slice-wise projectors (ours, RTK) mean it. What is printed is the
root mean square error relative to that of the exact lengths [%], and the worst ray's error [mm].
"""

from __future__ import annotations

import numpy as np

from benchmarks.convergence import MIDDLE, rays
from benchmarks.drr.engines import ENGINES
from benchmarks.drr.report import table
from training.drr import Geometry
from training.images.types import CT

SHAPES = {"9 slices of 2.5 mm": (9, 512, 512), "133 slices of 2.5 mm": (133, 512, 512)}
SPACING = (0.7, 0.7, 2.5)
VIEWS = {"PA": (0, 0, 0), "cranial 10": (90, 10, 0), "LAO 25, cranial 12": (25, 12, 8), "RAO 40, caudal 15": (-40, -15, 5),
         "LAO 45, cranial 30": (45, 30, 20)}  # fmt: skip
VALUE = 1000


def way(geometry: Geometry, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Length of every ray within a box (corners x, y, z) [mm], float64 [row, column]."""
    from_middle, directions = rays(geometry)
    source = from_middle + MIDDLE
    with np.errstate(divide="ignore"):
        a, b = (low - source) / directions, (high - source) / directions
    length: np.ndarray = np.maximum(0, np.maximum(a, b).min(axis=-1) - np.minimum(a, b).max(axis=-1))
    return length


def main() -> None:
    """Print a row per volume and view."""
    engines = {}
    for name in ("ours", "RTK"):
        try:
            engines[name] = ENGINES[name]()
        except (ImportError, OSError):
            print(f"{name} is not installed")
    rows = []
    for what, shape in SHAPES.items():
        size = np.array(shape[::-1])
        origin = tuple((-(size - 1) / 2 * SPACING).tolist())
        ct = CT(np.full(shape, VALUE, np.int16), SPACING, origin)
        low, high = np.array(origin), np.array(origin) + (size - 1) * SPACING
        for engine in engines.values():
            engine.prepare(ct)
        for view, (primary, secondary, roll) in VIEWS.items():
            geometry = Geometry.view(ct, primary, secondary, roll=roll, rows=512, columns=512)
            exact = way(geometry, low, high)
            errors = [engine.project(geometry).picture / VALUE - exact for engine in engines.values()]
            relative = (100 * np.sqrt(np.mean(e**2) / np.mean(exact**2)) for e in errors)
            rows.append([what, view, *(f"{r:.2f} ({np.abs(e).max():.1f})" for r, e in zip(relative, errors, strict=True))])
    print(table(["volume", "view", *(f"{name} [%] (worst [mm])" for name in engines)], rows))


if __name__ == "__main__":
    main()
