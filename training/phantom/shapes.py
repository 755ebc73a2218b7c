"""Implicit shapes on a grid: signed distances [mm], negative inside, each in a box of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

FAR = 1e3
"""A distance [mm] that stands for 'not near'."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Voxel centres: shape (z, y, x), cubic voxels of spacing [mm], origin (x, y, z) of voxel [0, 0, 0] in mm, LPS."""

    shape: tuple[int, int, int]
    spacing: float
    origin: tuple[float, float, float]

    def axis(self, which: int, part: slice = slice(None)) -> np.ndarray:
        """Return the coordinates [mm] along x (0), y (1) or z (2), float32."""
        return (self.origin[which] + self.spacing * np.arange(self.shape[2 - which], dtype=np.float32)).astype(np.float32)[part]

    def axes(self, box: Box | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return x, y, z coordinates [mm] of a box, shaped to broadcast to [z, y, x]."""
        z, y, x = box or (slice(None),) * 3
        return self.axis(0, x)[None, None, :], self.axis(1, y)[None, :, None], self.axis(2, z)[:, None, None]

    def box(self, low: ArrayLike, high: ArrayLike) -> Box:
        """Return the part of the grid between two corners (x, y, z) [mm], possibly empty."""
        first = np.floor((np.asarray(low) - self.origin) / self.spacing).astype(int)
        last = np.ceil((np.asarray(high) - self.origin) / self.spacing).astype(int) + 1
        x, y, z = (
            slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n))) for a, b, n in zip(first, last, self.shape[::-1], strict=True)
        )
        return z, y, x

    @property
    def whole(self) -> Box:
        """The box that is the whole grid."""
        z, y, x = self.shape
        return slice(0, z), slice(0, y), slice(0, x)


@dataclass(frozen=True)
class Shape:
    """distance: float32 [z, y, x] of the box, signed [mm], negative inside."""

    box: Box
    distance: np.ndarray

    def grown(self, margin: float) -> Shape:
        """Return the shape dilated by a margin [mm] (as far as its box reaches)."""
        return Shape(self.box, self.distance - np.float32(margin))

    def within(self, distance: np.ndarray) -> Shape:
        """Return its intersection with another distance field over the same box."""
        return Shape(self.box, np.maximum(self.distance, distance))


def curve(points: ArrayLike, count: int) -> np.ndarray:
    """Return a smooth curve through points [n, k], float64 [count, k], evenly spaced by arc length of the first three columns."""
    knots = np.asarray(points, dtype=float)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(knots[:, :3], axis=0), axis=1))])
    return np.asarray(CubicSpline(along, knots, bc_type="natural")(np.linspace(0, along[-1], count)))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _range(a, b, reach, first, spacing, count):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Return the first voxel and the end of those within reach of the stretch a..b along one axis."""
    low = int(np.floor((min(a, b) - reach - first) / spacing))
    high = int(np.ceil((max(a, b) + reach - first) / spacing)) + 1
    return max(0, low), min(count, high)


@numba.njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _tube(distance, first, spacing, points, radii, normals, margin):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Lower distance [z, y, x] to that of a tube: points [n, 3], radii [n, 2] along and across the normals [n, 3]."""
    depth, height, width = distance.shape
    for s in range(len(points) - 1):
        ax, ay, az = points[s, 0], points[s, 1], points[s, 2]
        bx, by, bz = points[s + 1, 0], points[s + 1, 1], points[s + 1, 2]
        tx, ty, tz = bx - ax, by - ay, bz - az
        length = np.sqrt(tx * tx + ty * ty + tz * tz)
        if length < 1e-6:
            continue
        tx, ty, tz = tx / length, ty / length, tz / length
        nx, ny, nz = normals[s, 0], normals[s, 1], normals[s, 2]
        along_n = nx * tx + ny * ty + nz * tz
        nx, ny, nz = nx - along_n * tx, ny - along_n * ty, nz - along_n * tz
        norm = np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
        nx, ny, nz = nx / norm, ny / norm, nz / norm
        cx, cy, cz = ty * nz - tz * ny, tz * nx - tx * nz, tx * ny - ty * nx
        r0n, r0c, r1n, r1c = radii[s, 0], radii[s, 1], radii[s + 1, 0], radii[s + 1, 1]
        reach = max(max(r0n, r0c), max(r1n, r1c)) + margin
        x0, x1 = _range(ax, bx, reach, first[0], spacing, width)
        y0, y1 = _range(ay, by, reach, first[1], spacing, height)
        z0, z1 = _range(az, bz, reach, first[2], spacing, depth)
        for iz in range(z0, z1):
            pz = first[2] + spacing * iz - az
            for iy in range(y0, y1):
                py = first[1] + spacing * iy - ay
                for ix in range(x0, x1):
                    px = first[0] + spacing * ix - ax
                    along = px * tx + py * ty + pz * tz
                    at = min(max(along, 0.0), length)
                    rest = along - at
                    dn = px * nx + py * ny + pz * nz
                    dc = px * cx + py * cy + pz * cz
                    rho2 = dn * dn + dc * dc + rest * rest
                    if rho2 > reach * reach:
                        continue
                    f = at / length
                    rn = r0n + (r1n - r0n) * f
                    rc = r0c + (r1c - r0c) * f
                    thin = min(rn, rc)
                    q = np.sqrt(dn * dn / (rn * rn) + dc * dc / (rc * rc) + rest * rest / (thin * thin))
                    rho = np.sqrt(rho2)
                    d = rho * (1.0 - 1.0 / q) if q > 1e-3 else -thin
                    if d < distance[iz, iy, ix]:
                        distance[iz, iy, ix] = d


def tube(grid: Grid, points: ArrayLike, radii: ArrayLike, normals: ArrayLike = (0.0, 1.0, 0.0), margin: float = 4.0) -> Shape:
    """Return a tube along a polyline (x, y, z) [n, 3] in mm.

    radii [mm]: one number, one per point [n], or two per point [n, 2]: along the normals and across them; normals: [3] or [n, 3];
    margin: how far [mm] beyond the tube its distance is known at least.
    """
    pts = np.ascontiguousarray(points, dtype=float)
    r = np.asarray(radii, dtype=float)
    r = np.broadcast_to(r[:, None] if r.ndim == 1 and r.size == len(pts) and r.size != 1 else r, (len(pts), 2))
    known = max(margin, 2.5 * grid.spacing)
    reach = float(r.max()) + known
    box = grid.box(pts.min(0) - reach, pts.max(0) + reach)
    distance = np.full([s.stop - s.start for s in box], FAR, dtype=np.float32)
    if distance.size:
        first = np.asarray(grid.origin) + grid.spacing * np.array([box[2].start, box[1].start, box[0].start])
        across = np.ascontiguousarray(np.broadcast_to(np.asarray(normals, dtype=float), pts.shape))
        _tube(distance, first, grid.spacing, pts, np.ascontiguousarray(r), across, known)
    return Shape(box, distance)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _strands(cover, distance, first, spacing, starts, ends, radii, named):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Raise cover [z, y, x] to that of thin tubes (starts, ends [n, 3], radii [n]), lower distance to those >= named."""
    depth, height, width = cover.shape
    for s in range(len(starts)):
        ax, ay, az = starts[s, 0], starts[s, 1], starts[s, 2]
        tx, ty, tz = ends[s, 0] - ax, ends[s, 1] - ay, ends[s, 2] - az
        length2 = tx * tx + ty * ty + tz * tz + 1e-9
        drawn = max(radii[s], 0.6 * spacing)
        strength = min(1.0, (radii[s] / drawn) ** 2)
        reach = drawn + 0.5 * spacing
        x0, x1 = _range(ax, ax + tx, reach, first[0], spacing, width)
        y0, y1 = _range(ay, ay + ty, reach, first[1], spacing, height)
        z0, z1 = _range(az, az + tz, reach, first[2], spacing, depth)
        for iz in range(z0, z1):
            pz = first[2] + spacing * iz - az
            for iy in range(y0, y1):
                py = first[1] + spacing * iy - ay
                for ix in range(x0, x1):
                    px = first[0] + spacing * ix - ax
                    f = min(max((px * tx + py * ty + pz * tz) / length2, 0.0), 1.0)
                    d = np.sqrt((px - f * tx) ** 2 + (py - f * ty) ** 2 + (pz - f * tz) ** 2) - drawn
                    c = min(max(0.5 - d / spacing, 0.0), 1.0) * strength
                    if c > cover[iz, iy, ix]:
                        cover[iz, iy, ix] = c
                    if radii[s] >= named and d < distance[iz, iy, ix]:
                        distance[iz, iy, ix] = d


def strands(grid: Grid, starts: np.ndarray, ends: np.ndarray, radii: np.ndarray, named: float) -> tuple[Shape, Shape]:
    """Return many thin straight tubes: (the share of each voxel they fill in 0..1, the distance to those of radius >= named).

    starts, ends: [n, 3] (x, y, z) [mm]; radii: [n] in mm, also below a voxel.
    """
    reach = float(radii.max()) + grid.spacing
    box = grid.box(np.minimum(starts, ends).min(0) - reach, np.maximum(starts, ends).max(0) + reach)
    cover = np.zeros([s.stop - s.start for s in box], dtype=np.float32)
    distance = np.full_like(cover, FAR)
    first = np.asarray(grid.origin) + grid.spacing * np.array([box[2].start, box[1].start, box[0].start])
    _strands(cover, distance, first, grid.spacing, np.ascontiguousarray(starts), np.ascontiguousarray(ends), radii, float(named))
    return Shape(box, cover), Shape(box, distance)


def ellipsoid(grid: Grid, centre: ArrayLike, radii: ArrayLike, axes: np.ndarray | None = None, margin: float = 12.0) -> Shape:
    """Return an ellipsoid: centre (x, y, z), radii along axes (rows of a rotation matrix) [mm]."""
    middle, r = np.asarray(centre, dtype=float), np.asarray(radii, dtype=float)
    rows = np.eye(3) if axes is None else np.asarray(axes, dtype=float)
    reach = np.sqrt(((rows * r[:, None]) ** 2).sum(0)) + margin
    box = grid.box(middle - reach, middle + reach)
    x, y, z = (a - np.float32(m) for a, m in zip(grid.axes(box), middle, strict=True))
    q2 = np.float32(1e-6)
    for row in rows / r[:, None]:
        q2 = q2 + (np.float32(row[0]) * x + np.float32(row[1]) * y + np.float32(row[2]) * z) ** 2
    q = np.sqrt(q2)
    rho = np.sqrt(x * x + y * y + z * z)
    return Shape(box, np.asarray(rho * (1 - 1 / np.maximum(q, np.float32(0.05))), dtype=np.float32))


def stretched(radii: np.ndarray, axes: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Return radii and axes (rows) of an ellipsoid after it was stretched along z by a factor."""
    along = np.diag([1.0, 1.0, factor])
    squares, columns = np.linalg.eigh(along @ (axes.T * radii**2) @ axes @ along)
    return np.sqrt(squares), columns.T


def union(*shapes: Shape, blend: float = 0.0) -> Shape:
    """Return the union of shapes; blend [mm] rounds the creases between them."""
    box: Box = tuple(  # type: ignore[assignment]
        slice(min(s.box[i].start for s in shapes), max(s.box[i].stop for s in shapes)) for i in range(3)
    )
    total = np.full([s.stop - s.start for s in box], FAR, dtype=np.float32)
    for shape in shapes:
        part = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(shape.box, box, strict=True))
        old = total[part]
        new = np.minimum(old, shape.distance)
        if blend:
            overlap = np.maximum(np.float32(blend) - np.abs(old - shape.distance), 0)
            new -= overlap * overlap / np.float32(4 * blend)
        total[part] = new
    return Shape(box, total)


def rotation(around: str, degrees: float) -> np.ndarray:
    """Return the right-handed rotation matrix [3, 3] around the x, y or z axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[around]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix
