"""Where tube and detector stand around the patient, in DICOM's terms and in LPS millimetres."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import ImpossibleGeometry, in_words
from training.images.types import CT, LabelMap, Triple

CHEST_SDD = 1800.0
"""Source-to-detector distance of the standing chest radiograph [mm]."""
CHEST_SID = 1600.0
"""Source-to-isocentre distance that leaves 200 mm between the middle of the patient and the detector [mm]."""
CHEST_FIELD = 430.0
"""Edge of the usual chest detector [mm]."""
PIXELS = 1024
NEAREST_SOURCE = 10.0
"""A tube closer to the volume than this is refused [mm]."""
FURTHEST = 1e6
"""Distances and positions beyond a kilometre are refused [mm]."""
FINEST = 0.001
"""Detector pixels narrower than a micrometre are refused [mm]."""


@dataclass(frozen=True)
class Geometry:
    """One pose of X-ray tube and detector.

    sdd, sid: source-to-detector and source-to-isocentre distance [mm]; primary: positioner primary angle [degrees], LAO
    positive, 0 has the detector in front of the patient (PA), 180 behind (AP), 90 at the left side (left lateral);
    secondary: cranial positive, caudal negative [degrees]; roll: the picture turned clockwise about the central ray [degrees];
    isocentre: (x, y, z) [mm, LPS]; rows, columns: detector pixels; spacing: (row, column) pixel pitch at the detector [mm].
    A detector behind the patient (within 45 degrees of AP) is shown facing the patient: patient right stays on image left.
    """

    sdd: float = CHEST_SDD
    sid: float = CHEST_SID
    primary: float = 0.0
    secondary: float = 0.0
    roll: float = 0.0
    isocentre: Triple = (0.0, 0.0, 0.0)
    rows: int = PIXELS
    columns: int = PIXELS
    spacing: tuple[float, float] = (CHEST_FIELD / PIXELS, CHEST_FIELD / PIXELS)

    def __post_init__(self) -> None:
        if len(self.isocentre) != 3 or len(self.spacing) != 2:
            raise ImpossibleGeometry("A geometry's isocentre is (x, y, z) and its spacing (row, column), both in mm.")
        numbers = (self.sdd, self.sid, self.primary, self.secondary, self.roll, *self.isocentre, *self.spacing)
        if not all(math.isfinite(n) for n in numbers):
            raise ImpossibleGeometry("Every distance and angle of a geometry must be a finite number.")
        if max(abs(n) for n in (self.sdd, self.sid, *self.isocentre, *self.spacing)) > FURTHEST:
            raise ImpossibleGeometry(f"The distances and positions of a geometry stay within a kilometre ({FURTHEST:g} mm).")
        if self.sid <= 0 or self.sdd <= 0:
            raise ImpossibleGeometry(f"Distances from the source are positive; got sid {self.sid:g} mm and sdd {self.sdd:g} mm.")
        if self.sid >= self.sdd:
            raise ImpossibleGeometry(
                f"The isocentre lies between source and detector: make the source-to-isocentre distance (sid, {self.sid:g} mm) "
                f"smaller than the source-to-detector distance (sdd, {self.sdd:g} mm)."
            )
        if abs(self.secondary) > 90:
            raise ImpossibleGeometry(f"The secondary angle lies between -90 and 90 degrees; got {self.secondary:g}.")
        if min(self.rows, self.columns) < 2 or max(self.rows, self.columns) > 8192:
            raise ImpossibleGeometry(f"A detector has 2 to 8192 rows and columns; got {self.rows} x {self.columns}.")
        if min(self.spacing) < FINEST:
            raise ImpossibleGeometry(f"The pixels of a detector are at least {FINEST:g} mm wide; got {self.spacing} mm.")

    @classmethod
    def view(cls, ct: CT | LabelMap, primary: float, secondary: float = 0.0, **changes: Any) -> Geometry:
        """Chest geometry from the given angles [degrees], turning about the centre of the volume; changes are other fields."""
        given: dict[str, Any] = {"isocentre": _centre(ct), "primary": primary, "secondary": secondary, **changes}
        if "spacing" not in given:
            given["spacing"] = tuple(CHEST_FIELD / max(1, given.get(edge, PIXELS)) for edge in ("rows", "columns"))
        return cls(**given)

    @classmethod
    def pa(cls, ct: CT | LabelMap, **changes: Any) -> Geometry:
        """Posterior-anterior chest view: the beam enters at the back, the detector is in front."""
        return cls.view(ct, 0.0, **changes)

    @classmethod
    def ap(cls, ct: CT | LabelMap, **changes: Any) -> Geometry:
        """Anterior-posterior chest view: the beam enters in front, the detector is behind the back."""
        return cls.view(ct, 180.0, **changes)

    @classmethod
    def lateral(cls, ct: CT | LabelMap, **changes: Any) -> Geometry:
        """Left lateral chest view: the left side at the detector, the chest pointing to image left."""
        return cls.view(ct, 90.0, **changes)

    @property
    def beam(self) -> np.ndarray:
        """Unit vector (x, y, z) from source to detector along the central ray [LPS]."""
        a, b = math.radians(self.primary), math.radians(self.secondary)
        return np.array([math.sin(a) * math.cos(b), -math.cos(a) * math.cos(b), math.sin(b)])

    @property
    def faces_back(self) -> bool:
        """True within 45 degrees of AP: the detector is behind the patient, and the picture is turned to face the patient."""
        return math.cos(math.radians(self.primary)) < -math.cos(math.radians(45)) - 1e-9

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (x, y, z) along increasing column and increasing row of the picture [LPS]."""
        a, r = math.radians(self.primary), math.radians(self.roll)
        right = np.array([math.cos(a), math.sin(a), 0.0])
        down = np.cross(right, self.beam)
        if self.faces_back:
            right = -right
        # A picture turned clockwise by r shows at its right what was above by sin(r).
        return math.cos(r) * right - math.sin(r) * down, math.cos(r) * down + math.sin(r) * right

    @property
    def source(self) -> np.ndarray:
        """Focal spot (x, y, z) [mm, LPS]."""
        return np.asarray(self.isocentre, float) - self.sid * self.beam

    @property
    def detector_centre(self) -> np.ndarray:
        """Centre of the detector (x, y, z) [mm, LPS]."""
        return np.asarray(self.isocentre, float) + (self.sdd - self.sid) * self.beam

    def pixel_frame(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the centre of pixel [0, 0] and the steps to the next row and the next column, each (x, y, z) [mm, LPS]."""
        right, down = self.axes
        row_step, column_step = down * self.spacing[0], right * self.spacing[1]
        first = self.detector_centre - (self.rows - 1) / 2 * row_step - (self.columns - 1) / 2 * column_step
        return first, row_step, column_step

    def project(self, points: np.ndarray) -> np.ndarray:
        """Detector (row, column) in pixels, float [n, 2], of points (x, y, z) float [n, 3] in mm, LPS; NaN behind the source."""
        offsets = np.asarray(points, float).reshape(-1, 3) - self.source
        depth = offsets @ self.beam
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(depth > 0, self.sdd / depth, np.nan)
        right, down = self.axes
        row = offsets @ down * scale / self.spacing[0] + (self.rows - 1) / 2
        column = offsets @ right * scale / self.spacing[1] + (self.columns - 1) / 2
        return np.stack([row, column], axis=1)

    def through(self, row: float, column: float) -> Geometry:
        """The pose with the same source whose central ray meets this pixel: a detector of 2 x 2 pixels there, 1 um wide."""
        first, row_step, column_step = self.pixel_frame()
        way = first + row * row_step + column * column_step - self.source
        x, y, z = way / np.linalg.norm(way)
        isocentre = self.source + self.sid * np.array([x, y, z])
        return Geometry(
            sdd=self.sdd, sid=self.sid, primary=math.degrees(math.atan2(x, -y)), secondary=math.degrees(math.asin(z)),
            isocentre=(float(isocentre[0]), float(isocentre[1]), float(isocentre[2])), rows=2, columns=2, spacing=(0.001, 0.001),
        )  # fmt: skip

    @property
    def view_name(self) -> str:
        """ "PA", "AP", "LATERAL" within 15 degrees of the preset (either side for lateral), otherwise "OBLIQUE"."""
        if abs(self.secondary) > 15:
            return "OBLIQUE"
        turn = (self.primary + 180) % 360 - 180
        if abs(turn) <= 15:
            return "PA"
        if abs(turn) >= 165:
            return "AP"
        return "LATERAL" if abs(abs(turn) - 90) <= 15 else "OBLIQUE"

    def resized(self, rows: int, columns: int) -> Geometry:
        """The same field of view on a detector of other pixel counts."""
        spacing = (self.spacing[0] * self.rows / rows, self.spacing[1] * self.columns / columns)
        return replace(self, rows=rows, columns=columns, spacing=spacing)

    def check(self, volume: CT | LabelMap) -> None:
        """Raise ImpossibleGeometry when the source is in or at the volume, or the beam passes it by."""
        low, high = _box(volume)
        source = self.source
        gap = float(np.linalg.norm(np.maximum(np.maximum(low - source, source - high), 0)))
        if gap < NEAREST_SOURCE:
            needed = self.sid + NEAREST_SOURCE + _way_out(source, -self.beam, low, high)
            raise ImpossibleGeometry(
                "The X-ray source would stand inside the patient: "
                f"make the source-to-isocentre distance at least {math.ceil(needed)} mm (now {self.sid:g} mm)."
            )
        corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, -1).T
        shadow = self.project(corners)
        shadow = shadow[np.isfinite(shadow).all(axis=1)]
        if len(shadow) == 0 or _apart(shadow, self.rows - 1, self.columns - 1):
            raise ImpossibleGeometry("The beam passes the volume by: move the isocentre back towards the middle of the volume.")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, ready for JSON; distances in mm, angles in degrees."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Geometry:
        """Read what to_dict wrote. Raises ImpossibleGeometry on missing, foreign or malformed values."""
        names = {f.name for f in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            raise ImpossibleGeometry(f"A geometry holds exactly the values {', '.join(sorted(names))}.")
        try:
            return cls(
                **{k: _number(values[k]) for k in ("sdd", "sid", "primary", "secondary", "roll")},
                isocentre=tuple(_number(v) for v in values["isocentre"]),  # type: ignore[arg-type]
                spacing=tuple(_number(v) for v in values["spacing"]),  # type: ignore[arg-type]
                rows=_whole_number(values["rows"]),
                columns=_whole_number(values["columns"]),
            )
        except (TypeError, OverflowError) as error:
            raise ImpossibleGeometry(f"A value of the geometry is not a number: {error}.") from error

    @classmethod
    def load(cls, path: str | Path) -> Geometry:
        """Read a geometry JSON file. Raises ImpossibleGeometry when it is not one."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            raise ImpossibleGeometry(f"{Path(path).name} is not a geometry JSON file: {in_words(error)}.") from error


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ImpossibleGeometry(f"A value of the geometry is not a number: {value!r:.40}.")
    return float(value)


def _whole_number(value: Any) -> int:
    number = _number(value)
    if not number.is_integer():
        raise ImpossibleGeometry(f"The rows and columns of a geometry are whole numbers; got {value!r:.40}.")
    return int(number)


def _apart(shadow: np.ndarray, last_row: int, last_column: int) -> bool:
    """Whether a line runs between a volume's shadow and the detector, both convex.

    shadow: (row, column) of the corners, [8, 2] in the order of their axes; where some lie behind the source only its box counts.
    """
    detector = np.array([(0, 0), (0, last_column), (last_row, 0), (last_row, last_column)], float)
    across = np.eye(2)
    if len(shadow) == 8:
        edges = [np.diff(shadow.reshape(2, 2, 2, 2), axis=axis).reshape(-1, 2) for axis in range(3)]
        across = np.concatenate([across, np.concatenate(edges)[:, ::-1] * (-1, 1)])
    one, other = shadow @ across.T, detector @ across.T
    return bool(((one.max(axis=0) < other.min(axis=0)) | (one.min(axis=0) > other.max(axis=0))).any())


def voxel_from_patient(volume: CT | LabelMap) -> np.ndarray:
    """Homogeneous 4x4 matrix from patient (x, y, z, 1) [mm, LPS] to voxel index (z, y, x, 1)."""
    matrix = np.zeros((4, 4))
    for axis in range(3):
        matrix[2 - axis, axis] = 1 / volume.spacing[axis]
        matrix[2 - axis, 3] = -volume.origin[axis] / volume.spacing[axis]
    matrix[3, 3] = 1
    return matrix


def _box(volume: CT | LabelMap) -> tuple[np.ndarray, np.ndarray]:
    """Corners (x, y, z) of the volume's outer faces [mm, LPS]."""
    shape = (volume.hu if isinstance(volume, CT) else volume.ids).shape
    spacing, origin = np.asarray(volume.spacing), np.asarray(volume.origin)
    low = origin - spacing / 2
    return low, low + spacing * np.asarray(shape[::-1])


def _centre(volume: CT | LabelMap) -> Triple:
    low, high = _box(volume)
    x, y, z = (low + high) / 2
    return float(x), float(y), float(z)


def _way_out(start: np.ndarray, direction: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Distance from start along direction until the box is left [mm]."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        exits = np.where(direction > 0, (high - start) / direction, (low - start) / direction)
    exits = exits[np.abs(direction) > 1e-12]
    return max(0.0, float(exits.min()))
