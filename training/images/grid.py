"""From a volume as its file stores it to arrays that are axis-aligned in DICOM's LPS frame.

Index triples are (i, j, k) of `array[k, j, i]`; patient triples are (x, y, z) [mm, LPS].
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from training.errors import UnreadableFile
from training.images.types import Triple

ALIGNED_WITHIN = 0.25
"""A volume counts as axis-aligned when straightening it moves no voxel by more than this part of its smallest spacing."""


@dataclass(frozen=True)
class Stored:
    """A volume as its file holds it: array [k, j, i] before slope and intercept; patient_from_index: 4x4 [mm, LPS].

    names: id -> structure names where the file itself carries them; notes: plain sentences on what reading noticed.
    """

    array: np.ndarray
    patient_from_index: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class HasGrid(Protocol):
    """Anything on an axis-aligned LPS grid: a Grid, a CT, a label map."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""

    @property
    def spacing(self) -> Triple:
        """Voxel edges along (x, y, z) [mm]."""

    @property
    def origin(self) -> Triple:
        """Centre of voxel [0, 0, 0] (x, y, z) [mm, LPS]."""


@dataclass(frozen=True)
class Grid:
    """An axis-aligned LPS grid: shape (z, y, x); spacing (x, y, z) [mm]; origin: centre of voxel [0, 0, 0] (x, y, z) [mm]."""

    shape: tuple[int, int, int]
    spacing: Triple
    origin: Triple


def triple(values: np.ndarray) -> Triple:
    """Three plain floats."""
    x, y, z = (float(v) for v in values)
    return x, y, z


def _axes(stored: Stored) -> tuple[tuple[int, int, int], np.ndarray, np.ndarray]:
    """Return which index axis runs along x, y and z, the signs (+1 or -1) and the spacings [mm] in that order."""
    matrix = stored.patient_from_index[:3, :3]
    spacings = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(stored.patient_from_index).all() or spacings.min() <= 0:
        raise UnreadableFile(
            "The volume states a voxel spacing of zero or none at all; convert it again with its spacing and orientation."
        )
    directions = matrix / spacings
    if abs(np.linalg.det(directions)) < 1e-2:
        raise UnreadableFile("The volume states axes that do not span the room; convert it again with its orientation.")
    best = max(itertools.permutations(range(3)), key=lambda p: sum(abs(directions[axis, p[axis]]) for axis in range(3)))
    signs = np.array([1.0 if directions[axis, best[axis]] >= 0 else -1.0 for axis in range(3)])
    return (best[0], best[1], best[2]), signs, spacings[list(best)]


def is_aligned(stored: Stored) -> bool:
    """True when the volume's axes run along the patient's axes, in whatever order and direction."""
    order, signs, spacings = _axes(stored)
    straight = np.zeros((3, 3))
    for axis in range(3):
        straight[axis, order[axis]] = signs[axis] * spacings[axis]
    half = (np.array(stored.array.shape[::-1]) - 1) / 2
    corners = np.array(list(itertools.product((-1, 1), repeat=3))) * half
    moved = np.abs(corners @ (stored.patient_from_index[:3, :3] - straight).T).max()
    return bool(moved <= ALIGNED_WITHIN * spacings.min())


def reordered(stored: Stored) -> tuple[np.ndarray, Grid]:
    """Return an axis-aligned volume as a view [z, y, x] with its grid: axes swapped and turned, no value changed."""
    order, signs, spacings = _axes(stored)
    view = stored.array.transpose(2 - order[2], 2 - order[1], 2 - order[0])
    view = view[tuple(slice(None, None, -1 if sign < 0 else None) for sign in signs[::-1])]
    middle = (np.array(stored.array.shape[::-1]) - 1) / 2
    centre = stored.patient_from_index[:3, :3] @ middle + stored.patient_from_index[:3, 3]
    z, y, x = view.shape
    origin = centre - spacings * (np.array([x, y, z]) - 1) / 2
    return view, Grid((z, y, x), triple(spacings), triple(origin))


def upright_grid(stored: Stored) -> Grid:
    """The axis-aligned grid that encloses an oblique volume, with the spacings of the axes nearest to x, y and z."""
    _, _, spacings = _axes(stored)
    ends = np.array(list(itertools.product(*((0, n - 1) for n in stored.array.shape[::-1]))))
    points = ends @ stored.patient_from_index[:3, :3].T + stored.patient_from_index[:3, 3]
    low, high = points.min(axis=0), points.max(axis=0)
    x, y, z = (int(n) for n in np.ceil((high - low) / spacings - 1e-6) + 1)
    return Grid((z, y, x), triple(spacings), triple(low))


