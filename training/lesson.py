"""A first lesson for the model: radiographs of an open CT with a structure drawn in each that the model was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.anatomy import resolve, vocabulary
from training.drr import Geometry, project_labels, render
from training.errors import ChexanatomyError
from training.images.types import CT, LabelMap, Radiograph
from training.progress import ProgressCallback, report

CANDIDATES = ("kidney_left", "gallbladder", "pancreas", "kidney_right", "scapulae", "clavicles")
"""What to teach, first choice first: large enough to see, and none of what the embedded model is trained on."""
ANGLES = (0.0, 8.0, -8.0, 16.0, -16.0)
"""Primary angles of the views [degrees]."""
SIZE = 512
"""Rows and columns of the views [px]."""


def make_lesson(
    ct: CT, labels: LabelMap, angles: Sequence[float] = ANGLES, progress: ProgressCallback | None = None
) -> tuple[str, list[tuple[Radiograph, np.ndarray]]]:
    """Return (structure, [(radiograph, mask bool [row, column])]): the structure's own shadow is the drawing.

    Raises ChexanatomyError when the label map holds nothing that the embedded model does not know already.
    """
    held = resolve(labels.structures)
    structure = next((key for key in CANDIDATES if key in held and not vocabulary()[key].trainable), None)
    if structure is None:
        raise ChexanatomyError("This label map holds nothing new to teach: open the sample CT with its labels.")
    drawn = []
    for number, angle in enumerate(angles):
        report(progress, number, len(angles), "Taking radiographs")
        pose = Geometry.view(ct, angle, rows=SIZE, columns=SIZE)
        radiograph = replace(render(ct, pose), name=f"view at {angle:g} degrees")
        drawn.append((radiograph, project_labels(labels, pose, [structure])[structure]))
    report(progress, len(angles), len(angles), "Taking radiographs")
    return structure, drawn
