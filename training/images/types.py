"""What is read from files: CT, label map, radiograph. Arrays are [z, y, x] or [row, column]; millimetres (x, y, z) in LPS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from training.errors import ChexanatomyError
from training.images.turning import AS_STORED, Turn
from training.plain import plain

Triple = tuple[float, float, float]
LONGEST_NAME = 120
"""Characters of a name that are kept."""


@dataclass(frozen=True)
class CT:
    """A CT volume, axis-aligned in DICOM's LPS frame (x to patient left, y to posterior, z to superior).

    hu: int16 [z, y, x] in HU; spacing: (x, y, z) voxel edge lengths [mm], all positive; origin: (x, y, z) of the centre of
    voxel [0, 0, 0] in mm, LPS; name: a short label without patient data; notes: plain sentences on what reading changed.
    """

    hu: np.ndarray
    spacing: Triple
    origin: Triple
    name: str = "CT"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _make_plain(self)
        if self.hu.ndim != 3 or self.hu.dtype != np.int16:
            raise ChexanatomyError(f"A CT volume is int16 [z, y, x]; this one is {self.hu.dtype} with {self.hu.ndim} dimensions.")
        if min(self.spacing) <= 0:
            raise ChexanatomyError(f"A CT's voxel spacing is positive; this one is {self.spacing} mm.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        z, y, x = self.hu.shape
        return z, y, x

    @property
    def size(self) -> Triple:
        """Edge lengths of the whole volume along (x, y, z) [mm]."""
        z, y, x = self.hu.shape
        return x * self.spacing[0], y * self.spacing[1], z * self.spacing[2]

    @property
    def centre(self) -> Triple:
        """Middle of the volume (x, y, z) [mm, LPS]."""
        z, y, x = self.hu.shape
        ox, oy, oz = self.origin
        sx, sy, sz = self.spacing
        return ox + sx * (x - 1) / 2, oy + sy * (y - 1) / 2, oz + sz * (z - 1) / 2


@dataclass(frozen=True)
class LabelMap:
    """Structures on a CT's grid. One id may stand for several overlapping structures.

    ids: uint8 or uint16 [z, y, x], 0 is nothing; members: id -> structure names (vocabulary keys where known, otherwise the
    file's own names); spacing, origin: as in CT; notes: plain sentences on what reading changed.
    """

    ids: np.ndarray
    members: Mapping[int, tuple[str, ...]]
    spacing: Triple
    origin: Triple
    name: str = "labels"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _make_plain(self)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        z, y, x = self.ids.shape
        return z, y, x

    @property
    def structures(self) -> tuple[str, ...]:
        """Every structure that some id stands for, in the order of the ids, each once. Composites are not listed."""
        return tuple(dict.fromkeys(name for i in sorted(self.members) for name in self.members[i]))

    def mask(self, *structures: str) -> np.ndarray:
        """Return bool [z, y, x]: voxels that belong to any of the named structures."""
        wanted = [i for i, names in self.members.items() if set(names) & set(structures)]
        return np.isin(self.ids, wanted)


@dataclass(frozen=True)
class Radiograph:
    """A radiograph: pixels float32 [row, column] in 0..1, bone bright, feet down, patient right on image left for PA and AP.

    spacing: (row, column) pixel pitch at the detector [mm], None where unknown; view: "PA", "AP", "LATERAL" or "" where
    unknown; name: a short label without patient data; notes: plain sentences on what reading changed; reconstructed: known to be
    reckoned from a CT, not taken of a person; turn: how the pixels were turned from the file's own grid.
    """

    pixels: np.ndarray
    spacing: tuple[float, float] | None = None
    view: str = ""
    name: str = "radiograph"
    notes: tuple[str, ...] = field(default=())
    reconstructed: bool = False
    turn: Turn = AS_STORED

    def __post_init__(self) -> None:
        _make_plain(self)
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32:
            raise ChexanatomyError(
                f"A radiograph is float32 [row, column]; this one is {self.pixels.dtype} with {self.pixels.ndim} dimensions."
            )


def _make_plain(volume: CT | LabelMap | Radiograph) -> None:
    """Name and notes repeat words of files, which are shown in windows and on terminals: keep them to one plain line each."""
    object.__setattr__(volume, "name", plain(volume.name, LONGEST_NAME))
    object.__setattr__(volume, "notes", tuple(plain(note) for note in volume.notes))
