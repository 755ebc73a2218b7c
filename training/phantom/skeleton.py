"""Spine, ribs, sternum and costal cartilages."""

from __future__ import annotations

import numpy as np

from training.phantom.canvas import Canvas
from training.phantom.scaffold import LEVELS, PITCH, SIDES, Scaffold, Side, sign
from training.phantom.shapes import Box, Grid, Shape, curve, tube, union

CORTEX, TRABECULAR, DISC, CARTILAGE, CORD, PLEURA = 850.0, 190.0, 85.0, 105.0, 30.0, 20.0
_BODY_LEVELS = (-230, -160, 0, 108, 150)
_BODY_HALF_WIDTH = (24.5, 21, 15.6, 15.5, 12.5)
_BODY_HALF_DEPTH = (18, 16.8, 14.6, 10, 8.4)


def paint_bone(
    canvas: Canvas, shape: Shape, name: str, cortex: float | Shape, trabecular: float = TRABECULAR, dense: float = CORTEX
) -> None:
    """Paint a bone: a cortex around trabecular bone, by this person's bone density; both in HU.

    cortex: its thickness [mm], or the shape of what lies inside it.
    """
    marrow = cortex if isinstance(cortex, Shape) else shape.grown(-cortex)
    canvas.paint(shape, dense * canvas.bone_density, name)
    canvas.paint(marrow, trabecular * canvas.bone_density + canvas.waves(marrow.box, name, 18.0))


def paint_skeleton(canvas: Canvas, scaffold: Scaffold) -> None:
    """Paint the bones of the trunk over everything else."""
    _paint_spine(canvas, scaffold)
    tips: dict[tuple[Side, int], np.ndarray] = {}
    for side in SIDES:
        for number in range(1, 13):
            line = scaffold.rib(side, number)
            tips[side, number] = line[-6:]
            if f"rib_{side}_{number}" not in scaffold.parameters.findings.missing:
                _paint_rib(canvas, scaffold, side, number, line)
    _paint_sternum(canvas, scaffold)
    _paint_cartilages(canvas, scaffold, tips)


class _Frame:
    """A vertebra's own frame: left, posterior, up from the middle of its body [mm]."""

    def __init__(self, grid: Grid, middle: np.ndarray, axes: np.ndarray, reach: tuple[float, float, float]) -> None:
        self.grid, self.middle, self.axes = grid, middle, axes
        low = middle - np.array([reach[0], reach[1] * 0.5, reach[2]])
        high = middle + np.array([reach[0], reach[1], reach[2]])
        self.box: Box = grid.box(low, high)

    def coordinates(self) -> list[np.ndarray]:
        """Return left, posterior, up coordinates [z, y, x] of the box."""
        parts = [p - np.float32(m) for p, m in zip(self.grid.axes(self.box), self.middle, strict=True)]
        return [np.asarray(sum(np.float32(a) * p for a, p in zip(row, parts, strict=True))) for row in self.axes]

    def point(self, left: float, posterior: float, up: float) -> np.ndarray:
        """Return a point of this frame in the patient's."""
        return np.asarray(self.middle + np.array([left, posterior, up]) @ self.axes)


def _paint_spine(canvas: Canvas, scaffold: Scaffold) -> None:
    k = scaffold.size
    heights = np.linspace(canvas.grid.origin[2], canvas.grid.origin[2] + canvas.grid.spacing * canvas.grid.shape[0], 60)
    line = scaffold.spine(heights)
    cord = line + np.array([0, 21 * k, 0])
    for level, pitch in zip(LEVELS, PITCH, strict=True):
        z = scaffold.level(level)
        h = z / k
        half = np.array([np.interp(h, _BODY_LEVELS, _BODY_HALF_WIDTH), np.interp(h, _BODY_LEVELS, _BODY_HALF_DEPTH)]) * k
        frame = _Frame(canvas.grid, scaffold.spine(z), scaffold.spine_axes(z), (56 * k, 86 * k, 44 * k))
        _paint_vertebra(canvas, frame, level, half, pitch * k, k)
    canvas.paint(tube(canvas.grid, cord, 5.5 * k), CORD, "spinal_cord")


