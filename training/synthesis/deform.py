"""One body from another: affine habitus, diaphragm, heart size, fat and smooth bending of CT and labels together, without folds.

The displacement is the flow of a smooth velocity field (scaling and squaring, Arsigny et al. 2006), which keeps it invertible
also where it is large; what the flow's interpolation leaves of that is checked by the Jacobian.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training import anatomy
from training.images.types import CT, LabelMap
from training.synthesis.config import Variation

CONTROL = 12.0
"""Distance of the displacement's control points [mm]."""
SQUARINGS = 5
"""The velocity's flow is made of 2^5 small steps."""
HANGING, FIXED = 0.30, 0.58
"""Where a stoop has its full effect (sternum) and where none (apices), from the front of the lungs (0) to their back (1)."""
RISING = 0.25
"""How far the back rises, as a share of that."""
UPPER, LOWER = 0.15, 0.75
"""Where stoop and shrug have their full effect and where none, from the top of the lungs (0) to their bottom (1)."""
BESIDE, OUTSIDE = 0.3, 1.0
"""Where a shrug has no effect and where its full one, from the middle (0) to the side of the lungs (1)."""
DOME, BELOW_DOME, ABOVE_DOME = 0.3, 0.25, 0.13
"""How high the domes of the diaphragm stand, from the bottom of the lungs (0) to their top (1), and how far what lies below and
above follows them: of the heart only the lower face, as the upper one hangs on the great vessels."""
INNER, RIM = 0.6, 1.0
"""Where the domes sink with their full way and where not at all, from the middle (0) to the side of the lungs (1)."""
SMALLEST_JACOBIAN = 0.15
"""Local volume factor below which a deformation is weakened: well away from folding."""
Box = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Displacement:
    """From a point of the new body to the old one [mm], float64 [z, y, x, 3] (x, y, z) at control points start + step * index."""

    field: np.ndarray
    start: np.ndarray
    step: np.ndarray

    def smallest_jacobian(self) -> float:
        """Return the smallest determinant of identity plus gradient at the corners of all cells of the linear interpolation."""
        differences = [np.diff(self.field, axis=a) / self.step[2 - a] for a in (2, 1, 0)]
        smallest = np.inf
        for corner in np.ndindex(2, 2, 2):
            columns = []
            for axis, difference in zip((2, 1, 0), differences, strict=True):
                part = tuple(slice(c, (n - 1) + c) for c, n in zip(corner, self.field.shape, strict=False))
                part = tuple(slice(None) if a == axis else p for a, p in enumerate(part))
                columns.append(difference[part])
            jacobian = np.eye(3) + np.stack(columns, axis=-1)
            smallest = min(smallest, float(np.linalg.det(jacobian).min()))
        return smallest


def deform(
    ct: CT, labels: LabelMap, rng: np.random.Generator, variation: Variation | None = None, grid: float = 2.0
) -> tuple[CT, LabelMap]:
    """Return another body on an isotropic grid of edge grid [mm], CT (linear) and labels (nearest) moved alike.

    The displacement is weakened until the determinant of its Jacobian stays above SMALLEST_JACOBIAN everywhere (no folds).
    """
    from training.synthesis import kernels

    variation = variation or Variation()
    scale = np.array([variation.scale.draw(rng) for _ in range(3)])
    fat = variation.fat.draw(rng)
    low, size = np.asarray(ct.origin), np.asarray(ct.spacing) * (np.asarray(ct.hu.shape[::-1]) - 1)
    shape = _points(size * scale, fat, grid)
    centre = low + size / 2
    boxes = extents(labels, ("lungs", "heart"))
    displacement = draw_displacement(boxes, rng, variation, scale, centre, (shape - 1) * grid, fat)
    untouched = rng.uniform() < variation.untouched
    shear = np.eye(3)
    shear[0, 2], shear[0, 1], shear[1, 2] = (variation.shear.draw(rng) for _ in range(3))
    if untouched:  # with the same random numbers used up
        displacement = replace(displacement, field=np.zeros_like(displacement.field))
        shape, scale, shear = _points(size, 0.0, grid), np.ones(3), np.eye(3)
    inverse = np.linalg.inv(shear @ np.diag(scale))
    origin = centre - (shape - 1) * grid / 2
    hu, ids = kernels.warp(
        ct.hu,
        labels.ids,
        tuple(int(n) for n in shape[::-1]),
        origin,
        grid,
        centre,
        inverse,
        displacement.field,
        displacement.start,
        displacement.step,
        low,
        np.asarray(ct.spacing),
    )
    spacing, start = (grid, grid, grid), (float(origin[0]), float(origin[1]), float(origin[2]))
    return CT(hu, spacing, start, ct.name), LabelMap(ids, labels.members, spacing, start, labels.name)


