"""Shoulder girdle: clavicles, scapulae, humeri."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from training.phantom import clavicle
from training.phantom.canvas import Canvas
from training.phantom.girdle import acromion, clavicle_ends, glenoid, on_ribs, pushed_out, scapula_corners, upper_arm
from training.phantom.scaffold import SIDES, Scaffold, Side, sign
from training.phantom.shapes import Shape, curve, ellipsoid, rotation, tube, union
from training.phantom.skeleton import paint_bone


def paint_shoulders(canvas: Canvas, scaffold: Scaffold) -> None:
    """Paint the bones of both shoulders and upper arms."""
    for side in SIDES:
        _paint_scapula(canvas, scaffold, side)
        if f"clavicula_{side}" not in scaffold.parameters.findings.missing:
            _paint_clavicle(canvas, scaffold, side)
        _paint_humerus(canvas, scaffold, side)


def _paint_clavicle(canvas: Canvas, scaffold: Scaffold, side: Side) -> None:
    """Paint it outside the ribs."""
    p, k, s = scaffold.parameters, scaffold.size, sign(side)
    start, end = clavicle_ends(scaffold, side, scaffold.sternum_at(78 * k) + np.array([s * 24, 1, 4]) * k)
    line = clavicle.middle_line(start, end, k, s, p.clavicle_curve, p.clavicle_arch)
    line += ndimage.gaussian_filter1d(pushed_out(scaffold, side, line, 12) - line, 2.0, axis=0, mode="nearest")
    shape, marrow = clavicle.bone(canvas.grid, line, k)
    paint_bone(canvas, shape, f"clavicula_{side}", marrow, clavicle.MARROW, clavicle.CORTEX)


def _paint_scapula(canvas: Canvas, scaffold: Scaffold, side: Side) -> None:
    """Paint a thin triangular blade on the back of the ribs, with spine, acromion, glenoid and coracoid."""
    k, s = scaffold.size, sign(side)
    socket = glenoid(scaffold, side)
    upper, lower = scapula_corners(scaffold, side)
    corner = upper + 0.35 * (socket - upper) + np.array([0, 0, 14]) * k
    edges = {"medial": (upper, lower), "lateral": (lower, socket), "top": (upper, corner), "neck": (corner, socket)}
    bent = {name: on_ribs(scaffold, side, a, b) for name, (a, b) in edges.items()}
    radii = {"medial": (2.8, 2.8), "lateral": (4.0, 7.5), "top": (2.6, 3.0), "neck": (3.4, 8.0)}
    parts = [tube(canvas.grid, line, np.linspace(*radii[name], len(line)) * k) for name, line in bent.items()]
    parts.append(_blade(canvas, scaffold, side, bent))
    root = bent["medial"][4]
    tip = acromion(scaffold, side) + np.array([s * 4, 4, 2]) * k
    ridge = curve([root, 0.55 * root + 0.45 * tip + np.array([0, 16, -6]) * k, tip + np.array([-s * 8, 22, -6]) * k, tip], 24)
    parts.append(
        tube(canvas.grid, ridge, np.stack([np.linspace(7, 5, 24) * k, np.linspace(2.4, 8, 24) * k], axis=1), (0, 0, 1.0))
    )
    web = [0.5 * (a + b) for a, b in zip(ridge[2:14], np.linspace(root, socket, 24)[2:14], strict=True)]
    parts.append(tube(canvas.grid, np.array(web), 2.0 * k))
    parts.append(ellipsoid(canvas.grid, socket, np.array([6, 12, 19]) * k, rotation("z", -s * 30), margin=5))
    beak = curve(
        [
            socket + np.array([-s * 4, -4, 14]) * k,
            socket + np.array([-s * 10, -16, 24]) * k,
            socket + np.array([s * 2, -32, 17]) * k,
        ],
        14,
    )
    parts.append(tube(canvas.grid, beak, np.linspace(7.5, 5.5, 14) * k))
    paint_bone(canvas, union(*parts, blend=3 * k), f"scapula_{side}", 1.1 * k, 210.0)


def _blade(canvas: Canvas, scaffold: Scaffold, side: Side, edges: dict[str, np.ndarray]) -> Shape:
    """Return the thin plate between the edges, as bands from the medial to the lateral border."""
    k = scaffold.size
    lateral = edges["lateral"][::-1]
    bands = []
    for a, b in zip(edges["medial"], lateral, strict=True):
        band = pushed_out(scaffold, side, a + np.linspace(0, 1, 12)[:, None] * (b - a))
        bands.append(tube(canvas.grid, band, np.array([5.0, 2.3]) * k, (0, 0, 1.0)))
    for u in np.linspace(0, 1, 6):
        a, b = edges["medial"][0] * (1 - u) + edges["lateral"][-1] * u, edges["top"][-1]
        bands.append(tube(canvas.grid, on_ribs(scaffold, side, a, b, 8), np.array([4.0, 2.3]) * k, (1.0, 0, 0)))
    return union(*bands)


def _paint_humerus(canvas: Canvas, scaffold: Scaffold, side: Side) -> None:
    k, s = scaffold.size, sign(side)
    line = upper_arm(scaffold, side)
    head = ellipsoid(canvas.grid, line[0], np.array([23, 23, 23]) * k, margin=8)
    along = np.linspace(0, 300, len(line))
    radius = np.interp(along, [0, 22, 50, 90, 300], [20, 17, 13, 11.5, 10.5]) * k
    shaft = tube(canvas.grid, line + np.array([s * 5, 0, -3]) * k * np.minimum(along / 30, 1)[:, None], radius)
    bone = union(head, shaft, blend=6 * k)
    paint_bone(canvas, bone, f"humerus_{side}", 2.6 * k, 150.0)