def _paint_vertebra(canvas: Canvas, frame: _Frame, level: str, half: np.ndarray, pitch: float, k: float) -> None:
    left, posterior, up = frame.coordinates()
    tall = 0.5 * pitch * 0.80
    waist = 1 - 0.12 * np.clip(1 - (up / tall) ** 2, 0, 1)
    q = np.sqrt((left / (half[0] * waist)) ** 2 + (posterior / (half[1] * waist)) ** 2)
    rho = np.sqrt(left * left + posterior * posterior)
    side = rho * (1 - 1 / np.maximum(q, 0.05))
    body = Shape(frame.box, np.maximum(side, np.abs(up) - tall).astype(np.float32))
    disc = Shape(frame.box, np.maximum(side + 0.5, np.abs(up + pitch / 2) - 0.5 * pitch * 0.24).astype(np.float32))
    canvas.paint(disc, DISC, "intervertebral_discs")
    kind = level[0]
    b = half[1]
    slope = {"C": -6, "T": -20, "L": -5}[kind] * k
    number = int(level[1:])
    reach = {"C": 22, "T": 33 - 0.5 * number if number < 10 else 24 - 2.5 * (number - 10), "L": 38}[kind] * k
    girth = np.array({"C": [[4, 3.4], [3.6, 3]], "T": [[4.8, 4.0], [4.2, 3.4]], "L": [[4.4, 2.8], [3.6, 2.4]]}[kind]) * k
    parts, processes = [], []
    for s in (-1, 1):
        pedicle = [frame.point(s * half[0] * 0.62, b * 0.6, 0.22 * tall), frame.point(s * 14 * k, b + 13 * k, 0.1 * tall)]
        lamina = [frame.point(s * 14 * k, b + 13 * k, 0.1 * tall), frame.point(0, b + 24 * k, -0.35 * tall)]
        backwards = {"C": 6, "T": 13, "L": 6}[kind] * k
        process = [frame.point(s * 14 * k, b + 13 * k, 0.1 * tall), frame.point(s * reach, b + 13 * k + backwards, 0.35 * tall)]
        facet = [frame.point(s * 14.5 * k, b + 14 * k, 0.8 * tall), frame.point(s * 14.5 * k, b + 16 * k, -0.75 * tall)]
        up_axis = frame.axes[2]
        parts.append(tube(canvas.grid, np.array(pedicle), np.array([0.46 * tall, 4.6 * k]), up_axis))
        parts.append(tube(canvas.grid, np.array(lamina), np.array([0.66 * tall, 3.6 * k]), up_axis))
        processes.append(tube(canvas.grid, np.array(process), girth, up_axis))
        parts.append(tube(canvas.grid, np.array(facet), 4.6 * k))
    tip = frame.point(0, b + (24 + {"C": 15, "T": 25, "L": 32}[kind]) * k, -0.35 * tall + slope)
    spinous = np.array([frame.point(0, b + 22 * k, -0.35 * tall), tip])
    height = {"C": 3.6, "T": 6.0, "L": 9.0}[kind] * k
    parts.append(tube(canvas.grid, spinous, np.array([[height, 2.8 * k], [height * 0.8, 3.4 * k]]), frame.axes[2]))
    paint_bone(canvas, union(*processes), f"vertebrae_{level}", 0.5 * k, 100.0, 320.0)
    paint_bone(canvas, union(*parts), f"vertebrae_{level}", 1.1 * k, 190.0, 520.0)
    paint_bone(canvas, body, f"vertebrae_{level}", 1.0 * k, 185.0, 680.0)


