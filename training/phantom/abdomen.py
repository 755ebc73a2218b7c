"""Upper abdomen: what lies under the diaphragm and shows on a chest radiograph."""

from __future__ import annotations

import numpy as np

from training.phantom.canvas import Canvas
from training.phantom.lungs import WALL
from training.phantom.scaffold import Scaffold
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
    _paint_liver(canvas, scaffold, Shape(box, np.maximum(inner, under + 4 * k)))
    _paint_hollow_organs(canvas, scaffold, Shape(box, np.maximum(inner, under + 4 * k)))


def _inside(outer: Shape, shape: Shape) -> Shape:
    """Return a shape cut by another one whose box spans the grid's width and depth."""
    z, y, x = shape.box
    top = min(z.stop, outer.box[0].stop)
    low = slice(z.start, max(top, z.start))
    return Shape((low, y, x), np.maximum(shape.distance[: low.stop - low.start], outer.distance[low, y, x]))


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
    for s, z in ((1, -205), (-1, -218)):
        back = scaffold.spine(z * k)[1] / k
        kidney = ellipsoid(grid, np.array([s * 58, back + 16, z]) * k, np.array([26, 24, 52]) * k, rotation("y", -12 * s))
        canvas.paint(_inside(room, kidney), KIDNEY, f"kidney_{'left' if s > 0 else 'right'}")
    spleen = ellipsoid(
        grid, np.array([104, -14, dome - 34]) * k, np.array([30, 46, 44]) * k, rotation("x", 25) @ rotation("z", 20)
    )
    canvas.paint(
        _inside(room, spleen),
        SPLEEN + canvas.waves(spleen.box, "parenchyma", 4.0)[: _inside(room, spleen).distance.shape[0]],
        "spleen",
    )
    gas = p.bowel_gas
    points = [
        (112, -10, -300),
        (116, -14, -240),
        (104, -62, dome - 46),
        (82, -108, dome - 62),
        (36, -128, -205),
        (-30, -128, -222),
    ]
    points += [(-84, -100, -226), (-100, -62, -236), (-104, -40, -300)]
    line = curve(np.asarray(points) * k, 120)
    haustra = 1 + 0.16 * np.sin(np.linspace(0, 62, 120)) + 0.1 * np.sin(np.linspace(0.0, 9.0, 120) + 6 * gas)
    colon = _inside(room, tube(grid, line, (17 + 8 * gas) * k * haustra, margin=6))
    canvas.paint(colon, 30.0, "colon")
    content = np.clip(canvas.waves(colon.box, "stool", 1.0) + 3.0 * gas - 1.4, 0, 1)
    canvas.paint(colon.grown(-2.5), FLUID + content * (GAS - FLUID))
    top = dome - 6
    stomach = union(
        ellipsoid(grid, np.array([58, -46, top - 34]) * k, np.array([36, 36, 36]) * k),
        tube(
            grid,
            curve(np.array([(58, -46, top - 34), (62, -84, top - 70), (44, -110, -205), (4, -116, -222)]) * k, 24),
            np.linspace(34, 20, 24) * k,
        ),
        blend=10 * k,
    )
    stomach = _inside(room, stomach)
    canvas.paint(stomach, 40.0, "stomach")
    inner = stomach.grown(-4.0 * k)
    canvas.paint(inner, FLUID)
    _, y, z = grid.axes(stomach.box)
    level = (top - 14 - 42 * p.gastric_gas) * k - z if p.posture == "upright" else y + (75 - 40 * p.gastric_gas) * k
    canvas.paint(inner.within(np.broadcast_to(level, inner.distance.shape)), GAS)
