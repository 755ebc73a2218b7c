"""What branches through the lungs: arteries and veins to every corner, bronchi with their walls a few generations deep."""

from __future__ import annotations

import numpy as np

from training.phantom.canvas import Canvas
from training.phantom.lungs import BLOOD, LOBES
from training.phantom.scaffold import SIDES, Scaffold, Side, sign
from training.phantom.shapes import strands

TWIG = 0.8
"""Radius of the finest vessel drawn [mm]; a parent's is that of its children by Murray's law, see MURRAY."""
MURRAY = 3.0
"""Exponent of the law that joins vessel radii: 3 by Murray (1926)."""
TRUNK = 7.5
"""Largest radius of a vessel inside the lung [mm]: the interlobar artery."""
VESSELS = {"arteries": ((36, -38, -18), 520), "veins": ((30, -46, -44), 360)}
"""Where a tree leaves the hilum (to the side, back, up of T6 [mm]) and how many twigs it has."""
BRONCHI = {
    "left": (((47, -24, -54), 8), ((58, -44, -22), 6)),
    "right": (((42, -38, -56), 9), ((52, -40, -10), 5)),
}
"""Ends of the lobar bronchi [mm] and how many segmental ones start there."""
BRONCHIAL_WALL, BRONCHIAL_AIR = -150.0, -980.0


def paint_branches(canvas: Canvas, scaffold: Scaffold) -> None:
    """Grow vessels and bronchi of both lungs from the hila towards points all over the lobes."""
    for side in SIDES:
        inside = np.argwhere(canvas.mask(*LOBES[side]))[:, ::-1]
        if len(inside) < 1000:
            continue
        for root, twigs in VESSELS.values():
            _paint_vessels(canvas, scaffold, side, inside, root, twigs)
        _paint_bronchi(canvas, scaffold, side, inside)


def _paint_vessels(
    canvas: Canvas, scaffold: Scaffold, side: Side, inside: np.ndarray, root: tuple[int, int, int], twigs: int
) -> None:
    p, k, grid = scaffold.parameters, scaffold.size, canvas.grid
    targets = inside[canvas.rng.choice(len(inside), twigs, replace=False)] * grid.spacing + np.asarray(grid.origin)
    nodes, parents = _grow(scaffold.place(sign(side) * root[0], root[1], root[2]), targets, 7.0 * k, canvas.rng)
    flow = np.zeros(len(nodes))
    flow[np.setdiff1d(np.arange(len(nodes)), parents)] = 1.0
    for i in range(len(nodes) - 1, 0, -1):
        flow[parents[i]] += flow[i]
    radius = np.minimum(TWIG * k * p.vessels * np.maximum(flow, 1) ** (1 / MURRAY), TRUNK * k)
    radius[0] = 0
    thick = np.flatnonzero(radius > 0.5 * k)
    cover, inside_vessel = strands(grid, nodes[parents[thick]], nodes[thick], radius[thick], named=1.1 * k)
    cover.distance[~canvas.mask(*LOBES[side], box=cover.box)] = 0
    values = canvas.hu[cover.box]
    values += cover.distance * (BLOOD - values)
    canvas.label(inside_vessel, "lung_vessels", LOBES[side])


def _paint_bronchi(canvas: Canvas, scaffold: Scaffold, side: Side, inside: np.ndarray) -> None:
    """Grow segmental bronchi from the ends of the lobar ones; the air in them belongs to the airways."""
    k, grid = scaffold.size, canvas.grid
    for end, count in BRONCHI[side]:
        root = scaffold.place(sign(side) * end[0], end[1], end[2])
        away = inside * grid.spacing + np.asarray(grid.origin) - root
        far = np.linalg.norm(away, axis=1)
        near = np.flatnonzero((far > 25 * k) & (far < 55 * k) & ((away[:, 2] > 0) == (end[2] > -30)))
        if len(near) < count:
            continue
        targets = root + away[canvas.rng.choice(near, count, replace=False)]
        nodes, parents = _grow(root, targets, 5.0 * k, canvas.rng)
        way = np.linalg.norm(nodes - root, axis=1)
        radius = np.maximum(np.interp(way, [0, 20 * k, 55 * k], np.array([3.0, 2.2, 1.3]) * k), 0.8 * grid.spacing)
        tubes = nodes[parents[1:]], nodes[1:]
        wall, _ = strands(grid, *tubes, radius[1:] + 0.9 * k, named=0.0)
        values = canvas.hu[wall.box]
        lung = canvas.mask(*LOBES[side], "lung_trachea_bronchia", box=wall.box)
        raised = np.maximum(values, values + wall.distance * (BRONCHIAL_WALL - values))
        values[lung] = raised[lung]
        lumen, tube = strands(grid, *tubes, radius[1:], named=0.0)
        lung = canvas.mask(*LOBES[side], "lung_trachea_bronchia", box=lumen.box) | (canvas.ids[lumen.box] == canvas.id_of())
        values = canvas.hu[lumen.box]
        values[lung] += (lumen.distance * (BRONCHIAL_AIR - values))[lung]
        canvas.ids[tube.box][lung & (tube.distance < 0)] = canvas.id_of("lung_trachea_bronchia")


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
