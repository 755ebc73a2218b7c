"""Body wall: skin outline, fat, muscles, shoulders, arms, neck, breasts."""

from __future__ import annotations

import numpy as np

from training.phantom import brush
from training.phantom.canvas import Canvas
from training.phantom.girdle import acromion, clavicle_ends, glenoid, on_ribs, scapula_corners, shoulder_joint, upper_arm
from training.phantom.scaffold import SIDES, Scaffold, Side, sign
from training.phantom.shapes import FAR, Shape, curve, ellipsoid, tube, union

FAT = -100.0
MUSCLE = 52.0
GLAND = -15.0
NEAR = 22.0
"""Muscles closer than this run into one another [mm]."""


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
    flesh = canvas.waves(grid.whole, "fascia", 1.0)
    brush.flesh(flesh, canvas.waves(grid.whole, "marbling", 26.0), np.float32(MUSCLE), np.float32(FAT))
    canvas.paint(Shape(grid.whole, outside), flesh)
    if p.breast:
        _paint_breasts(canvas, scaffold)


def _shoulders_and_neck(canvas: Canvas, scaffold: Scaffold, outside: np.ndarray) -> None:
    """Lower the distance to the muscles [z, y, x] to that of neck, shoulders and arms."""
    tubes = [_neck(canvas, scaffold), _nape(canvas, scaffold)]
    for side in SIDES:
        tubes += _shoulder_muscles(canvas, scaffold, side)
    blend = np.float32(NEAR)
    for shape in tubes:
        part = outside[shape.box]
        near = np.maximum(blend - np.abs(part - shape.distance), 0)
        near[shape.distance >= FAR / 2] = 0
        np.minimum(part, shape.distance, out=part)
        part -= near * near / (4 * blend)


def _neck(canvas: Canvas, scaffold: Scaffold) -> Shape:
    k = scaffold.size
    middle = scaffold.spine(np.array([220, 150, 100, 60]) * k) + np.array([0, -6, 0]) * k
    girth = np.linspace([57, 54], [68, 60], 8) * k * (0.8 + 0.2 * scaffold.parameters.muscle)
    return tube(canvas.grid, curve(middle, 8), girth, (1, 0, 0), margin=NEAR)


def _nape(canvas: Canvas, scaffold: Scaffold) -> Shape:
    """Return the muscles beside the spinous processes of the neck and the upper back, which cover their tips."""
    k = scaffold.size
    middle = scaffold.spine(np.array([210, 160, 125, 90, 50, 0]) * k) + np.array([0, 34, 0]) * k
    middle[:2, 1] -= np.array([12, 6]) * k
    girth = np.array([[40, 26], [44, 30], [50, 37], [52, 40], [50, 38], [40, 28]]) * k
    line = curve(np.hstack([middle, girth]), 10)
    return tube(canvas.grid, line[:, :3], line[:, 3:], (1, 0, 0), margin=NEAR)


def _shoulder_muscles(canvas: Canvas, scaffold: Scaffold, side: Side) -> list[Shape]:
    """Return trapezius, latissimus, pectoral, rotator cuff and arm of one side."""
    p, k, s, grid = scaffold.parameters, scaffold.size, sign(side), canvas.grid
    m = 0.75 + 0.25 * p.muscle
    joint, socket = shoulder_joint(scaffold, side), glenoid(scaffold, side)
    upper, lower = scapula_corners(scaffold, side)
    root = scaffold.spine(128 * k) + np.array([s * 26, 14, 0]) * k
    trapezius = curve([root, 0.55 * root + 0.45 * joint + np.array([0, 6, -14]) * k, joint + np.array([0, 4, -6]) * k], 12)
    flank = joint * [0.82, 1, 1] + np.array([0, 14, -60]) * k
    rib = scaffold.cage_point(side, 75, -60 * k, -6 * k)
    latissimus = curve([joint + np.array([-s * 10, 8, -8]) * k, flank, rib], 10)
    breastbone = scaffold.cage_point(side, 150, 20 * k, 2 * k)
    middle = scaffold.cage_point(side, 118, 42 * k, 14 * k)
    pectoral = curve([joint + np.array([-s * 12, -12, -14]) * k, middle, breastbone], 10)
    cuff = on_ribs(scaffold, side, lower, socket, 8) + np.array([0, 3, 0]) * k
    crest = curve([upper, 0.5 * (upper + acromion(scaffold, side)) + np.array([0, 10, 0]) * k, acromion(scaffold, side)], 10)
    collar = clavicle_ends(scaffold, side, scaffold.sternum_at(76 * k) + np.array([0, 8, 0]) * k)
    clavicle = on_ribs(scaffold, side, *collar, 10)
    return [
        tube(grid, clavicle, np.linspace(19, 21, 10) * k, margin=NEAR),
        tube(grid, trapezius, np.linspace(30, 38, 12) * k * m * np.linspace(p.trapezius, 1, 12), margin=NEAR),
        tube(grid, latissimus, np.linspace(40, 20, 10) * k * m, margin=NEAR),
        tube(grid, pectoral, np.linspace(26, 12, 10) * k * m, margin=NEAR),
        tube(grid, cuff, np.linspace(17, 24, 8) * k * m, margin=NEAR),
        tube(grid, on_ribs(scaffold, side, upper, lower, 8), 17 * k * m, margin=NEAR),
        tube(grid, crest, np.linspace(24, 20, 10) * k, margin=NEAR),
        tube(grid, upper_arm(scaffold, side)[::3], np.linspace(43, 36, 8) * k * m, margin=NEAR),
    ]


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