def _points(extent: np.ndarray, fat: float, grid: float) -> np.ndarray:
    """Voxels (x, y, z) of edge grid [mm] that a body of an extent (x, y, z) [mm] needs, with room for fat [mm] around it."""
    room = 2 * max(fat, 0.0) * np.array([1.0, 1.0, 0.0])
    return np.asarray(np.maximum(2, np.ceil((extent + room) / grid).astype(int) + 1))


def draw_displacement(
    boxes: dict[str, Box],
    rng: np.random.Generator,
    variation: Variation,
    scale: np.ndarray,
    centre: np.ndarray,
    extent: np.ndarray,
    fat: float,
) -> Displacement:
    """Draw the flow that bends a body of an extent [mm] around its centre: random bends, breath, posture, heart and fat."""
    from scipy import ndimage

    counts = np.maximum(4, np.ceil(extent / CONTROL).astype(int) + 1)
    start, step = centre - extent / 2, extent / (counts - 1)
    amplitude, reach = variation.bend.draw(rng), variation.reach.draw(rng)
    noise = rng.standard_normal((3, *counts[::-1]))
    velocity = np.stack([ndimage.gaussian_filter(n, reach / step[::-1] / 2, mode="nearest") for n in noise], axis=-1)
    velocity *= amplitude / max(1e-9, float(np.sqrt((velocity**2).sum(axis=-1)).max()))
    z, y, x = np.meshgrid(*(start[a] + step[a] * np.arange(counts[a]) for a in (2, 1, 0)), indexing="ij")
    points = np.stack([x, y, z], axis=-1)
    inflation, heart = variation.inflation.draw(rng), variation.heart.draw(rng)
    scaled = {name: tuple(centre + (corner - centre) * scale for corner in box) for name, box in boxes.items()}
    if "lungs" in scaled:
        low, high = scaled["lungs"]
        lungs = (low, np.maximum(high, low + 1.0))  # of a label one voxel thick as well
        base, height = lungs[0][2] + 0.18 * (lungs[1][2] - lungs[0][2]), 0.3 * (lungs[1][2] - lungs[0][2])
        velocity[..., 2] += inflation * np.exp(-0.5 * ((z - base) / height) ** 2)
        velocity[..., :2] -= _outwards(points, lungs, fat)
        posture = rng.spawn(1)[0]
        velocity[..., 2] += variation.stoop.draw(posture) * _hanging(points, lungs)
        velocity[..., 2] -= variation.shrug.draw(posture) * _shoulders(points, lungs)
        velocity[..., 2] += variation.descent.draw(posture) * _domes(points, lungs)
    if "heart" in scaled:
        low, high = scaled["heart"]
        offsets = points - (low + high) / 2
        near = np.exp(-0.5 * (offsets**2).sum(axis=-1) / (0.55 * float(np.mean(high - low))) ** 2)
        velocity -= np.log(heart) * offsets * near[..., None]
    displacement = Displacement(flow(velocity, step), start, step)
    while displacement.smallest_jacobian() < SMALLEST_JACOBIAN:
        velocity = 0.85 * velocity
        displacement = Displacement(flow(velocity, step), start, step)
    return displacement


