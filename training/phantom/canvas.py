"""The canvas a person is painted on: attenuation and labels of one grid, later paint over earlier."""

from __future__ import annotations

import zlib

import numpy as np
from scipy import ndimage

from training.images import CT, LabelMap
from training.phantom import brush
from training.phantom.shapes import Box, Grid, Shape

AIR = -1000.0
"""Attenuation of air [HU]."""
LUNG_LIKE = -200.0
"""Attenuation below which a voxel inside the chest is lung, at least in part [HU]."""
UNCHANGED = 0
"""In place of a label's number: labels stay as they are."""
EVERYWHERE = np.ones(256, dtype=bool)
LOBES = (
    "lung_upper_lobe_left",
    "lung_lower_lobe_left",
    "lung_upper_lobe_right",
    "lung_middle_lobe_right",
    "lung_lower_lobe_right",
)


class Canvas:
    """hu: float32 [z, y, x] in HU; ids: uint8 [z, y, x]; every painted voxel also belongs to the body."""

    def __init__(self, grid: Grid, rng: np.random.Generator, bone_density: float = 1.0) -> None:
        self.grid = grid
        self.bone_density = bone_density
        self.rng = rng
        self.cage_depth: np.ndarray = np.empty(0, dtype=np.float32)
        self.hu = np.full(grid.shape, AIR, dtype=np.float32)
        self.ids = np.zeros(grid.shape, dtype=np.uint8)
        self._names: list[tuple[str, ...]] = [()]
        self._spare = int(np.ceil(60.0 / grid.spacing))
        self._waves = _smooth_noise(tuple(n + self._spare for n in grid.shape), 30.0 / grid.spacing, rng)

    def id_of(self, *names: str) -> int:
        """Return the id that stands for these structures together."""
        members = ("body", *names)
        if members not in self._names:
            self._names.append(members)
        return self._names.index(members)

    def ids_with(self, *names: str) -> list[int]:
        """Return every id that stands for any of these structures."""
        return [i for i, members in enumerate(self._names) if set(members) & set(names)]

    def paint(self, shape: Shape, hu: float | np.ndarray, *names: str, over: tuple[str, ...] | None = None) -> None:
        """Paint a shape with soft edges; without names only the attenuation changes and the labels stay.

        hu: a number or [z, y, x] of the shape's box; over: paint only where these structures are now.
        """
        number = self.id_of(*names) if names else UNCHANGED
        values, ids = self.hu[shape.box], self.ids[shape.box]
        allowed = self._table(*over) if over is not None else EVERYWHERE
        if np.ndim(hu):
            field = np.broadcast_to(np.asarray(hu, dtype=np.float32), values.shape)
            brush.lay_field(values, ids, shape.distance, field, self.grid.spacing, number, allowed)
        else:
            brush.lay(values, ids, shape.distance, np.float32(hu), self.grid.spacing, number, allowed)

    def fill_lung(self, shape: Shape, hu: float | np.ndarray) -> None:
        """Turn lung into other tissue of that attenuation within a shape; nothing else is touched."""
        ids, values = self.ids[shape.box], self.hu[shape.box]
        airy = (values < LUNG_LIKE) & ~self._are(ids, "stomach", "colon")
        coverage = np.clip(0.5 - shape.distance / np.float32(self.grid.spacing), 0, 1) * airy
        values += coverage * (hu - values)
        ids[(shape.distance < 0) & self._are(ids, *LOBES)] = self.id_of()

    def label(self, shape: Shape, name: str, over: tuple[str, ...]) -> None:
        """Add a name to the voxels of a shape that belong to certain structures, which they keep."""
        ids = self.ids[shape.box]
        inside = shape.distance < 0
        for old in self.ids_with(*over):
            members = self._names[old][1:]
            if name not in members and (chosen := inside & (ids == old)).any():
                ids[chosen] = self.id_of(*members, name)

    def mask(self, *names: str, box: Box | None = None) -> np.ndarray:
        """Return bool [z, y, x]: voxels of any of these structures."""
        return self._are(self.ids[box or self.grid.whole], *names)

    def _are(self, ids: np.ndarray, *names: str) -> np.ndarray:
        return np.asarray(self._table(*names)[ids])

    def _table(self, *names: str) -> np.ndarray:
        chosen = np.zeros(256, dtype=bool)
        chosen[self.ids_with(*names)] = True
        return chosen

    def keep_largest(self, hu: float, *names: str) -> None:
        """Turn all but the largest connected piece of each structure into plain body of that attenuation."""
        boxes = ndimage.find_objects(self.ids, len(self._names) - 1)
        for name in names:
            parts = [b for i in self.ids_with(name) if i <= len(boxes) and (b := boxes[i - 1]) is not None]
            if not parts:
                continue
            box: Box = tuple(  # type: ignore[assignment]
                slice(min(b[axis].start for b in parts), max(b[axis].stop for b in parts)) for axis in range(3)
            )
            pieces, count = ndimage.label(self.mask(name, box=box), np.ones((3, 3, 3)))
            if count > 1:
                sizes = np.bincount(pieces.ravel())
                sizes[0] = 0
                crumbs = (pieces > 0) & (pieces != sizes.argmax())
                self.ids[box][crumbs] = self.id_of()
                self.hu[box][crumbs] = hu

    def waves(self, box: Box, name: str, amplitude: float) -> np.ndarray:
        """Return smooth noise of about that amplitude [z, y, x], its own for every name: irregular outlines, mottling."""
        shift = [zlib.crc32(f"{name} {axis}".encode()) % self._spare for axis in "zyx"]
        return np.float32(amplitude) * self._waves[tuple(slice(p.start + o, p.stop + o) for p, o in zip(box, shift, strict=True))]

    def finish(self, name: str, noise: float) -> tuple[CT, LabelMap]:
        """Add CT noise of a standard deviation [HU] and return the volumes."""
        grain = self.rng.standard_normal([n + 1 for n in self.grid.shape], dtype=np.float32)
        hu = brush.develop(self.hu, self.ids, grain, np.float32(noise / np.sqrt(8)), np.int16(AIR))
        spacing = (self.grid.spacing,) * 3
        members = {i: names for i, names in enumerate(self._names) if names}
        note = "A procedural phantom, no real person."
        ct = CT(hu, spacing, self.grid.origin, name=name, notes=(note,))
        return ct, LabelMap(self.ids, members, spacing, self.grid.origin, name=f"{name} labels", notes=(note,))


def _smooth_noise(shape: tuple[int, ...], step: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise of unit standard deviation, correlated over about `step` voxels, float32 [z, y, x]."""
    knots = rng.standard_normal([int(np.ceil(n / step)) + 2 for n in shape], dtype=np.float32)
    noise = np.empty(shape, dtype=np.float32)
    brush.swell(knots, np.float32(step), noise)
    noise *= 1 / noise[::3, ::3, ::3].std()
    return noise
