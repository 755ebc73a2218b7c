"""Adding findings to a body that stands already, procedural or real: its CT and labels with room to paint in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from training import anatomy
from training.errors import ChexanatomyError
from training.images import CT, LabelMap
from training.phantom import brush
from training.phantom.canvas import LOBES, UNCHANGED
from training.phantom.shapes import Box, Grid, Shape, strands


class Patient:
    """A CT and its labels on cubic voxels, copied, to be painted into. Points (x, y, z) [mm]."""

    def __init__(self, ct: CT, labels: LabelMap) -> None:
        if max(ct.spacing) - min(ct.spacing) > 1e-3 * ct.spacing[0]:
            raise ChexanatomyError(f"Findings are painted on cubic voxels; this CT's are {ct.spacing} mm: deform it first.")
        self.ct, self.labels = ct, labels
        self.hu, self.ids = ct.hu.copy(), labels.ids.copy()
        self.members = dict(labels.members)
        self.grid = Grid(ct.shape, ct.spacing[0], ct.origin)
        self._boxes = ndimage.find_objects(labels.ids)
        self._parts = anatomy.resolve(labels.structures)

    def finished(self) -> tuple[CT, LabelMap]:
        """Return the volumes."""
        ct, labels = self.ct, self.labels
        new = CT(self.hu, ct.spacing, ct.origin, ct.name, ct.notes)
        return new, LabelMap(self.ids, self.members, labels.spacing, labels.origin, labels.name, labels.notes)

    def _ids_of(self, structure: str) -> list[int]:
        names = self._parts.get(structure, frozenset())
        return [i for i, members in self.labels.members.items() if names & set(members)]

    def box(self, structure: str, margin: float = 0.0) -> Box | None:
        """Return the box around a structure, wider by a margin [mm]; None where there is none of it."""
        boxes = [b for i in self._ids_of(structure) if 0 < i <= len(self._boxes) and (b := self._boxes[i - 1]) is not None]
        if not boxes:
            return None
        more = int(np.ceil(margin / self.grid.spacing))
        z, y, x = (
            slice(max(0, min(b[a].start for b in boxes) - more), min(n, max(b[a].stop for b in boxes) + more))
            for a, n in enumerate(self.grid.shape)
        )
        return z, y, x

    def mask(self, structure: str, box: Box) -> np.ndarray:
        """Return bool [z, y, x] of a box."""
        chosen = np.zeros(self._last_id + 1, dtype=bool)
        chosen[self._ids_of(structure)] = True
        return np.asarray(chosen[self.ids[box]])

    def course(self, structure: str) -> np.ndarray | None:
        """Return a structure's middle in every slice from below upwards, [n, 3] in mm; None where there is none of it."""
        box = self.box(structure)
        if box is None:
            return None
        mask = self.mask(structure, box)
        counts = mask.sum(axis=(1, 2))
        x, y, z = self.grid.axes(box)
        there = counts > 0
        if not there.any():
            return None
        middle = [(mask * axis).sum(axis=(1, 2))[there] / counts[there] for axis in (x, y)]
        return np.stack([*middle, z[there, 0, 0]], axis=1)

    def skin_in_front(self, x: float, z: float) -> np.ndarray:
        """Return the foremost point of the body at x and z [mm]."""
        column = self.grid.box((x, -1e5, z), (x, 1e5, z))
        values = self.hu[column[0].start, :, column[2].start]
        body = np.flatnonzero((values[:-1] > -300) & (values[1:] > -300))
        return np.array([x, self.grid.axis(1)[body[0]] if len(body) else self.grid.origin[1], z])

    def lay(self, shape: Shape, hu: float | np.ndarray) -> None:
        """Paint a shape; labels stay."""
        if not shape.distance.size:
            return
        values = self.hu[shape.box].astype(np.float32)
        field = np.broadcast_to(np.asarray(hu, dtype=np.float32), values.shape)
        everywhere = np.ones(self._last_id + 1, dtype=bool)
        brush.lay_field(values, self.ids[shape.box], shape.distance, field, self.grid.spacing, UNCHANGED, everywhere)
        self.hu[shape.box] = np.clip(values, -1024, 3071).astype(np.int16)

    def draw(self, points: np.ndarray, radius: float, hu: float) -> None:
        """Paint a wire along a polyline [n, 3], also one much thinner than a voxel: by the share of the voxel it fills."""
        cover, _ = strands(self.grid, points[:-1], points[1:], np.full(len(points) - 1, radius), named=1e9)
        if cover.distance.size:
            values = self.hu[cover.box].astype(np.float32)
            values += cover.distance * (hu - values)
            self.hu[cover.box] = np.clip(values, -1024, 3071).astype(np.int16)

    def take_from_lung(self, box: Box, where: np.ndarray) -> None:
        """Let lung in a part [z, y, x] of a box be lung no more: it keeps what other names it has."""
        lobes = np.isin(self.ids[box], [i for i, names in self.members.items() if set(names) & set(LOBES)])
        self.rename(box, where & lobes, drop=(*LOBES, "lung_vessels", "lung_left", "lung_right"))

    def rename(self, box: Box, where: np.ndarray, drop: Sequence[str] = (), add: Sequence[str] = ()) -> None:
        """Take names from the voxels of a part [z, y, x] of a box and give them others; those beside them stay."""
        for old in np.unique(self.ids[box][where]):
            kept = [n for n in self.members.get(int(old), ()) if n not in drop]
            new = self._id_for((*kept, *(n for n in add if n not in kept)))  # may put wider ids in the place of these
            ids = self.ids[box]
            ids[where & (ids == old)] = new

    @property
    def _last_id(self) -> int:
        return int(np.iinfo(self.ids.dtype).max)

    def _id_for(self, names: tuple[str, ...]) -> int:
        if not names:
            return 0
        for i, members in self.members.items():
            if members == names:
                return i
        number = max(self.members, default=0) + 1
        if number > self._last_id:
            self.ids = self.ids.astype(np.uint16)
        self.members[number] = names
        return number
