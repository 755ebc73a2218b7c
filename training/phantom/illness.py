"""Illness in the lungs of a body that stands already: fluid, opacities, nodules."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from training.phantom.canvas import LOBES
from training.phantom.findings import Findings
from training.phantom.patient import Patient
from training.phantom.shapes import Box, Shape

FLUID = 12.0
"""Attenuation of a pleural effusion [HU]: 0 to 20 in transudates and exudates."""
LEAST_AIR = 0.08
"""Share of a lobe that stays air under an effusion, at its top: a lobe that is pressed together is not gone."""
MENISCUS = 38.0
"""How much higher the fluid stands at the wall than amid the lung [mm]."""


def add_illness(patient: Patient, findings: Findings, rng: np.random.Generator) -> None:
    """Paint fluid, opacities and nodules into the lungs."""
    for side, amount in zip(("right", "left"), findings.effusion, strict=True):
        box = patient.box(f"lung_{side}")
        if amount > 0 and box is not None:
            _pour(patient, f"lung_{side}", box, amount)
    for _ in range(findings.opacities):
        _cloud(patient, rng)
    for _ in range(findings.nodules):
        _nodule(patient, rng)


def _pour(patient: Patient, lung: str, box: Box, amount: float) -> None:
    """Fill the lowest part of one half of the chest with fluid, its edge rising towards the wall, as it does standing."""
    mask = patient.mask(lung, box)
    spacing = patient.grid.spacing
    step = max(1, round(5 / spacing))
    outside = ndimage.distance_transform_edt(np.pad(mask[::step, ::step, ::step], 1))[1:-1, 1:-1, 1:-1] * (step * spacing)
    wall = np.repeat(np.repeat(np.repeat(outside.astype(np.float32), step, 0), step, 1), step, 2)[
        : mask.shape[0], : mask.shape[1]
    ]
    wall = wall[:, :, : mask.shape[2]]
    z = patient.grid.axes(box)[2]
    level = float(z[0, 0, 0]) + amount * float(np.ptp(z))
    depth = z - level - MENISCUS * np.exp(-wall / 11)
    depth = np.where(mask, ndimage.gaussian_filter(depth, 3 / spacing).astype(np.float32), np.float32(99))
    drowned = mask & (depth < 0)
    for lobe in LOBES:
        of_it = mask & patient.mask(lobe, box)
        if of_it.any() and (of_it & ~drowned).sum() < LEAST_AIR * of_it.sum():
            top = np.quantile(np.nonzero(of_it)[0], 1 - LEAST_AIR)
            depth[of_it & (np.arange(len(of_it))[:, None, None] >= top)] = 99
    patient.lay(Shape(box, depth), FLUID)
    patient.take_from_lung(box, mask & (depth < 0))


def _spot(patient: Patient, rng: np.random.Generator, reach: float) -> tuple[Box, np.ndarray, np.ndarray] | None:
    """Return a box around a point in the lungs, the lung in it, and the distance from the point [mm]."""
    side = ("left", "right")[int(rng.integers(2))]
    box = patient.box(f"lung_{side}")
    if box is None:
        return None
    z, y, x = np.nonzero(patient.mask(f"lung_{side}", box)[::3, ::3, ::3])
    if not len(z):
        return None
    one = int(rng.integers(len(z)))
    middle = [patient.grid.axis(a)[b.start + 3 * int(i[one])] for a, b, i in ((0, box[2], x), (1, box[1], y), (2, box[0], z))]
    near = patient.grid.box(np.array(middle) - reach, np.array(middle) + reach)
    offsets = [axis - np.float32(m) for axis, m in zip(patient.grid.axes(near), middle, strict=True)]
    stretch = rng.uniform(0.7, 1.4, 3)
    far = np.sqrt(sum((o * np.float32(s)) ** 2 for o, s in zip(offsets, stretch, strict=True)))
    return near, patient.mask("lungs", near), np.asarray(far, dtype=np.float32)


def _cloud(patient: Patient, rng: np.random.Generator) -> None:
    """Raise part of a lung to ground glass or consolidation with a ragged edge."""
    radius, dense = float(rng.uniform(14, 55)), float(rng.uniform(-620, 10))
    found = _spot(patient, rng, 1.9 * radius)
    if found is None:
        return
    box, lung, far = found
    grain = ndimage.gaussian_filter(rng.standard_normal(far.shape, dtype=np.float32), 5 / patient.grid.spacing)
    grain /= max(1e-6, float(grain.std()))
    share = np.clip((radius - far + 0.35 * radius * grain) / (0.5 * radius), 0, 1) * lung
    values = patient.hu[box].astype(np.float32)
    raised = np.maximum(values, values + share * (dense + 60 * grain - values))
    patient.hu[box] = np.clip(raised, -1024, 3071).astype(np.int16)


def _nodule(patient: Patient, rng: np.random.Generator) -> None:
    radius = float(rng.uniform(3, 16))
    found = _spot(patient, rng, 2.5 * radius)
    if found is None:
        return
    box, lung, far = found
    grain = ndimage.gaussian_filter(rng.standard_normal(far.shape, dtype=np.float32), 2.5 / patient.grid.spacing)
    edge = far - radius - 0.12 * radius * grain / max(1e-6, float(grain.std()))
    patient.lay(Shape(box, np.where(lung, edge, np.float32(99))), float(rng.choice([30.0, 30.0, 250.0])))
