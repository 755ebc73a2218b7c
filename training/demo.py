"""The demonstration: the sample CT, its PA radiograph, the projected masks, and what the embedded model finds in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.progress import ProgressCallback, report
from training.results import write_findings, write_json, write_view
from training.samples import SAMPLE_FILES, fetch_lidc

if TYPE_CHECKING:
    from training.drr import Geometry
    from training.images import CT, LabelMap, Radiograph
    from training.model import Finding

ASKED = (
    *("lung_left", "lung_right", "heart", "aorta", "trachea", "spine", "liver", "spleen", "stomach", "sternum"),
    *("clavicula_left", "clavicula_right", "scapula_left", "scapula_right", "rib_left_5", "rib_right_5"),
)
"""Structures that the demonstration asks the model for, where the label map has them too."""

_STEPS = 4


@dataclass(frozen=True)
class Demo:
    """What there is to show. masks: projected, structure -> bool [row, column]; findings: the model's answers."""

    ct: CT
    labels: LabelMap
    geometry: Geometry
    radiograph: Radiograph
    masks: dict[str, np.ndarray]
    findings: list[Finding]


def make_demo(out: Path | None = None, phantom: bool = False, progress: ProgressCallback | None = None) -> Demo:
    """Return the demonstration; with `out`, also write radiograph.png, geometry.json, masks/, predicted/ and predictions.json.

    phantom: take the procedural thorax, which needs no network. Raises ChexanatomyError when the sample CT cannot be fetched.
    """
    from training.drr import Geometry, project_labels, render
    from training.model import load

    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    report(progress, 0, _STEPS, "reading the CT")
    ct, labels = _phantom() if phantom else _lidc(progress)
    geometry = Geometry.pa(ct)
    report(progress, 1, _STEPS, "taking the radiograph")
    radiograph = render(ct, geometry)
    report(progress, 2, _STEPS, "projecting the labels")
    masks = project_labels(labels, geometry)
    if out is not None:
        write_view(out, radiograph, geometry, masks)
    report(progress, 3, _STEPS, "asking the model")
    findings = load("embedded").segment(radiograph, [name for name in ASKED if name in masks])
    if out is not None:
        record = write_findings(out, "predicted", "radiograph.png", radiograph, findings, "embedded")
        write_json(out / "predictions.json", [record])
    report(progress, _STEPS, _STEPS, "done")
    return Demo(ct, labels, geometry, radiograph, masks, findings)


def _lidc(progress: ProgressCallback | None) -> tuple[CT, LabelMap]:
    from training.images import read_ct, read_labels

    ct_file, label_file, names = (fetch_lidc(progress) / name for name in SAMPLE_FILES)
    ct = read_ct(ct_file)
    return ct, read_labels(label_file, ct, names)


def _phantom() -> tuple[CT, LabelMap]:
    from training.phantom import thorax

    return thorax()
