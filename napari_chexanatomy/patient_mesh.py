"""The patient as a light mesh for the view of the room: skin, bones, and the ticked structures in their colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from napari_chexanatomy.structure_colours import colour_of, group_of
from training.anatomy import resolve
from training.images.types import CT, LabelMap, Triple

SKIN_EDGE, BONE_EDGE, STRUCTURE_EDGE = 16.0, 9.0, 10.0
"""Voxels are merged to about this edge before a surface is laid: few triangles can be turned without a graphics card [mm]."""
SKIN_HU, BONE_HU = -400.0, 180.0
SKIN_COLOUR = (1.0, 0.84, 0.74, 0.2)
BONE_COLOUR = (0.93, 0.90, 0.80, 1.0)
SEE_THROUGH = "Lungs"
"""Group whose structures are drawn transparent: the heart lies between the lungs."""
STRUCTURE_SHARE = 0.4
"""A merged voxel belongs to a structure from this share of it on: thin ribs would be lost at a half."""


LIGHT = np.array([-0.45, 0.55, -0.70])
"""Direction of the light (z, y, x)."""
SHADOW = 0.35
"""Brightness of what the light only grazes."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices float32 [n, 3] (z, y, x) [mm, LPS], faces int32 [m, 3], colours float32 [n, 4] RGBA 0..1."""

    vertices: np.ndarray
    faces: np.ndarray
    colours: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Mesh]) -> Mesh:
        """One mesh of many; later parts are drawn over earlier ones where they are transparent."""
        starts = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
        return cls(
            np.concatenate([part.vertices for part in parts]),
            np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)]),
            np.concatenate([part.colours for part in parts]),
        )


class PatientMesher:
    """Makes meshes one after another; used by one thread. Skin, bones and structures of the present CT are kept."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._ct: CT | None = None
        self._labels: LabelMap | None = None
        self._parts: dict[str, Mesh | None] = {}

    def mesh(self, ct: CT, labels: LabelMap | None, structures: Sequence[str]) -> Mesh | None:
        """The patient with these structures; None for a volume that shows nothing."""
        if ct is not self._ct or labels is not self._labels:
            self._ct, self._labels, self._parts = ct, labels, {}
        names = [f"structure {name}" for name in structures if labels is not None]
        wanted = ["bones", *names, "skin"]
        wanted.sort(key=lambda name: (name == "skin", group_of(name.removeprefix("structure ")) == SEE_THROUGH))
        for name in wanted:
            if name not in self._parts:
                self._parts[name] = self._part(name, ct, labels)
        parts = [part for name in wanted if (part := self._parts[name]) is not None]
        return Mesh.joined(parts) if parts else None

    def _part(self, name: str, ct: CT, labels: LabelMap | None) -> Mesh | None:
        if name == "skin":
            return _skin(ct)
        if name == "bones":
            coarse, spacing, origin = _merged(ct.hu, ct, BONE_EDGE)
            return _surface(coarse, BONE_HU, spacing, origin, BONE_COLOUR)
        structure = name.removeprefix("structure ")
        if labels is None or structure not in (members := resolve(labels.structures)):
            return None
        mask = _ids_mask(labels, members[structure])
        if mask is None:
            return None
        coarse, spacing, origin = _merged(mask, labels, STRUCTURE_EDGE)
        r, g, b = colour_of(structure)
        opacity = 0.35 if group_of(structure) == SEE_THROUGH else 1.0
        return _surface(coarse, STRUCTURE_SHARE, spacing, origin, (r / 255, g / 255, b / 255, opacity))


def _ids_mask(labels: LabelMap, names: frozenset[str]) -> np.ndarray | None:
    table = np.zeros(max(int(labels.ids.max()), *labels.members, 0) + 1, bool)
    for number, members in labels.members.items():
        table[number] = number > 0 and bool(names & set(members))
    return table[labels.ids] if table.any() else None


def _skin(ct: CT) -> Mesh | None:
    from scipy import ndimage

    coarse, spacing, origin = _merged(ct.hu, ct, SKIN_EDGE)
    body = ndimage.binary_opening(coarse > SKIN_HU)
    pieces, count = ndimage.label(body)
    if not count:
        return None
    body = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    body = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
    return _surface(ndimage.gaussian_filter(body.astype(np.float32), 0.7), 0.5, spacing, origin, SKIN_COLOUR)


def _merged(values: np.ndarray, volume: CT | LabelMap, edge: float) -> tuple[np.ndarray, Triple, Triple]:
    """Means of blocks of about an edge [mm], float32 [z, y, x], with their spacing and origin (x, y, z) [mm]."""
    steps = [max(1, min(round(edge / s), n)) for s, n in zip(volume.spacing, values.shape[::-1], strict=True)]
    dx, dy, dz = steps
    z, y, x = (n // step for n, step in zip(values.shape, steps[::-1], strict=True))
    coarse = np.empty((z, y, x), np.float32)
    for slab in range(z):
        block = values[slab * dz : (slab + 1) * dz, : y * dy, : x * dx].reshape(dz, y, dy, x, dx)
        coarse[slab] = block.mean(axis=(0, 2, 4), dtype=np.float32)
    sx, sy, sz = (s * step for s, step in zip(volume.spacing, steps, strict=True))
    ox, oy, oz = (o + (step - 1) / 2 * s for o, s, step in zip(volume.origin, volume.spacing, steps, strict=True))
    return coarse, (sx, sy, sz), (ox, oy, oz)


def _surface(
    values: np.ndarray, level: float, spacing: Triple, origin: Triple, colour: tuple[float, float, float, float]
) -> Mesh | None:
    """The closed surface at a level; None where there is none."""
    from skimage.measure import marching_cubes

    padded = np.pad(values, 1, constant_values=float(min(values.min(), level - 1)))
    if not padded.max() > level:
        return None
    vertices, faces, normals, _ = marching_cubes(padded, level)
    placed = (vertices - 1) * np.array(spacing[::-1]) + np.array(origin[::-1])
    return Mesh(placed.astype(np.float32), faces.astype(np.int32), lit(normals, colour))


def lit(normals: np.ndarray, colour: Sequence[float]) -> np.ndarray:
    """RGBA float32 [n, 4] of a surface with these unit normals [n, 3]: light that is painted on costs nothing to draw."""
    shade = SHADOW + (1 - SHADOW) * np.abs(normals @ LIGHT)
    colours = np.tile(np.array(colour, np.float32), (len(normals), 1))
    colours[:, :3] *= shade[:, None].astype(np.float32)
    return colours