def resampled(stored: Stored, grid: HasGrid, fill: float, nearest: bool) -> np.ndarray:
    """Return the volume's stored values on another grid [z, y, x], by physical position, linear or nearest; `fill` outside."""
    import SimpleITK as sitk

    index_from_patient = np.linalg.inv(stored.patient_from_index)
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(index_from_patient[:3, :3].ravel().tolist())
    transform.SetTranslation(index_from_patient[:3, 3].tolist())
    array = np.ascontiguousarray(stored.array)
    image = sitk.GetImageFromArray(array if nearest else array.astype(np.float32))
    filter_ = sitk.ResampleImageFilter()
    filter_.SetSize([int(n) for n in grid.shape[::-1]])
    filter_.SetOutputSpacing(grid.spacing)
    filter_.SetOutputOrigin(grid.origin)
    filter_.SetTransform(transform)
    filter_.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    filter_.SetDefaultPixelValue(fill)
    return sitk.GetArrayFromImage(filter_.Execute(image))


def same_grid(one: HasGrid, other: HasGrid) -> bool:
    """True when two grids agree to a hundredth of a voxel everywhere."""
    if one.shape != other.shape:
        return False
    spacing = np.array(one.spacing)
    first = np.abs(np.array(one.origin) - other.origin)
    last = np.abs(np.array(one.origin) - other.origin + (spacing - other.spacing) * (np.array(one.shape[::-1]) - 1))
    return bool((np.maximum(first, last) <= 0.01 * spacing).all())


def extent(grid: HasGrid) -> str:
    """The room a grid takes, edge to edge, in words [mm, LPS]."""
    parts = []
    for axis, spacing, origin, n in zip("xyz", grid.spacing, grid.origin, grid.shape[::-1], strict=True):
        parts.append(f"{axis} {origin - spacing / 2:.0f} to {origin + spacing * (n - 0.5):.0f}")
    return ", ".join(parts) + " mm"


@dataclass(frozen=True)
class Window:
    """Where a source grid lies in a target: per axis (z, y, x), the target's slice and the source's index of each voxel in it."""

    target: tuple[slice, slice, slice]
    source: tuple[np.ndarray, np.ndarray, np.ndarray]

    def take(self, array: np.ndarray) -> np.ndarray:
        """Return the source array's nearest values in the target's slices."""
        if any(len(indices) == 0 for indices in self.source):
            return np.zeros([len(indices) for indices in self.source], array.dtype)
        if all((np.diff(indices) == 1).all() for indices in self.source):
            return array[tuple(slice(indices[0], indices[-1] + 1) for indices in self.source)]
        return array[np.ix_(*self.source)]

    def inside(self, array: np.ndarray) -> np.ndarray:
        """Return the part of the source array (a view) that lies within the target."""
        return array[tuple(slice(i.min(), i.max() + 1) if len(i) else slice(0) for i in self.source)]


def window(source: HasGrid, target: HasGrid, box: tuple[slice, ...] | None = None) -> Window:
    """Return where the source grid (only its `box` [z, y, x], if given) lies in the target; nearest voxels."""
    slices, indices = [], []
    for axis in range(3):
        mm = 2 - axis
        n = source.shape[axis]
        low, high = (box[axis].start, box[axis].stop) if box else (0, n)
        position = target.origin[mm] + target.spacing[mm] * np.arange(target.shape[axis])
        nearest = np.rint((position - source.origin[mm]) / source.spacing[mm]).astype(np.int64)
        within = np.flatnonzero((nearest >= low) & (nearest < high))
        start, stop = (int(within[0]), int(within[-1]) + 1) if len(within) else (0, 0)
        slices.append(slice(start, stop))
        indices.append(nearest[start:stop] - low)
    return Window((slices[0], slices[1], slices[2]), (indices[0], indices[1], indices[2]))


def bounding_box(mask: np.ndarray) -> tuple[slice, slice, slice] | None:
    """Return the slices [z, y, x] that enclose everything that is not zero; None when all is zero."""
    # A turned view is looked at in the order of memory, which is several times faster.
    turned = [stride < 0 for stride in mask.strides]
    order = sorted(range(3), key=lambda axis: -abs(mask.strides[axis]))
    plain = mask[tuple(slice(None, None, -1 if t else None) for t in turned)].transpose(order)
    found: list[slice] = []
    for axis in range(3):
        used = np.flatnonzero(plain[tuple(found)].any(axis=tuple(other for other in range(3) if other != axis)))
        if len(used) == 0:
            return None
        found.append(slice(int(used[0]), int(used[-1]) + 1))
    box = [found[order.index(axis)] for axis in range(3)]
    for axis, n in enumerate(mask.shape):
        if turned[axis]:
            box[axis] = slice(n - box[axis].stop, n - box[axis].start)
    return box[0], box[1], box[2]
