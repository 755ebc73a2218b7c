"""What one ray passes on its way to a pixel: the structures with their thickness, and how much water would weaken it as much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from training.anatomy import resolve
from training.drr import Geometry, label_thickness, tissue_paths
from training.images.types import CT, LabelMap

LEAST = 0.05
"""Thinner than this is a ray that only touches a voxel [mm]."""
HU_PER_WATER = 1000.0


@dataclass(frozen=True)
class Ray:
    """One ray: the pixel (row, column) it meets, water-equivalent path [mm], and (structure, thickness [mm]), thickest first."""

    row: float
    column: float
    water: float
    crossings: tuple[tuple[str, float], ...]


def ray_at(ct: CT, labels: LabelMap | None, geometry: Geometry, row: float, column: float, besides: Iterable[str] = ()) -> Ray:
    """Follow the ray of one pixel through the CT and through the label map's own structures, and `besides` (composites).

    Raises ImpossibleGeometry as `render` does.
    """
    ray = geometry.through(row, column)
    water = float(tissue_paths(ct, ray)[:, 0, 0].sum()) / HU_PER_WATER
    if labels is None:
        return Ray(row, column, water, ())
    available = resolve(labels.structures)
    wanted = [s for s in dict.fromkeys((*labels.structures, *besides)) if s in available]
    found = label_thickness(labels, ray, wanted)
    crossings = [(structure, float(np.mean(thickness))) for structure, thickness in found.items()]
    passed = sorted((c for c in crossings if c[1] >= LEAST), key=lambda crossing: -crossing[1])
    return Ray(row, column, water, tuple(passed))