def _paint_rib(canvas: Canvas, scaffold: Scaffold, side: Side, number: int, line: np.ndarray) -> None:
    """Paint a rib: a flat band on the rib cage, thick at its neck, tall further on; the first one lies flat."""
    k = scaffold.size
    middle_y = (scaffold.back(line[:, 2]) + scaffold.front(line[:, 2])) / 2
    normals = np.stack([line[:, 0] - scaffold.middle_x(line[:, 2]), (line[:, 1] - middle_y), np.zeros(len(line))], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    if number <= 2:
        normals[:, 2] = 1.4 if number == 1 else 0.5
    u = np.linspace(0, 1, len(line))
    thick = np.interp(u, [0, 0.12, 0.3, 1], [4.4, 3.9, 3.5, 3.1]) * k
    tall = np.interp(u, [0, 0.12, 0.3, 0.8, 1], [5.0, 4.9, 5.7, 6.2, 6.8]) * k
    if number == 1:
        tall = np.interp(u, [0, 0.2, 0.5, 1], [5.0, 6.0, 8.5, 9.5]) * k
    if number >= 8:
        fade = np.interp(u, [0, 0.6, 1], [1, 1, 0.75] if number < 11 else [0.9, 0.8, 0.45])
        thick, tall = thick * fade, tall * fade
    shape = tube(canvas.grid, line, np.stack([thick, tall], axis=1), normals)
    canvas.fill_lung(shape.grown(1.3 * k), PLEURA)
    cortex = np.interp(u, [0, 0.1, 0.22], [0.4, 0.45, 1.0]) * k  # a shell at head and neck, which lie nearly along the beam
    marrow = tube(canvas.grid, line, np.stack([thick - cortex, tall - cortex], axis=1), normals)
    paint_bone(canvas, shape, f"rib_{side}_{number}", marrow, 160.0, 1000.0)


def _paint_sternum(canvas: Canvas, scaffold: Scaffold) -> None:
    k, line = scaffold.size, scaffold.sternum
    h = line[:, 2] / k
    half = np.interp(h, [-82, -56, -50, -20, 20, 34, 40, 60, 76, 80], [3, 6, 15, 19, 15, 13.5, 16, 23, 28, 24]) * k
    half *= 0.92 if scaffold.parameters.sex == "female" else 1.0
    thick = np.interp(h, [-82, -50, 40, 60, 80], [3, 5, 5.2, 6.2, 7.5]) * k
    tangent = np.gradient(line, axis=0)
    normals = np.cross(tangent, np.array([1.0, 0, 0]))
    shape = tube(canvas.grid, line, np.stack([thick, half], axis=1), normals)
    paint_bone(canvas, shape, "sternum", 0.9 * k, 110.0, 600.0)


def _paint_cartilages(canvas: Canvas, scaffold: Scaffold, tips: dict[tuple[Side, int], np.ndarray]) -> None:
    """Paint the cartilages from the front ends of ribs 1 to 10 to the sternum or to the cartilage above."""
    p, k = scaffold.parameters, scaffold.size
    notches = (66, 37, 12, -9, -26, -39, -48)
    for side in SIDES:
        s, joined = sign(side), np.zeros(3)
        shapes = []
        for number in range(1, 11):
            tip = tips[side, number]
            onwards = tip[-1] - tip[0]
            onwards /= np.linalg.norm(onwards)
            if number <= 7:
                z = notches[number - 1] * k
                at = scaffold.sternum_at(z)
                half = (22 if number == 1 else 13 if number < 6 else 10) * k
                end = at + np.array([s * half, 0.5 * k, 0])
            else:
                end = joined
            gap = np.linalg.norm(end - tip[-1])
            bow = tip[-1] + onwards * min(0.3 * gap, 22 * k)
            out = scaffold.cage_point(side, 180 - np.degrees(np.arctan2(abs(end[0]) + 26 * k, 150 * k)), (bow[2] + end[2]) / 2)
            middle = (bow + end) / 2
            if number >= 4:
                middle = 0.5 * middle + 0.5 * np.array([middle[0], out[1], middle[2]])
            line = curve([tip[-2], bow, middle, end] if gap > 25 * k else [tip[-2], end], 30)
            joined = line[14]
            thick = np.linspace(4.2, 4.4, 30) * k
            tall = np.linspace(6.8, 5.6 if number > 1 else 7.0, 30) * k
            normals = np.gradient(line, axis=0)
            normals = np.cross(np.cross(normals, np.array([0, -1.0, 0])), normals)
            shapes.append(tube(canvas.grid, line, np.stack([thick, tall], axis=1), normals))
        shape = union(*shapes)
        soft = ~np.isin(canvas.ids[shape.box], canvas.ids_with("sternum", *(f"rib_{side}_{n}" for n in range(1, 13))))
        shape = Shape(shape.box, np.where(soft, shape.distance, np.float32(9.0)))
        lime = np.clip(canvas.waves(shape.box, f"lime {side}", 0.7) - 0.9 + 2.2 * p.cartilage_calcification, 0, 1)
        canvas.paint(shape, CARTILAGE + lime * 320.0, "costal_cartilages")
