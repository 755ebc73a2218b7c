"""Upper abdomen: what lies under the diaphragm and shows on a chest radiograph."""

from __future__ import annotations

import numpy as np

from training.phantom.canvas import Canvas
from training.phantom.lungs import WALL
from training.phantom.scaffold import Scaffold, Side, sign
from training.phantom.shapes import Shape, curve, ellipsoid, rotation, tube, union

LIVER, SPLEEN, KIDNEY, FLUID, GAS, FAT, DIAPHRAGM = 60.0, 50.0, 35.0, 15.0, -990.0, -95.0, 45.0


def paint_abdomen(canvas: Canvas, scaffold: Scaffold) -> None:
    """Fill the room under the diaphragm: fat and bowel, liver, spleen, stomach, colon, kidneys."""
    k, grid = scaffold.size, canvas.grid
    x, y, z = grid.axes()
    top = grid.box((0, 0, -1e4), (0, 0, max(scaffold.dome("right"), scaffold.dome("left")) + 10))[0].stop
    box = (slice(0, top), *grid.whole[1:])
    z = z[:top]
    floor = scaffold.diaphragm(x[0], y[0])[None]
    wall = np.where(z < -150 * k, 3.0, WALL).astype(np.float32) * k - canvas.cage_depth[:top]
    under = np.float32(0.75) * (z - floor)
    spine = scaffold.spine(z[:, 0, 0]).astype(np.float32)
    sx, sy = spine[:, 0][:, None, None], spine[:, 1][:, None, None]
    behind = (1 - np.sqrt(((x - sx) / (44 * k)) ** 2 + ((y - sy - 22 * k) / (36 * k)) ** 2)) * 30 * k
    cavity = np.maximum(np.maximum(wall, under), behind)
    canvas.paint(Shape(box, cavity), DIAPHRAGM)
    inner = np.maximum(np.maximum(wall, under + 3 * k), behind)
    bowel = np.clip(canvas.waves(box, "bowel", 1.0), -1.2, 1.2)
    canvas.paint(Shape(box, inner), FAT + 60 + 60 * bowel)
    canvas.ids[box][cavity < 0] = canvas.id_of()
    _paint_liver(canvas, scaffold, Shape(box, np.maximum(inner, under + 3 * k)))
    _paint_hollow_organs(canvas, scaffold, Shape(box, np.maximum(inner, under + 3 * k)))


def _inside(outer: Shape, shape: Shape, blend: float = 0.0) -> Shape:
    """Return a shape cut by another one whose box spans the grid's width and depth; blend [mm] rounds the edges of the cut."""
    z, y, x = shape.box
    top = min(z.stop, outer.box[0].stop)
    low = slice(z.start, max(top, z.start))
    own, limit = shape.distance[: low.stop - low.start], outer.distance[low, y, x]
    distance = np.maximum(own, limit)
    if blend:
        overlap = np.maximum(np.float32(blend) - np.abs(own - limit), 0)
        distance += overlap * overlap / np.float32(4 * blend)
    return Shape((low, y, x), distance)


def _paint_liver(canvas: Canvas, scaffold: Scaffold, room: Shape) -> None:
    k = scaffold.size
    x, y, z = canvas.grid.axes(room.box)
    edge = np.interp(x[0, 0], np.array([-150, -60, 0, 50, 85]) * k, np.array([-262, -225, -165, -128, -95]) * k).astype(
        np.float32
    )
    edge = edge + 0.15 * (y + 60 * k)
    distance = np.maximum(room.distance, (edge - z) * np.float32(0.8))
    distance = np.maximum(distance, np.maximum(x - 74 * k, (x - 40 * k) * 0.6 + (y + 95 * k) * 0.45))
    distance += canvas.waves(room.box, "liver", 1.2 * k)
    near_spine = scaffold.spine(z[:, 0, 0])[:, 1].astype(np.float32)[:, None, None]
    distance = np.maximum(distance, np.minimum(x + 34 * k, y - near_spine + 34 * k))
    canvas.paint(Shape(room.box, distance), LIVER + canvas.waves(room.box, "parenchyma", 5.0), "liver")
    canvas.keep_largest(FAT, "liver")


def _paint_hollow_organs(canvas: Canvas, scaffold: Scaffold, room: Shape) -> None:
    p, k, grid = scaffold.parameters, scaffold.size, canvas.grid
    dome = scaffold.dome("left") / k
    sides: tuple[tuple[Side, float], ...] = (("left", -205), ("right", -218))
    for side, z in sides:
        s = sign(side)
        middle = scaffold.spine(z * k) + np.array([s * 58, 16, 0]) * k
        kidney = ellipsoid(grid, middle, np.array([26, 24, 52]) * k, rotation("y", -12 * s))
        canvas.paint(_inside(room, kidney), KIDNEY, f"kidney_{side}")
    _paint_colon(canvas, scaffold, room)
    if "spleen" not in p.findings.missing:  # before the stomach, which presses into it
        spleen_axes = rotation("x", 25) @ rotation("z", 20)
        spleen = _inside(room, ellipsoid(grid, np.array([106, -8, dome - 36]) * k, np.array([31, 55, 54]) * k, spleen_axes))
        canvas.paint(spleen, SPLEEN + canvas.waves(spleen.box, "parenchyma", 4.0), "spleen")
    top = dome - 6
    fundus = ellipsoid(grid, np.array([50, -45, top - 30]) * k, np.array([43, 38, 31]) * k, rotation("y", -14))
    body = curve(np.array([(50, -48, top - 40), (58, -84, top - 72), (44, -110, -205), (4, -116, -222)]) * k, 24)
    stomach = union(fundus, tube(grid, body, np.linspace(30, 20, 24) * k), blend=14 * k)
    wavy = stomach.distance + canvas.waves(stomach.box, "stomach", 2.6 * k)
    stomach = _inside(room, Shape(stomach.box, wavy), blend=14 * k)
    canvas.paint(stomach, 40.0, "stomach")
    inner = stomach.grown(-4.0 * k)
    canvas.paint(inner, FLUID)
    _, y, height = grid.axes(stomach.box)
    level = (top - 14 - 42 * p.gastric_gas) * k - height if p.posture == "upright" else y + (75 - 40 * p.gastric_gas) * k
    canvas.paint(inner.within(np.broadcast_to(level, inner.distance.shape)), GAS)


def _paint_colon(canvas: Canvas, scaffold: Scaffold, room: Shape) -> None:
    """Paint the colon as it frames the upper abdomen, with haustra, gas and stool."""
    k, gas, dome = scaffold.size, scaffold.parameters.bowel_gas, scaffold.dome("left") / scaffold.size
    course = [(112, -10, -300), (116, -14, -240), (104, -62, dome - 46), (82, -108, dome - 62), (36, -128, -205)]
    course += [(-30, -128, -222), (-84, -100, -226), (-100, -62, -236), (-104, -40, -300)]
    haustra = 1 + 0.16 * np.sin(np.linspace(0, 62, 120)) + 0.1 * np.sin(np.linspace(0.0, 9.0, 120) + 6 * gas)
    line = curve(np.asarray(course) * k, 120)
    colon = _inside(room, tube(canvas.grid, line, (17 + 8 * gas) * k * haustra, margin=6))
    canvas.paint(colon, 30.0, "colon")
    content = np.clip(canvas.waves(colon.box, "stool", 1.0) + 3.0 * gas - 1.4, 0, 1)
    canvas.paint(colon.grown(-2.5), FLUID + content * (GAS - FLUID))
