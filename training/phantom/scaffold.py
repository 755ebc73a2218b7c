"""The landmarks of one person's thorax: spine, rib cage, diaphragm. Every organ is placed by them.

Frame: DICOM LPS in millimetres with the centre of T6's body at z = 0. The reference adult (size 1) is a tall man; his
proportions were read off two public CTs, LIDC-IDRI-0001 (TCIA) and s0011 of the TotalSegmentator data set (Zenodo).
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from training.phantom import brush
from training.phantom.parameters import ThoraxParameters
from training.phantom.shapes import curve

LEVELS = ("C5", "C6", "C7", *(f"T{i}" for i in range(1, 13)), "L1", "L2")
PITCH = (17, 17, 18, 19, 21, 22, 22.5, 22.5, 24, 24.5, 26, 27, 28, 30, 32, 34, 35)
"""Height of each vertebra with its disc [mm]."""
_CAGE_Z = (-260, -220, -160, -125, -75, -26, 0, 34, 60, 76, 90, 104, 113)
_HALF_WIDTH = (138, 142, 147, 147, 145, 140, 136, 130, 121, 112, 100, 82, 62)
_FRONT = (-140, -148, -155, -156, -154, -147, -136, -120, -106, -94, -84, -73, -62)
_BACK_BEHIND_SPINE = (45, 46, 48, 48, 48, 45, 42, 38, 36, 34, 31, 26, 22)
ROUNDNESS = 2.25
"""Exponent of the superellipse that a horizontal section of the rib cage is: 2 an ellipse, more is squarer."""
RIB_DROP = (48, 66, 80, 90, 98, 110, 120, 122, 118, 120, 104, 58)
"""Descent of each rib from head to front end [mm]."""
RIB_END = (158, 150, 145, 143, 140, 134, 127, 116, 104, 90, 74, 44)
"""Where each rib's bone ends, as an angle around the chest: 0 at the back, 180 at the sternum [degrees]."""
LEAST_ROOM = 36.0
"""From the spine to the front of the rib cage at least [mm], also in a bent back."""
ONE_VERTEBRA = (1, 11, 12)
"""Ribs whose heads meet one vertebra only, at its middle; the others lie at the disc above."""
CAGE_FROM = 50.0
"""How far beside the spine a rib has come out to the surface of the rib cage, obliquely from its tubercle [mm]."""
FIRST_RIB_START = 62.0
"""Where the first rib, which is nearly a half circle, leaves its tubercle around the chest [degrees]."""
LIFT_AFTER_LOBECTOMY = 9.0
"""How much higher the diaphragm stands for each resected lobe [mm]."""
Side = Literal["left", "right"]
DRIFT: dict[Side, float] = {"left": 26.0, "right": 42.0}
"""How far the front of the heart moves over into the room of a lung that was taken out [mm]; it lies to the left before."""
LOBES_OF: dict[Side, int] = {"left": 2, "right": 3}
SIDES: tuple[Side, Side] = ("left", "right")


def sign(side: Side) -> int:
    """Return +1 for left (x grows to patient left), -1 for right."""
    return 1 if side == "left" else -1


