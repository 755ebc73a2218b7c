"""Lungs: five lobes in the room between ribs, diaphragm and mediastinum, parted by fissures."""

from __future__ import annotations

import numpy as np

from training.phantom.canvas import Canvas
from training.phantom.scaffold import SIDES, Scaffold, Side, sign
from training.phantom.shapes import Shape

LOBES = {
    "left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
}
BLOOD = 40.0
FAT = -85.0
FISSURE = 0.7
"""Thickness of the two pleurae in a fissure [mm]."""
HEIRS = {
    "lung_upper_lobe_left": "lung_lower_lobe_left",
    "lung_lower_lobe_left": "lung_upper_lobe_left",
    "lung_upper_lobe_right": "lung_middle_lobe_right",
    "lung_middle_lobe_right": "lung_upper_lobe_right",
    "lung_lower_lobe_right": "lung_middle_lobe_right",
}
"""Which lobe expands into the room of a resected one."""
SCAR = 15.0
"""Attenuation of what fills one half of the chest after its lung was taken out [HU]."""
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
    missing = set(p.findings.missing)
    for side in SIDES:
        half = np.maximum(distance, gap - sign(side) * (x - middle))
        shape = Shape(grid.whole, half)
        if missing >= set(LOBES[side]):
            canvas.paint(shape, SCAR + canvas.waves(grid.whole, "scar", 8.0))
            continue
        canvas.paint(shape, air)
        _label_lobes(canvas, scaffold, side, half < 0)


def _label_lobes(canvas: Canvas, scaffold: Scaffold, side: Side, lung: np.ndarray) -> None:
    k, grid = scaffold.size, canvas.grid
    x, y, z = grid.axes()
    lift = 6 if side == "left" else 0
    oblique = z - ((-16 + lift) * k + 0.9 * (y + 4 * k) + 0.10 * (np.abs(x) - 70 * k))
    oblique -= canvas.waves(grid.whole, f"fissure {side}", 3.0 * k)
    missing = scaffold.parameters.findings.missing
    upper, lower = LOBES[side][0], LOBES[side][-1]

    def label(lobe: str, where: np.ndarray) -> None:
        canvas.ids[where] = canvas.id_of(HEIRS[lobe] if lobe in missing else lobe)

    below = oblique < 0
    above = lung & ~below
    label(lower, lung & below)
    if lower not in missing and not (side == "left" and upper in missing):
        _paint_fissure(canvas, oblique * np.float32(0.74), lung)
    if side == "left":
        label(upper, above)
        return
    middle = LOBES[side][1]
    horizontal = z - (-26 * k + 0.10 * (y + 90 * k)) - canvas.waves(grid.whole, "horizontal fissure", 2.5 * k)
    label(upper, above & (horizontal >= 0))
    label(middle, above & (horizontal < 0))
    if not {upper, middle} & set(missing):
        _paint_fissure(canvas, horizontal, above)


def _paint_fissure(canvas: Canvas, distance: np.ndarray, lung: np.ndarray) -> None:
    """Add a sheet of pleura, thinner than a voxel, where a distance [mm] is zero inside a part of the lung."""
    spacing = np.float32(canvas.grid.spacing)
    near = lung & (np.abs(distance) < spacing)
    canvas.hu[near] += (1 - np.abs(distance[near]) / spacing) * np.float32(FISSURE / spacing) * (20 - canvas.hu[near])


def tidy_lobes(canvas: Canvas) -> None:
    """Give crumbs of lung that the mediastinum cut off to the surrounding fat."""
    canvas.keep_largest(-60.0, *LOBES["left"], *LOBES["right"])
