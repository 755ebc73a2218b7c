"""Lungs: five lobes in the room between ribs, diaphragm and mediastinum, parted by fissures."""

from __future__ import annotations

import numpy as np

from training.phantom.canvas import Canvas
from training.phantom.scaffold import SIDES, Scaffold, Side, sign
from training.phantom.shapes import Box, Shape

LOBES = {
    "left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
}
BLOOD = 40.0
FAT = -85.0
FISSURE = 0.4
"""Thickness of the two pleurae in a fissure [mm]: thinner than any voxel, and seen only along the sheet."""
BOW = (0.0032, 0.0016)
"""How the horizontal fissure falls off from its middle to the sides and to front and back: a flat dome [1/mm]."""
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
ACROSS = 55.0
"""How far a lung may reach over to the other side [mm]."""
WALL = 2.6
"""From the ribs' middle surface to the pleura between them [mm]; the ribs themselves stand out into the lung."""


def paint_lungs(canvas: Canvas, scaffold: Scaffold) -> None:
    """Fill the chest above the diaphragm, left and right of the middle, with lung; the mediastinum is painted over it."""
    k, box = scaffold.size, _chest(canvas, scaffold)
    distance = _pleura(canvas, scaffold, box)
    canvas.paint(Shape(box, distance), FAT + canvas.waves(box, "mediastinal fat", 15.0))
    x, _, z = canvas.grid.axes(box)
    middle, gap = _junction(canvas, scaffold, box)
    for side in SIDES:
        edge = int(np.searchsorted(x[0, 0], -sign(side) * ACROSS * k))
        part = slice(edge, x.shape[2]) if side == "left" else slice(0, edge)
        half = (box[0], box[1], slice(box[2].start + part.start, box[2].start + part.stop))
        shape = Shape(half, np.maximum(distance[:, :, part], gap - sign(side) * (x[:, :, part] - middle)))
        if scaffold.lung_is_missing(side):
            canvas.paint(shape, SCAR + canvas.waves(half, "scar", 8.0))
            continue
        air = canvas.waves(half, "lung", 11.0) + (scaffold.parameters.lung_hu - 0.10 / k * (z + 60 * k)).astype(np.float32)
        canvas.paint(shape, air)
        _label_lobes(canvas, scaffold, side, shape)


def _chest(canvas: Canvas, scaffold: Scaffold) -> Box:
    """Return the box around everything inside the ribs."""
    k, heights = scaffold.size, np.linspace(-215, 118, 30) * scaffold.size
    wide = max(float((scaffold.half_width(heights, side) + np.abs(scaffold.middle_x(heights))).max()) for side in SIDES)
    low = (-wide - 4, float(scaffold.front(heights).min()) - 4, -215 * k)
    return canvas.grid.box(low, (wide + 4, float(scaffold.back(heights).max()) + 4, 118 * k))


def _pleura(canvas: Canvas, scaffold: Scaffold, box: Box) -> np.ndarray:
    """Return the distance to the room of both lungs together, float32 [z, y, x] of the box."""
    k = scaffold.size
    x, y, z = canvas.grid.axes(box)
    distance = np.float32(WALL * k) - canvas.cage_depth[box]
    apex = (107 * k - 0.011 / k * ((np.abs(x) - 41 * k) ** 2 + (y - scaffold.spine(105 * k)[1] + 8 * k) ** 2)).astype(np.float32)
    np.maximum(distance, z - apex, out=distance)
    np.maximum(distance, np.float32(0.75) * (scaffold.diaphragm(x[0], y[0])[None] - z), out=distance)
    spine = scaffold.spine(z[:, 0, 0]).astype(np.float32)
    sx, sy = spine[:, 0][:, None, None], spine[:, 1][:, None, None]
    for behind, wide, deep, blend in ((26, 33, 32, 30), (0, 21, 20, 20)):
        q = np.sqrt(((x - sx) / np.float32(wide * k)) ** 2 + ((y - sy - np.float32(behind * k)) / np.float32(deep * k)) ** 2)
        np.maximum(distance, (1 - q) * np.float32(blend * k), out=distance)
    distance += canvas.waves(box, "pleura", 0.7 * k)
    return distance


def _junction(canvas: Canvas, scaffold: Scaffold, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return x of the plane where both lungs meet [z, y, 1], and how far each keeps off it [z, 1, 1] in mm."""
    p, k = scaffold.parameters, scaffold.size
    _, y, z = canvas.grid.axes(box)
    heights = z[:, 0, 0]
    bend = canvas.waves((box[0], box[1], slice(0, 1)), "junction", 3.0 * k)
    slant = np.float32(p.junction_slant) * (y + np.float32(60 * k))
    middle = (
        bend
        + slant
        + scaffold.drift(y, z).astype(np.float32)
        + (0.6 * scaffold.spine(heights)[:, :1, None] + 2 * k).astype(np.float32)
    )
    gap = np.interp(heights, np.array([-120, 60, 100]) * k, np.array([0.5, 0.8, 14]) * k).astype(np.float32)
    return middle, gap[:, None, None]


def _label_lobes(canvas: Canvas, scaffold: Scaffold, side: Side, shape: Shape) -> None:
    """Part a lung into its lobes and paint the fissures between them."""
    k, box, lung = scaffold.size, shape.box, shape.distance < 0
    x, y, z = canvas.grid.axes(box)
    lift = 6 if side == "left" else 0
    plane = (-16 + lift) * k + 0.9 * (y + 4 * k) + 0.10 * (np.abs(x) - 70 * k)
    oblique = z - plane.astype(np.float32) - canvas.waves(box, f"fissure {side}", 3.0 * k)
    missing = scaffold.parameters.findings.missing
    upper, lower = LOBES[side][0], LOBES[side][-1]

    def label(lobe: str, where: np.ndarray) -> None:
        canvas.ids[box][where] = canvas.id_of(HEIRS[lobe] if lobe in missing else lobe)

    below = oblique < 0
    above = lung & ~below
    label(lower, lung & below)
    if lower not in missing and not (side == "left" and upper in missing):
        _paint_fissure(canvas, Shape(box, oblique * np.float32(0.74)), lung)
    if side == "left":
        label(upper, above)
        return
    middle = LOBES[side][1]
    dome = (BOW[0] * (x + 85 * k) ** 2 + BOW[1] * (y + 85 * k) ** 2) / k
    plane = (-22 * k + 0.10 * (y + 90 * k) - dome).astype(np.float32)
    horizontal = z - plane - canvas.waves(box, "horizontal fissure", 2.5 * k)
    label(upper, above & (horizontal >= 0))
    label(middle, above & (horizontal < 0))
    if not {upper, middle} & set(missing):
        _paint_fissure(canvas, Shape(box, horizontal), above)


def _paint_fissure(canvas: Canvas, sheet: Shape, lung: np.ndarray) -> None:
    """Add a sheet of pleura, thinner than a voxel, where its distance is zero inside a part of the lung [z, y, x] of its box."""
    spacing = np.float32(canvas.grid.spacing)
    near = lung & (np.abs(sheet.distance) < spacing)
    values = canvas.hu[sheet.box]
    share = (1 - np.abs(sheet.distance[near]) / spacing) * np.float32(FISSURE / spacing)
    values[near] += share * (20 - values[near])


def tidy_lobes(canvas: Canvas) -> None:
    """Give crumbs of lung that the mediastinum cut off to the surrounding fat."""
    canvas.keep_largest(-60.0, *LOBES["left"], *LOBES["right"])