def _hanging(points: np.ndarray, lungs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return how far points [z, y, x, 3] follow the upper sternum (1) or stay with the apices and the diaphragm (0).

    It grows evenly from the back to the front, so that what runs that way, such as the clavicles, stays straight.
    """
    back = (points[..., 1] - lungs[0][1]) / (lungs[1][1] - lungs[0][1])
    return np.asarray(np.clip((FIXED - back) / (FIXED - HANGING), -RISING, 1) * _upper(points, lungs))


def _shoulders(points: np.ndarray, lungs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return how far points [z, y, x, 3] follow the shoulders (1) or stay with the chest (0)."""
    middle, half = (lungs[0][0] + lungs[1][0]) / 2, (lungs[1][0] - lungs[0][0]) / 2
    aside = np.abs(points[..., 0] - middle) / half
    return np.asarray(_smooth((aside - BESIDE) / (OUTSIDE - BESIDE)) * _upper(points, lungs))


def _domes(points: np.ndarray, lungs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return how far points [z, y, x, 3] follow the domes of the diaphragm (1) or stay with its rim and the upper chest (0)."""
    low, high = lungs
    up = (points[..., 2] - low[2]) / (high[2] - low[2])
    around = np.sqrt((((points - (low + high) / 2) / ((high - low) / 2))[..., :2] ** 2).sum(axis=-1))
    near = np.exp(-0.5 * ((up - DOME) / np.where(up < DOME, BELOW_DOME, ABOVE_DOME)) ** 2)
    return np.asarray((1 - _smooth((around - INNER) / (RIM - INNER))) * near)


def _upper(points: np.ndarray, lungs: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return how far points [z, y, x, 3] belong to the upper chest (1) or the lower one (0)."""
    down = (lungs[1][2] - points[..., 2]) / (lungs[1][2] - lungs[0][2])
    return _smooth((LOWER - down) / (LOWER - UPPER))


def _smooth(share: np.ndarray) -> np.ndarray:
    """Return a ramp from 0 to 1 without corners."""
    share = np.clip(share, 0, 1)
    return np.asarray(share * share * (3 - 2 * share))


def _outwards(points: np.ndarray, lungs: tuple[np.ndarray, ...], fat: float) -> np.ndarray:
    """Return how far the wall around the lungs moves outwards (x, y) [mm]: nothing inside the ribs, all of fat at the skin."""
    middle, half = (lungs[0] + lungs[1])[:2] / 2, (lungs[1] - lungs[0])[:2] / 2 + 10
    offsets = (points[..., :2] - middle) / half
    around = np.sqrt((offsets**2).sum(axis=-1))
    direction = offsets / np.maximum(around, 1e-6)[..., None]
    return np.asarray(fat * _smooth((around - 1) / 0.35)[..., None] * direction)


def flow(velocity: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return the displacement after unit time in a velocity field [z, y, x, 3] (x, y, z) [mm] on control points, by squaring."""
    from scipy import ndimage

    moved = velocity / 2**SQUARINGS
    index = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in velocity.shape[:3]), indexing="ij"))
    for _ in range(SQUARINGS):
        at = index + np.moveaxis(moved[..., ::-1] / step[::-1], -1, 0)
        onwards = [ndimage.map_coordinates(moved[..., c], at, order=1, mode="nearest") for c in range(3)]
        moved = moved + np.stack(onwards, axis=-1)
    return np.asarray(moved)


def extents(labels: LabelMap, structures: tuple[str, ...]) -> dict[str, Box]:
    """Return the corners (x, y, z) of the box around each structure [mm, LPS] that the label map has some of."""
    from training.synthesis import kernels

    ranges = kernels.extents(labels.ids, int(max(labels.members, default=0)) + 1)
    parts = anatomy.resolve(labels.structures)
    origin, spacing = np.asarray(labels.origin), np.asarray(labels.spacing)
    boxes = {}
    for structure in structures:
        ids = [i for i, names in labels.members.items() if set(names) & parts.get(structure, frozenset()) and ranges[i, 1] >= 0]
        if ids:
            low, high = ranges[ids, 0::2].min(axis=0)[::-1], ranges[ids, 1::2].max(axis=0)[::-1]
            boxes[structure] = (origin + low * spacing, origin + high * spacing)
    return boxes
