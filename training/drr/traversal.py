"""How a pose walks through a voxel grid: slice by slice along the axis the central ray crosses most often.

Rays from one point meet every slice in a scaled and shifted copy of one grid. So the sum over slices is gathered on a plane that
is parallel to the slices (the virtual detector); where the real detector is parallel to them too, it is that plane, otherwise
one homography carries the sums over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.drr.geometry import Geometry, voxel_from_patient
from training.images.types import CT, LabelMap

ACROSS = {0: (1, 2), 1: (0, 2), 2: (0, 1)}
"""March axis -> (row axis, column axis) of the virtual detector; the column axis is the contiguous one where it can be."""
FINER = 32
"""How many times finer than the detector the narrow side of a strip's shadow is sampled at most: a few slices seen at an angle
have their ends, which are steps, in every column."""
LARGEST_PLANE = 6000
"""Rows or columns a virtual detector may have."""


@dataclass(frozen=True)
class VoxelPose:
    """One pose in voxel index coordinates (z, y, x) of one grid [voxels].

    source: focal spot; corner: centre of detector pixel [0, 0]; row_step, column_step: from pixel to pixel; march: axis of the
    slices, the one that the central ray crosses most often.
    """

    source: np.ndarray
    corner: np.ndarray
    row_step: np.ndarray
    column_step: np.ndarray
    march: int

    @classmethod
    def of(cls, geometry: Geometry, volume: CT | LabelMap) -> VoxelPose:
        """The pose of a geometry on the grid of a volume."""
        to_voxel = voxel_from_patient(volume)
        corner, row_step, column_step = geometry.pixel_frame()
        source = to_voxel[:3, :3] @ geometry.source + to_voxel[:3, 3]
        corner = to_voxel[:3, :3] @ corner + to_voxel[:3, 3]
        row_step, column_step = to_voxel[:3, :3] @ row_step, to_voxel[:3, :3] @ column_step
        centre = corner + (geometry.rows - 1) / 2 * row_step + (geometry.columns - 1) / 2 * column_step
        return cls(source, corner, row_step, column_step, int(np.argmax(np.abs(centre - source))))


@dataclass(frozen=True)
class Traversal:
    """Where the sums over slices are gathered for a pose.

    plane: slice coordinate of the virtual detector; first, pitch: position of its pixel [0, 0] and its steps along (row axis,
    column axis) [voxels]; rows, columns: its size; aligned: the virtual detector is the real one; swapped: ... with rows and
    columns exchanged.
    """

    pose: VoxelPose
    plane: float
    first: tuple[float, float]
    pitch: tuple[float, float]
    rows: int
    columns: int
    aligned: bool
    swapped: bool


def plan(geometry: Geometry, volume: CT | LabelMap, shape: tuple[int, ...]) -> Traversal:
    """Choose the march axis and lay the virtual detector for a pose."""
    pose = VoxelPose.of(geometry, volume)
    centre = pose.corner + (geometry.rows - 1) / 2 * pose.row_step + (geometry.columns - 1) / 2 * pose.column_step
    across = ACROSS[pose.march]
    plane = float(centre[pose.march])
    along_rows, along_columns = _only_axis(pose.row_step), _only_axis(pose.column_step)
    if along_rows is not None and along_columns is not None and pose.march not in (along_rows, along_columns):
        swapped = (along_rows, along_columns) != across
        steps = (pose.column_step, pose.row_step) if swapped else (pose.row_step, pose.column_step)
        size = (geometry.columns, geometry.rows) if swapped else (geometry.rows, geometry.columns)
        first = (float(pose.corner[across[0]]), float(pose.corner[across[1]]))
        pitch = (float(steps[0][across[0]]), float(steps[1][across[1]]))
        return Traversal(pose, plane, first, pitch, *size, aligned=True, swapped=swapped)
    low, high, finest = _shadow_grid(geometry, pose, plane, shape)
    extent = (high[0] - low[0], high[1] - low[1])
    enough = [max(2, math.ceil(extent[i] / finest[i]) + 1) for i in (0, 1)]
    rows, columns = (min(LARGEST_PLANE, max(n, min(FINER * n, other // 2))) for n, other in (enough, enough[::-1]))
    pitch = (extent[0] / (rows - 1), extent[1] / (columns - 1))
    return Traversal(pose, plane, (low[0], low[1]), pitch, rows, columns, aligned=False, swapped=False)


def _only_axis(step: np.ndarray) -> int | None:
    """The one axis that a step runs along, None when it is oblique."""
    axis = int(np.argmax(np.abs(step)))
    rest = np.delete(np.abs(step), axis).max()
    return axis if rest <= 1e-9 * abs(step[axis]) else None


def _shadow_grid(
    geometry: Geometry, pose: VoxelPose, plane: float, shape: tuple[int, ...]
) -> tuple[list[float], list[float], list[float]]:
    """Bounds and pixel pitch on the slice-parallel plane through the detector's centre that the detector and the volume share."""
    across, march, source = ACROSS[pose.march], pose.march, pose.source

    def onto(points: np.ndarray) -> np.ndarray:
        depth = (points[:, march] - source[march]) / (plane - source[march])
        depth = np.where(depth > 1e-6, depth, np.nan)
        return np.stack([source[a] + (points[:, a] - source[a]) / depth for a in across], axis=1)

    rows, columns = np.meshgrid(
        [0, (geometry.rows - 1) / 2, geometry.rows - 1], [0, (geometry.columns - 1) / 2, geometry.columns - 1]
    )
    at = np.stack([rows.ravel(), columns.ravel()], axis=1)
    points = pose.corner + at[:, :1] * pose.row_step + at[:, 1:] * pose.column_step
    seen = onto(points)
    step_row, step_column = np.abs(onto(points + pose.row_step) - seen), np.abs(onto(points + pose.column_step) - seen)
    pitch = np.nanmin(np.maximum(step_row, step_column), axis=0)
    faces = [(-0.5, n - 0.5) for n in shape]
    box = onto(np.array(np.meshgrid(*faces, indexing="ij")).reshape(3, -1).T)
    margin = 2 * pitch
    low, high = np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)
    if np.isfinite(seen).all() and np.isfinite(box).all():
        low, high = np.maximum(low, box.min(axis=0)), np.minimum(high, box.max(axis=0))
    low, high = low - margin, high + margin
    high = np.maximum(high, low + pitch)
    return [float(v) for v in low], [float(v) for v in high], [float(v) for v in pitch]
