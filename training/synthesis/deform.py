"""One body from another: affine habitus, diaphragm, heart size and smooth bending of CT and labels together, free of folds."""

from __future__ import annotations

import numpy as np

from training import anatomy
from training.images.types import CT, LabelMap
from training.synthesis.config import Variation

CONTROL = 16.0
"""Distance of the displacement's control points [mm]."""
SMALLEST_JACOBIAN = 0.25
"""Local volume factor below which a deformation is weakened: well away from folding."""


def deform(
    ct: CT, labels: LabelMap, rng: np.random.Generator, variation: Variation | None = None, grid: float = 2.0
) -> tuple[CT, LabelMap]:
    """Return another body on an isotropic grid of edge grid [mm], CT (linear) and labels (nearest) moved alike.

    The displacement is weakened until the determinant of its Jacobian stays above SMALLEST_JACOBIAN everywhere (no folds).
    """
    from training.synthesis import kernels

    variation = variation or Variation()
    scale = np.array([variation.scale.draw(rng) for _ in range(3)])
    low, size = np.asarray(ct.origin), np.asarray(ct.spacing) * (np.asarray(ct.hu.shape[::-1]) - 1)
    shape = np.maximum(2, np.ceil(size * scale / grid).astype(int) + 1)
    centre = low + size / 2
    points, field = _field(ct, labels, rng, variation, scale, centre, shape, grid)
    if rng.uniform() < variation.untouched:
        field = np.zeros_like(field)
    shear = np.eye(3)
    shear[0, 2], shear[0, 1], shear[1, 2] = (variation.shear.draw(rng) for _ in range(3))
    inverse = np.linalg.inv(shear @ np.diag(scale))
    weaker = field
    while _smallest_jacobian(weaker, points[1]) < SMALLEST_JACOBIAN:
        weaker = weaker * 0.8
    origin = centre - (shape - 1) * grid / 2
    hu, ids = kernels.warp(
        ct.hu,
        labels.ids,
        tuple(int(n) for n in shape[::-1]),
        origin,
        grid,
        centre,
        inverse,
        weaker,
        points[0],
        points[1],
        low,
        np.asarray(ct.spacing),
    )
    spacing, start = (grid, grid, grid), (float(origin[0]), float(origin[1]), float(origin[2]))
    return CT(hu, spacing, start, ct.name), LabelMap(ids, labels.members, spacing, start, labels.name)


def _field(
    ct: CT,
    labels: LabelMap,
    rng: np.random.Generator,
    variation: Variation,
    scale: np.ndarray,
    centre: np.ndarray,
    shape: np.ndarray,
    grid: float,
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Displacement float64 [z, y, x, 3] (x, y, z) [mm] from the new body to the old on control points (start, step) [mm]."""
    from scipy import ndimage

    extent = (shape - 1) * grid
    counts = np.maximum(4, np.ceil(extent / CONTROL).astype(int) + 1)
    start, step = centre - extent / 2, extent / (counts - 1)
    amplitude, reach = variation.bend.draw(rng), variation.reach.draw(rng)
    noise = rng.standard_normal((3, *counts[::-1]))
    smooth = np.stack([ndimage.gaussian_filter(n, reach / step[::-1] / 2, mode="nearest") for n in noise], axis=-1)
    smooth *= amplitude / max(1e-9, float(np.sqrt((smooth**2).sum(axis=-1)).max()))
    z, y, x = np.meshgrid(*(start[a] + step[a] * np.arange(counts[a]) for a in (2, 1, 0)), indexing="ij")
    inflation, heart = variation.inflation.draw(rng), variation.heart.draw(rng)
    lungs = bounds(labels, "lungs")
    if lungs is not None:
        base = centre[2] + (lungs[0][2] + 0.18 * (lungs[1][2] - lungs[0][2]) - centre[2]) * scale[2]
        width = 0.3 * (lungs[1][2] - lungs[0][2]) * scale[2]
        smooth[..., 2] += inflation * np.exp(-0.5 * ((z - base) / width) ** 2)
    cardiac = bounds(labels, "heart")
    if cardiac is not None:
        middle = centre + ((cardiac[0] + cardiac[1]) / 2 - centre) * scale
        radius = 0.5 * float(np.mean(cardiac[1] - cardiac[0]))
        offsets = np.stack([x, y, z], axis=-1) - middle
        near = np.exp(-0.5 * (offsets**2).sum(axis=-1) / (1.1 * radius) ** 2)
        smooth += (1 / heart - 1) * offsets * near[..., None]
    return (start, step), smooth


def _smallest_jacobian(field: np.ndarray, step: np.ndarray) -> float:
    """Smallest determinant of identity plus displacement gradient over the control points (the affine part cannot fold)."""
    gradients = np.stack([np.stack(np.gradient(field[..., c], *step[::-1]), axis=-1)[..., ::-1] for c in range(3)], axis=-2)
    return float(np.linalg.det(np.eye(3) + gradients).min())


def bounds(labels: LabelMap, structure: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Corners (x, y, z) of the box around a structure [mm, LPS], None where the label map has none of it."""
    parts = anatomy.resolve(labels.structures).get(structure)
    if not parts:
        return None
    mask = labels.mask(*parts)
    ranges = [np.flatnonzero(mask.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    if not all(len(r) for r in ranges):
        return None
    origin, spacing = np.asarray(labels.origin), np.asarray(labels.spacing)
    low = np.array([ranges[2][0], ranges[1][0], ranges[0][0]])
    high = np.array([ranges[2][-1], ranges[1][-1], ranges[0][-1]])
    return origin + low * spacing, origin + high * spacing
