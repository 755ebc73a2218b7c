"""Lungs: five lobes in the room between ribs, diaphragm and mediastinum, with branching vessels."""

from __future__ import annotations

import numpy as np

from training.phantom.canvas import Canvas
from training.phantom.scaffold import SIDES, Scaffold, Side, sign
from training.phantom.shapes import Shape, strands

LOBES = {
    "left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
}
BLOOD = 40.0
FAT = -85.0
WALL = 2.6
"""From the ribs' middle surface to the pleura between them [mm]; the ribs themselves stand out into the lung."""


def paint_lungs(canvas: Canvas, scaffold: Scaffold) -> None:
    """Fill the chest above the diaphragm, left and right of the middle, with lung; the mediastinum is painted over it."""
    p, k, grid = scaffold.parameters, scaffold.size, canvas.grid
    x, y, z = grid.axes()
    heights = z[:, 0, 0]
    distance = WALL * k - canvas.cage_depth
    apex = (107 * k - 0.014 / k * ((np.abs(x) - 36 * k) ** 2 + (y - scaffold.spine(105 * k)[1] + 8 * k) ** 2)).astype(np.float32)
    np.maximum(distance, z - apex, out=distance)
    floor = scaffold.diaphragm(x[0], y[0])
    np.maximum(distance, np.float32(0.75) * (floor[None] - z), out=distance)
    spine = scaffold.spine(heights).astype(np.float32)
    sx, sy = spine[:, 0][:, None, None], spine[:, 1][:, None, None]
    q = np.sqrt(((x - sx) / (33 * k)) ** 2 + ((y - sy - 26 * k) / (32 * k)) ** 2)
    np.maximum(distance, (1 - q) * 30 * k, out=distance)
    q = np.sqrt(((x - sx) / (21 * k)) ** 2 + ((y - sy) / (20 * k)) ** 2)
    np.maximum(distance, (1 - q) * 20 * k, out=distance)
    distance += canvas.waves(grid.whole, "pleura", 0.7 * k)
    bend = canvas.waves((slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, 1)), "junction", 3.0 * k)
    slant = np.float32(p.junction_slant) * (y + 60 * k)
    middle = bend + slant + (sx * np.float32(0.6) + np.float32(2 * k)).astype(np.float32)
    gap = np.interp(heights, np.array([-120, 60, 100]) * k, np.array([0.5, 0.8, 14]) * k).astype(np.float32)[:, None, None]
    canvas.paint(Shape(grid.whole, distance), FAT + canvas.waves(grid.whole, "mediastinal fat", 15.0))
    air = p.lung_hu + canvas.waves(grid.whole, "lung", 11.0) - 0.10 / k * (z + 60 * k)
    for side in SIDES:
        half = np.maximum(distance, gap - sign(side) * (x - middle))
        shape = Shape(grid.whole, half)
        canvas.paint(shape, air)
        _label_lobes(canvas, scaffold, side, half < 0)


def _label_lobes(canvas: Canvas, scaffold: Scaffold, side: Side, lung: np.ndarray) -> None:
    k, grid = scaffold.size, canvas.grid
    x, y, z = grid.axes()
    lift = 6 if side == "left" else 0
    oblique = (-16 + lift) * k + 0.9 * (y + 4 * k) + 0.10 * (np.abs(x) - 70 * k)
    below = z < oblique + canvas.waves(grid.whole, f"fissure {side}", 3.0 * k)
    names = LOBES[side]
    canvas.ids[lung & below] = canvas.id_of(names[-1])
    above = lung & ~below
    if side == "left":
        canvas.ids[above] = canvas.id_of(names[0])
        return
    horizontal = -26 * k + 0.10 * (y + 90 * k) + canvas.waves(grid.whole, "horizontal fissure", 2.5 * k)
    canvas.ids[above & (z >= horizontal)] = canvas.id_of(names[0])
    canvas.ids[above & (z < horizontal)] = canvas.id_of(names[1])


def tidy_lobes(canvas: Canvas) -> None:
    """Give crumbs of lung that the mediastinum cut off to the surrounding fat."""
    canvas.keep_largest(-60.0, *LOBES["left"], *LOBES["right"])


def paint_vessels(canvas: Canvas, scaffold: Scaffold) -> None:
    """Grow the vessels of both lungs from the hila towards points all over the lobes."""
    p, k, grid = scaffold.parameters, scaffold.size, canvas.grid
    for side in SIDES:
        inside = np.argwhere(canvas.mask(*LOBES[side]))
        chosen = inside[canvas.rng.choice(len(inside), 520, replace=False)][:, ::-1]
        targets = chosen * grid.spacing + np.asarray(grid.origin)
        hilum = np.array([sign(side) * 34, -38, -22 if side == "right" else -14]) * k
        nodes, parents = _grow(hilum, targets, 7.0 * k, canvas.rng)
        flow = np.zeros(len(nodes))
        leaves = np.setdiff1d(np.arange(len(nodes)), parents)
        flow[leaves] = 1.0
        for i in range(len(nodes) - 1, 0, -1):
            flow[parents[i]] += flow[i]
        radius = 0.62 * k * p.vessels * np.maximum(flow, 1) ** (1 / 2.75)
        radius = np.minimum(radius, 6.5 * k)
        radius[0] = 0
        thick = np.flatnonzero(radius > 0.55 * k)
        cover, inside_vessel = strands(grid, nodes[parents[thick]], nodes[thick], radius[thick], named=1.1 * k)
        cover.distance[~canvas.mask(*LOBES[side], box=cover.box)] = 0
        values = canvas.hu[cover.box]
        values += cover.distance * (BLOOD - values)
        canvas.label(inside_vessel, "lung_vessels", LOBES[side])


def _grow(root: np.ndarray, targets: np.ndarray, step: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes [n, 3] and each node's parent of a tree from the root to all targets [m, 3], near ones first.

    A target joins the tree where the way from the root, slightly bent, is shortest.
    """
    order = np.argsort(np.linalg.norm(targets - root, axis=1) + rng.normal(0, step, len(targets)))
    most = 1 + int(np.ceil(np.linalg.norm(targets - root, axis=1) / step).sum() + len(targets))
    nodes, parents, way = np.empty((most, 3)), np.zeros(most, dtype=int), np.zeros(most)
    nodes[0], count = root, 1
    for target in targets[order]:
        straight = np.linalg.norm(nodes[:count] - target, axis=1)
        joint = int(np.argmin(0.62 * way[:count] + straight))
        pieces = max(1, int(np.ceil(straight[joint] / step)))
        sway = rng.normal(0, 0.07 * straight[joint], 3)
        at = joint
        for j in range(1, pieces + 1):
            u = j / pieces
            nodes[count] = nodes[joint] * (1 - u) + target * u + sway * np.sin(np.pi * u)
            parents[count] = at
            way[count] = way[at] + np.linalg.norm(nodes[count] - nodes[at])
            at = count
            count += 1
    return nodes[:count], parents[:count]
