"""The projector in torch: the same integrals as integrals.py, on a GPU where there is one, with gradients for values and pose."""

from __future__ import annotations

import torch
from torch.nn.functional import grid_sample
from torch.utils.checkpoint import checkpoint

from training.drr.geometry import Geometry
from training.drr.traversal import ACROSS, VoxelPose
from training.images.types import CT, LabelMap

SLICES = 16
"""Slices sampled together; their intermediate values are worked out again for the gradient, so that memory stays small."""

POSE = ("sdd", "sid", "primary", "secondary", "roll", "x", "y", "z")
"""What a pose vector holds: distances [mm], angles [degrees], isocentre [mm, LPS]."""


def pose_of(geometry: Geometry) -> torch.Tensor:
    """Return the pose vector of a geometry, float64 [8] in the order of POSE."""
    distances_and_angles = (geometry.sdd, geometry.sid, geometry.primary, geometry.secondary, geometry.roll)
    return torch.tensor([*distances_and_angles, *geometry.isocentre], dtype=torch.float64)


def line_integrals(
    values: torch.Tensor, volume: CT | LabelMap, geometry: Geometry, pose: torch.Tensor | None = None
) -> torch.Tensor:
    """Return float32 [row, column]: the sum of value x path length [value mm] along every ray, on the device of the values.

    values: floating point [z, y, x] on the grid of volume; geometry: detector size and spacing, and the pose where none is given;
    pose: float [8] in the order of POSE. Gradients reach values and pose; they are those of the interpolated volume, so they jump
    where a ray passes from one voxel to the next. The slices are chosen for the geometry's own pose: keep it near.
    Raises ImpossibleGeometry as training.drr.line_integrals.
    """
    geometry.check(volume)
    march = VoxelPose.of(geometry, volume).march
    pose = (pose_of(geometry) if pose is None else pose).to(values.device, torch.float64)
    spacing = torch.tensor(volume.spacing, dtype=torch.float64, device=values.device)
    source, rays = _rays(geometry, pose)
    source = (source - torch.tensor(volume.origin, dtype=torch.float64, device=values.device)) / spacing
    rays = rays / spacing
    axis = 2 - march  # rays and source are (x, y, z), the volume is [z, y, x]
    per_slice = torch.linalg.vector_norm(rays * spacing, dim=-1) / rays[..., axis].abs()
    slices = values.movedim(march, 0).float()
    total = torch.zeros(geometry.rows, geometry.columns, device=values.device)
    across = tuple(2 - a for a in ACROSS[march])
    ends = torch.ones(len(slices), dtype=torch.float64, device=values.device)
    if len(slices) > 1:
        ends[0] = ends[-1] = 0.5
    for first in range(0, len(slices), SLICES):
        chunk, weights = slices[first : first + SLICES], ends[first : first + SLICES]
        total = total + checkpoint(_sampled, chunk, weights, first, source, rays, axis, across, use_reentrant=False)
    return total * per_slice.float()


def _rays(geometry: Geometry, pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Focal spot (x, y, z) and the vectors from it to every pixel's centre, [row, column, 3] in mm, LPS; as Geometry has them."""
    sdd, sid = pose[0], pose[1]
    a, b, roll = torch.deg2rad(pose[2:5])
    nothing = torch.zeros_like(a)
    beam = torch.stack([a.sin() * b.cos(), -a.cos() * b.cos(), b.sin()])
    right = torch.stack([a.cos(), a.sin(), nothing])
    down = torch.linalg.cross(right, beam)
    right = -right if geometry.faces_back else right
    columns, rows = roll.cos() * right - roll.sin() * down, roll.cos() * down + roll.sin() * right
    row = (torch.arange(geometry.rows, device=pose.device) - (geometry.rows - 1) / 2) * geometry.spacing[0]
    column = (torch.arange(geometry.columns, device=pose.device) - (geometry.columns - 1) / 2) * geometry.spacing[1]
    return pose[5:] - sid * beam, sdd * beam + row[:, None, None] * rows + column[None, :, None] * columns


def _sampled(
    chunk: torch.Tensor,
    ends: torch.Tensor,
    first: int,
    source: torch.Tensor,
    rays: torch.Tensor,
    axis: int,
    across: tuple[int, int],
) -> torch.Tensor:
    """Sum of the slices of a chunk, weighted by ends, where the rays cross them, float32 [row, column]; see gather.py."""
    at = torch.arange(first, first + len(chunk), device=chunk.device)[:, None, None]
    reach = (at - source[axis]) / rays[None, ..., axis]
    positions = [source[a] + reach * rays[None, ..., a] for a in across]
    weight = torch.where(reach > 0, ends[:, None, None], 0.0)
    for a, position, count in zip(across, positions, chunk.shape[1:], strict=True):
        margin = 0.5 if count == 1 else 0.0
        room = torch.minimum(position + margin, count - 1 + margin - position)
        rate = (rays[..., a] / rays[..., axis]).abs().clamp(min=1e-9)
        weight = weight * torch.where(room >= -0.5, (0.5 + room / rate).clamp(0, 1), 0.0)
    grid = [(2 * position + 1) / count - 1 for position, count in zip(positions, chunk.shape[1:], strict=True)]
    pairs = torch.stack([grid[1], grid[0]], dim=-1).float()
    read = grid_sample(chunk[:, None], pairs, mode="bilinear", padding_mode="border", align_corners=False)[:, 0]
    return (weight.float() * read).sum(dim=0)
