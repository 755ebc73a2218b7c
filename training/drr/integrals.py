"""Line integrals of voxel values along every ray of a pose."""

from __future__ import annotations

import numpy as np

from training.drr.geometry import Geometry
from training.drr.traversal import Traversal, VoxelPose, plan
from training.errors import ChexanatomyError
from training.images.types import CT, LabelMap
from training.threads import in_stretches

ROWS = 64
"""Detector rows that one thread works on at a time."""
EVERYTHING = ((-np.inf, np.inf, 0.0),)


def line_integrals(values: np.ndarray, ct: CT | LabelMap, geometry: Geometry) -> np.ndarray:
    """Return float32 [row, column]: the sum of value x path length [value mm] along the whole ray from the source on.

    values: any real type [z, y, x] on the grid of ct. The volume is read slice by slice with bilinear interpolation (Joseph 1982,
    doi:10.1109/TMI.1982.4307572), from the centre of its first voxel to that of its last along each axis, as RTK does; outside is
    zero. A single voxel along an axis counts to its faces.
    Raises ImpossibleGeometry for a source in the volume and ChexanatomyError for values of another shape.
    """
    return ramp_integrals(values, ct, geometry, EVERYTHING)[0]


def ramp_integrals(
    values: np.ndarray, ct: CT | LabelMap, geometry: Geometry, ramps: tuple[tuple[float, float, float], ...]
) -> np.ndarray:
    """Return float32 [ramp, row, column]: in one pass, integrals of clip(value, low, high) - zero per ramp (low, high, zero)."""
    from training.drr.gather import gather

    shape = (ct.hu if isinstance(ct, CT) else ct.ids).shape
    if values.shape != shape:
        raise ChexanatomyError(
            f"The values have shape {values.shape}, the volume {shape}; project values on the volume's own grid."
        )
    geometry.check(ct)
    walk = plan(geometry, ct, shape)
    numbers = np.ascontiguousarray(values if values.dtype == np.int16 else values.astype(np.float32, copy=False))
    sums = np.empty((len(ramps), walk.rows, walk.columns), np.float32)
    gather(numbers, walk.pose.march, walk.pose.source, walk.plane, walk.first, walk.pitch, np.asarray(ramps, np.float32), sums)
    return _on_detector(sums, geometry, walk) * path_per_slice(geometry, walk.pose)


def _on_detector(sums: np.ndarray, geometry: Geometry, walk: Traversal) -> np.ndarray:
    """Carry sums float32 [m, row, column] from the virtual detector to the real one."""
    from training.drr.carry import carry_over

    if walk.aligned:
        return sums.transpose(0, 2, 1) if walk.swapped else sums
    carried = np.empty((len(sums), geometry.rows, geometry.columns), np.float32)
    pose = walk.pose
    frame = (pose.corner, pose.row_step, pose.column_step, pose.march, pose.source, walk.plane, walk.first, walk.pitch)
    in_stretches(lambda begin, end: carry_over(sums, *frame, carried, begin, end), geometry.rows, ROWS)
    return carried


def path_per_slice(geometry: Geometry, pose: VoxelPose) -> np.ndarray:
    """Return float32 [row, column]: how far each ray travels from one slice to the next [mm]."""
    rows, columns = np.arange(geometry.rows), np.arange(geometry.columns)
    slices = pose.corner[pose.march] - pose.source[pose.march] + rows * pose.row_step[pose.march]
    crossed = slices[:, None].astype(np.float32) + (columns * pose.column_step[pose.march]).astype(np.float32)
    down, along = (n * (i - (len(i) - 1) / 2) for n, i in zip(geometry.spacing, (rows, columns), strict=True))
    length = (geometry.sdd**2 + down**2)[:, None].astype(np.float32) + (along**2).astype(np.float32)
    np.sqrt(length, out=length)
    np.maximum(np.abs(crossed, out=crossed), 1e-9, out=crossed)
    return np.divide(length, crossed, out=length)
