"""The procedural thorax: one person painted from the skin inwards, bones last."""

from __future__ import annotations

import numpy as np

from training.errors import ChexanatomyError
from training.images import CT, LabelMap
from training.phantom.abdomen import paint_abdomen
from training.phantom.attach import add_findings
from training.phantom.body import paint_body
from training.phantom.branches import paint_branches
from training.phantom.canvas import Canvas
from training.phantom.lungs import paint_lungs, tidy_lobes
from training.phantom.mediastinum import Mediastinum
from training.phantom.parameters import ThoraxParameters, draw
from training.phantom.scaffold import PITCH, Scaffold
from training.phantom.shapes import Grid
from training.phantom.shoulder import paint_shoulders
from training.phantom.skeleton import paint_skeleton

SINGLE = ("lung_trachea_bronchia", "trachea", "brachiocephalic_vein_right", "brachiocephalic_vein_left", "esophagus")
"""Structures that others painted over them may have cut into pieces."""


def thorax(seed: int = 0, spacing: float = 2.0, parameters: ThoraxParameters | None = None) -> tuple[CT, LabelMap]:
    """Return the CT and labels of a thorax from C5 to L2, always the same for the same seed, spacing and parameters.

    spacing: edge of the cubic voxels [mm]; parameters: this person (the seed then decides only the texture); without them
    the seed draws one. Labels are vocabulary keys; every voxel of the body also belongs to "body". What is missing in a person
    is listed among the labels' structures without a voxel.
    """
    if not 0.5 <= spacing <= 8:
        raise ChexanatomyError(f"A phantom's voxels are 0.5 to 8 mm; {spacing:g} mm were asked for.")
    if seed < 0:
        raise ChexanatomyError(f"The seed of a phantom is a whole number from 0 on; got {seed}.")
    person = parameters or draw(seed)
    scaffold = Scaffold(person)
    canvas = Canvas(_grid(scaffold, spacing), np.random.default_rng([seed, 0xC47]), person.bone_density)
    canvas.cage_depth = scaffold.cage_depth(*canvas.grid.axes())
    paint_body(canvas, scaffold)
    paint_lungs(canvas, scaffold)
    paint_abdomen(canvas, scaffold)
    Mediastinum(canvas, scaffold).paint()
    tidy_lobes(canvas)
    paint_branches(canvas, scaffold)
    paint_skeleton(canvas, scaffold)
    paint_shoulders(canvas, scaffold)
    canvas.keep_largest(20.0, *SINGLE)
    for name in person.findings.missing:
        canvas.id_of(name)
    ct, labels = canvas.finish(f"phantom {seed}", person.noise)
    return add_findings(ct, labels, person.findings, np.random.default_rng([seed, 0xF1D1]))


def _grid(scaffold: Scaffold, spacing: float) -> Grid:
    """Return a grid around the thorax from C5 to L2, wide enough for the shoulders; the arms may be cut off, as in a CT."""
    p, k = scaffold.parameters, scaffold.size
    z = np.array([scaffold.level("L2") - PITCH[-1] * k / 2, scaffold.level("C5") + PITCH[0] * k / 2])
    heights = np.linspace(z[0], 60 * k, 20)
    breast = max(0.0, p.breast * 0.95 + 0.6 * p.fat - 6) * k if p.breast else 0.0
    front = float(scaffold.front(heights).min()) - max(24 * k + 1.35 * p.fat, breast) - 6
    back = float(scaffold.back(heights).max()) + 44 * k * max(p.muscle, 1) + 1.35 * p.fat + 4
    half = max((172 * p.width + 44) * k + p.fat, 195 * k)
    low = np.array([-half, front, z[0]])
    shape = [int(np.ceil(e / spacing)) for e in (2 * half, back - front, z[1] - z[0])]
    return Grid((shape[2], shape[1], shape[0]), spacing, (float(low[0]), float(low[1]), float(low[2])))
