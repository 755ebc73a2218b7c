"""Body wall: skin outline, fat, muscles, shoulders, arms, neck, breasts."""

from __future__ import annotations

import numpy as np

from training.phantom.canvas import Canvas
from training.phantom.scaffold import SIDES, Scaffold, Side, sign
from training.phantom.shapes import FAR, Shape, curve, ellipsoid, tube, union

FAT = -100.0
MUSCLE = 52.0
GLAND = -15.0


def shoulder_joint(scaffold: Scaffold, side: Side) -> np.ndarray:
    """Return the middle of the humeral head (x, y, z) [mm]."""
    p, k = scaffold.parameters, scaffold.size
    height = 50 + 112 * np.sin(np.radians(p.clavicle_tilt)) * 0.55 + 0.1 * max(p.arm_elevation, 0)
    return np.array([sign(side) * (158 * p.width - 0.3 * max(p.shoulder_advance, 0)), -18 - p.shoulder_advance, height]) * k


def upper_arm(scaffold: Scaffold, side: Side) -> np.ndarray:
    """Return the middle line of the humerus from its head downwards, [24, 3]."""
    p, k = scaffold.parameters, scaffold.size
    lift = np.radians(p.arm_elevation)
    away = np.array([sign(side) * np.cos(lift), -0.15 - 0.004 * p.shoulder_advance, np.sin(lift)])
    away /= np.linalg.norm(away)
    start = shoulder_joint(scaffold, side)
    return curve([start, start + 12 * k * away, start + 150 * k * away, start + 300 * k * away], 24)


def paint_body(canvas: Canvas, scaffold: Scaffold) -> None:
    """Paint the body's outline with its layers of fat and muscle; everything else goes inside."""
    p, k, grid = scaffold.parameters, scaffold.size, canvas.grid
    x, y, z = grid.axes()
    heights = z[:, 0, 0]
    muscles = np.interp(
        heights, np.array([-260, -160, -90, -20, 30, 62, 75]) * k, np.array([24, 15, 14, 22, 28, 14, -10]) * k * p.muscle
    )
    backwards = np.clip((y - scaffold.spine(heights)[:, 1][:, None, None]) / (60 * k), 0, 1).astype(np.float32)
    back_muscle = 16 * k * p.muscle * np.exp(-((x / (58 * k)) ** 2)).astype(np.float32) * backwards
    outside = -canvas.cage_depth - muscles.astype(np.float32)[:, None, None] - back_muscle
    outside += canvas.waves(grid.whole, "muscles", 1.2 * k)
    _shoulders_and_neck(canvas, scaffold, outside)
    belly = np.interp(heights, np.array([-230, -120, 20, 80]) * k, [1.35, 1.0, 0.8, 0.55])
    fat = (p.fat * belly).astype(np.float32)[:, None, None]
    skin = outside - fat - canvas.waves(grid.whole, "skin", 0.06 * p.fat)
    canvas.paint(Shape(grid.whole, skin), FAT + canvas.waves(grid.whole, "fat", 6.0))
    canvas.ids[skin < 0] = canvas.id_of()
    marbling = np.minimum(canvas.waves(grid.whole, "marbling", 26.0), 8.0)
    canvas.paint(Shape(grid.whole, outside), MUSCLE + marbling)
    if p.breast:
        _paint_breasts(canvas, scaffold)


def _shoulders_and_neck(canvas: Canvas, scaffold: Scaffold, outside: np.ndarray) -> None:
    """Lower the distance to the muscles [z, y, x] to that of neck, shoulders and arms."""
    p, k = scaffold.parameters, scaffold.size
    m = 0.75 + 0.25 * p.muscle
    spine = scaffold.spine(np.array([220, 150, 100, 60]) * k)
    neck = spine + np.array([0, -8, 0]) * k
    tubes = [tube(canvas.grid, curve(neck, 12), np.linspace([56, 54], [70, 62], 12) * k * m, (1, 0, 0), margin=45)]
    for side in SIDES:
        s, joint = sign(side), shoulder_joint(scaffold, side)
        root = scaffold.spine(128 * k) + np.array([s * 26, 14, 0]) * k
        trapezius = curve([root, 0.55 * root + 0.45 * joint + np.array([0, 6, -14]) * k, joint + np.array([0, 4, -6]) * k], 12)
        tubes.append(tube(canvas.grid, trapezius, np.linspace(30, 38, 12) * k * m, margin=45))
        flank = joint * [0.82, 1, 1] + np.array([0, 14, -60]) * k
        rib = scaffold.cage_point(side, 75, -60 * k, -6 * k)
        tubes.append(
            tube(
                canvas.grid,
                curve([joint + np.array([-s * 10, 8, -8]) * k, flank, rib], 10),
                np.linspace(40, 20, 10) * k * m,
                margin=45,
            )
        )
        pectoral = scaffold.cage_point(side, 150, 20 * k, 2 * k)
        middle = scaffold.cage_point(side, 118, 42 * k, 14 * k)
        tubes.append(
            tube(
                canvas.grid,
                curve([joint + np.array([-s * 12, -12, -14]) * k, middle, pectoral], 10),
                np.linspace(26, 12, 10) * k * m,
                margin=45,
            )
        )
        tubes.append(tube(canvas.grid, upper_arm(scaffold, side), np.linspace(44, 37, 24) * k * m, margin=45))
    blend = np.float32(22 * k)
    for shape in tubes:
        part = outside[shape.box]
        near = np.maximum(blend - np.abs(part - shape.distance), 0)
        near[shape.distance >= FAR / 2] = 0
        np.minimum(part, shape.distance, out=part)
        part -= near * near / (4 * blend)


def _paint_breasts(canvas: Canvas, scaffold: Scaffold) -> None:
    p, k = scaffold.parameters, scaffold.size
    r = p.breast * k
    for side in SIDES:
        lying = p.posture == "supine"
        at = scaffold.cage_point(side, 134 if lying else 140, -46 * k) + np.array([0, -p.fat * 0.6 - 6, -p.breast_sag * k])
        high = scaffold.cage_point(side, 128, -14 * k) + np.array([0, -p.fat * 0.4, 0])
        bulge = np.array([1.08, 0.5 if lying else 0.8, 1.05]) * r
        parts = [ellipsoid(canvas.grid, middle, radii, margin=0.5 * r) for middle, radii in ((at, bulge), (high, 0.75 * bulge))]
        shape = union(*parts, blend=0.8 * r)
        shape = Shape(shape.box, shape.distance + canvas.waves(shape.box, f"breast {side}", 1.5))
        in_air = canvas.ids[shape.box] == 0
        outside = Shape(shape.box, np.where(in_air, shape.distance, np.float32(FAR)))
        gland = FAT + (GLAND - FAT) * np.clip(0.45 + canvas.waves(shape.box, "gland", 0.4), 0, 1)
        core = np.clip(0.5 - (shape.distance + 9) / 6, 0, 1)
        canvas.paint(outside, FAT + core * (gland - FAT))
        ids = canvas.ids[shape.box]
        ids[in_air & (shape.distance < 0)] = canvas.id_of()
