"""Findings put into a body, procedural or real."""

from __future__ import annotations

import numpy as np

from training.images import CT, LabelMap
from training.phantom.devices import add_devices
from training.phantom.findings import Findings
from training.phantom.illness import add_illness
from training.phantom.patient import Patient


def add_findings(ct: CT, labels: LabelMap, findings: Findings, rng: np.random.Generator) -> tuple[CT, LabelMap]:
    """Return the body with its effusions, opacities, nodules and devices; what is missing has to be left out where it is made.

    Fluid takes its part of the lung's label; opacities leave the labels as they are. Works on procedural and on real bodies on
    cubic voxels; a device whose landmark is not labelled is left out.
    """
    if findings == Findings(missing=findings.missing):
        return ct, labels
    patient = Patient(ct, labels)
    add_illness(patient, findings, rng)
    add_devices(patient, findings, rng)
    return patient.finished()