class Scaffold:
    """Landmarks of a person. All points (x, y, z) [mm]; functions of z take and return arrays."""

    def __init__(self, parameters: ThoraxParameters) -> None:
        self.parameters = p = parameters
        self.size = p.size
        middles = np.cumsum(PITCH) - np.asarray(PITCH) / 2
        self._level_z = dict(zip(LEVELS, (middles[LEVELS.index("T6")] - middles) * p.size, strict=True))
        z = np.asarray(_CAGE_Z, dtype=float)
        width = np.asarray(_HALF_WIDTH) * (1 - 0.07 * p.taper * np.clip((z + 60) / 120, -1, 1)) * p.width
        width *= 1 + (p.upper_width - 1) * np.clip(z / 70, 0, 1)
        z = z * p.size
        self._half_width = PchipInterpolator(z, width * p.size)
        self._front = PchipInterpolator(
            z, np.asarray(_FRONT) * (1 + (p.depth - 1) * np.clip((115 - np.asarray(_CAGE_Z)) / 100, 0, 1)) * p.size
        )
        self._behind = PchipInterpolator(z, np.asarray(_BACK_BEHIND_SPINE) * p.size)

    def level(self, name: str) -> float:
        """Return the height z [mm] of a vertebra's middle."""
        return float(self._level_z[name])

    def spine(self, z: ArrayLike) -> np.ndarray:
        """Return the middle of the vertebral bodies at heights z [n], as points [n, 3]."""
        p, h = self.parameters, np.asarray(z, dtype=float) / self.size
        above, below = np.clip(h + 60, 0, 170) / 100, np.clip(-60 - h, 0, None) / 100
        neck = np.clip(h - 110, 0, None)
        slope = 2 * p.kyphosis * 1.7 / 100
        y = 0.36 * p.kyphosis - p.kyphosis * above**2 - p.lordosis * below**2 - slope * neck * np.exp(-neck / 60)
        bend = np.exp(-(((h + 60) / 140) ** 2))
        x = p.scoliosis * bend * np.sin(h / 75 + p.scoliosis_phase)
        return np.stack([x * self.size, y * self.size, np.asarray(z, dtype=float)], axis=-1)

    def spine_axes(self, z: float) -> np.ndarray:
        """Return the rows left, posterior and up of a vertebra's own frame [3, 3]."""
        up = np.diff(self.spine([z - 3.0, z + 3.0]), axis=0)[0]
        up /= np.linalg.norm(up)
        left = np.cross(np.array([0.0, 1.0, 0.0]), up)
        left /= np.linalg.norm(left)
        return np.stack([left, np.cross(up, left), up])

    def middle_x(self, z: ArrayLike) -> np.ndarray:
        """Return x of the rib cage's middle: it follows a scoliotic spine half-way."""
        return np.asarray(0.5 * self.spine(z)[..., 0])

    def half_width(self, z: ArrayLike, side: Side) -> np.ndarray:
        """Return the half-width of the rib cage [mm], from its middle to the middle of the lateral rib."""
        return np.asarray(self._half_width(self._clip(z))) * (1 + sign(side) * self.parameters.asymmetry)

    def front(self, z: ArrayLike) -> np.ndarray:
        """Return y of the rib cage's front in its middle."""
        ahead_of_spine = self.spine(self._clip(z))[..., 1] - LEAST_ROOM * self.size
        return np.minimum(self._front(self._clip(z)), ahead_of_spine)

    def back(self, z: ArrayLike) -> np.ndarray:
        """Return y of the rib cage's back: the rib angles."""
        return np.asarray(self.spine(self._clip(z))[..., 1] + self._behind(self._clip(z)))

    def _clip(self, z: ArrayLike) -> np.ndarray:
        return np.clip(np.asarray(z, dtype=float), _CAGE_Z[0] * self.size, _CAGE_Z[-1] * self.size)

    def cage_point(self, side: Side, angle: ArrayLike, z: ArrayLike, outwards: ArrayLike = 0.0) -> np.ndarray:
        """Return points [n, 3] on the rib cage at angles around the chest [degrees, 0 back, 180 front] and heights z."""
        turn, height = np.broadcast_arrays(np.radians(np.asarray(angle, dtype=float)), np.asarray(z, dtype=float))
        back, front = self.back(height), self.front(height)
        sine, cosine = np.sin(turn), np.cos(turn)
        over = np.abs(sine) / self.half_width(height, side), np.abs(cosine) / ((back - front) / 2)
        radius = (over[0] ** ROUNDNESS + over[1] ** ROUNDNESS) ** (-1 / ROUNDNESS) + outwards
        return np.stack(
            [self.middle_x(height) + sign(side) * radius * sine, (back + front) / 2 + radius * cosine, height], axis=-1
        )

    def rib(self, side: Side, number: int, count: int = 70) -> np.ndarray:
        """Return the middle line of a rib's bone from its head to its front end, [count, 3]."""
        p, i = self.parameters, number - 1
        level = f"T{number}"
        pitch = PITCH[LEVELS.index(level)] * self.size
        above = self.level(level) + (0.15 if number in ONE_VERTEBRA else 0.40) * pitch
        sweep = np.linspace(12, 75, 64)
        beside_tubercle = np.abs(self.cage_point(side, sweep, above)[:, 0] - self.middle_x(above)) > CAGE_FROM * self.size
        start = float(sweep[beside_tubercle.argmax()]) if number > 1 and beside_tubercle.any() else FIRST_RIB_START
        end = float(RIB_END[i])
        u = np.linspace(0, 1, 14)
        angle = start + (end - start) * u
        bend = p.rib_bend if number > 1 else 0.0
        fall = (1 - bend) * np.sin(np.pi / 2 * u) + bend * (1 - np.cos(np.pi * u)) / 2
        z = above - 0.04 * pitch - RIB_DROP[i] * self.size * p.rib_slope * fall
        cage = self.cage_point(side, angle, z)
        body, axes = self.spine(above), self.spine_axes(above)
        s = sign(side) * self.size
        head = body + axes[0] * 17 * s + axes[1] * 7 * self.size
        tubercle = body + axes[0] * 33 * s + axes[1] * 27 * self.size - axes[2] * 1.5 * self.size
        return curve(np.concatenate([[head, (head + tubercle) / 2 + axes[1] * 2 * self.size, tubercle], cage]), count)

    @cached_property
    def sternum(self) -> np.ndarray:
        """Middle line of the sternum from the jugular notch to the tip of the xiphoid, [40, 3]."""
        heights = np.array([80, 58, 36, 10, -20, -52, -82]) * self.size
        line = np.stack([self.middle_x(heights), self.front(heights) + 0.5 * self.size, heights], axis=-1)
        line[-1, 1] += 4 * self.size
        return curve(line, 40)

    def sternum_at(self, z: float) -> np.ndarray:
        """Return the sternum's middle at a height."""
        line = self.sternum[::-1]
        return np.array([np.interp(z, line[:, 2], line[:, 0]), np.interp(z, line[:, 2], line[:, 1]), z])

    def place(self, x: float, y: float, z: float) -> np.ndarray:
        """Return a point of the reference adult's mediastinum moved to this person [mm]: with the spine, behind the sternum."""
        p, k = self.parameters, self.size
        bend = float(self.spine(z * k)[1] - _reference_spine(z) * k)
        forward = y * (1 + 0.8 * (p.depth - 1)) * k + 0.9 * bend
        behind_sternum = float(self.front(z * k)) + 15 * k
        sideways = float(self.middle_x(z * k)) + float(self.drift(y * k, z * k))
        return np.array([x * k + sideways, max(forward, behind_sternum), z * k])

    def drift(self, y: ArrayLike, z: ArrayLike) -> np.ndarray:
        """Return how far to the left [mm] the mediastinum at y, z [mm] has moved into the room of resected lobes.

        Most at the front of the heart, little before the spine, not at all in the neck and below the diaphragm.
        """
        pull = sum(sign(side) * DRIFT[side] * (self._resected(side) / LOBES_OF[side]) ** 1.5 for side in SIDES)
        height = np.interp(np.asarray(z) / self.size, [-180, -110, -40, 40, 100, 150], [0, 0.8, 1, 0.55, 0.25, 0])
        front = np.interp(np.asarray(y) / self.size, [-110, -60, -15], [1, 0.9, 0.3])
        return np.asarray(pull * self.size * height * front)

    def lung_is_missing(self, side: Side) -> bool:
        """Return whether a whole lung was taken out."""
        return self._resected(side) >= LOBES_OF[side]

    def _resected(self, side: Side) -> int:
        return sum(name.startswith("lung_") and name.endswith(side) for name in self.parameters.findings.missing)

    def dome(self, side: Side) -> float:
        """Return the height z [mm] of the top of one dome of the diaphragm."""
        p = self.parameters
        lower = p.dome_difference if side == "left" else 0.0
        return (-102.0 - 24.0 * p.inflation - lower + LIFT_AFTER_LOBECTOMY * self._resected(side)) * self.size

    def cage_depth(self, x: np.ndarray, y: np.ndarray, z: np.ndarray | float) -> np.ndarray:
        """Return how deep points lie inside the middle of the ribs [mm, negative outside], horizontally: float32 [z, y, x].

        x, y, z are the axes of a grid, shaped to broadcast; z may be one height, x and y then give a plane.
        """
        height = np.asarray(z, dtype=float)
        back, front = self.back(height), self.front(height)
        middle, half = (self.middle_x(height), (back - front) / 2)
        middle_y, widths = (back + front) / 2, [self.half_width(height, side) for side in SIDES]
        frame = np.stack(np.broadcast_arrays(middle, middle_y, *widths, half)).reshape(5, -1)
        shape = np.broadcast_shapes(x.shape, y.shape, height.shape)
        return brush.depth(np.ravel(x), np.ravel(y), frame.astype(np.float32), np.float32(ROUNDNESS)).reshape(shape)

    def diaphragm(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the height z [mm] of the diaphragm's upper face over points x [1, n], y [m, 1]: float32 [m, n]."""
        k = self.size
        reference = -130.0 * k
        depth = self.cage_depth(x, y, reference)
        middle = (self.back(reference) + self.front(reference)) / 2
        half = (self.back(reference) - self.front(reference)) / 2
        backwards = np.clip((y - middle) / half, -1, 1)
        rim = np.interp(backwards, [-1, -0.4, 0.1, 0.7, 1], np.array([-128, -142, -154, -177, -191]) * k)
        rim = rim - 9 * k * self.parameters.inflation
        reach = np.interp(backwards, [-1, 0, 1], np.array([64, 76, 98]) * k)
        rise = np.clip(depth / reach, 0, 1)
        left = 1 / (1 + np.exp(-(x - self.middle_x(reference)) / (14 * k)))
        top = self.dome("right") * (1 - left) + self.dome("left") * left
        behind = np.clip(backwards + 0.15, 0, 1)
        between = np.exp(-(((x - 20 * k) / (46 * k)) ** 2))
        top = top - 26 * k * behind**1.5 - (22 + 16 * behind) * k * between
        return np.asarray(rim + (top - rim) * (1 - (1 - rise) ** 2.0) ** 0.9, dtype=np.float32)


@cache
def _reference_scaffold() -> Scaffold:
    return Scaffold(ThoraxParameters(size=1.0))


def _reference_spine(z: float) -> float:
    """Return y of the reference adult's vertebral bodies at a height [mm]."""
    return float(_reference_scaffold().spine(z)[1])
