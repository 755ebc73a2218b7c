"""Devices on and in a body that stands already: pacemaker, lines, tubes, wires, electrodes, clips."""

from __future__ import annotations

import numpy as np

from training.phantom.findings import Findings, Side
from training.phantom.patient import Patient
from training.phantom.shapes import curve, ellipsoid, tube

METAL, PLASTIC, STRIPE = 3071.0, 180.0, 2200.0
"""Attenuation of metal, of a catheter's wall and of its radio-opaque stripe [HU]; metal at the top of the 12-bit scale.

A CT says no more of metal than the top of its scale, so wires and leads are drawn about half as thick again as they are."""


def add_devices(patient: Patient, findings: Findings, rng: np.random.Generator) -> None:
    """Paint every device whose landmarks are labelled."""
    if findings.pacemaker:
        _pacemaker(patient, findings.pacemaker, rng)
    if findings.central_line:
        _central_line(patient, findings.central_line, rng)
    if findings.chest_tube:
        _chest_tube(patient, findings.chest_tube, rng)
    if findings.tracheal_tube:
        _tracheal_tube(patient, rng)
    if findings.gastric_tube:
        _gastric_tube(patient)
    if findings.wires:
        _sternal_wires(patient, findings.wires, rng)
    if findings.electrodes:
        _electrodes(patient, findings.electrodes, rng)
    if findings.clips:
        _clips(patient, findings.clips, rng)


def _off(point: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
    """Return a point moved by x, y, z [mm]."""
    return np.asarray(point + np.array([x, y, z]))


def _middle(patient: Patient, structure: str) -> np.ndarray | None:
    course = patient.course(structure)
    return None if course is None else np.asarray(course.mean(axis=0))


def _vein(patient: Patient) -> np.ndarray | None:
    """Return the superior vena cava from above downwards, [n, 3]."""
    course = patient.course("superior_vena_cava")
    return None if course is None or len(course) < 4 else course[::-1]


def _pacemaker(patient: Patient, side: Side, rng: np.random.Generator) -> None:
    """Paint a generator under the skin below the clavicle and its lead through the veins to the right ventricle's apex."""
    collar, vein, heart = _middle(patient, f"clavicula_{side}"), _vein(patient), patient.course("heart")
    if collar is None or vein is None or heart is None:
        return
    s = 1 if side == "left" else -1
    skin = patient.skin_in_front(collar[0] + s * rng.uniform(10, 30), collar[2] - rng.uniform(40, 65))
    place = skin + np.array([0, 11, 0])
    can = ellipsoid(patient.grid, place, np.array([24, 5.5, 21]) * rng.uniform(0.9, 1.1), margin=4)
    patient.lay(can, METAL)
    low, high = heart.min(axis=0), heart.max(axis=0)
    apex = np.array([0.3 * low[0] + 0.7 * high[0], low[1] - 18, low[2] + 12])
    inlet = vein[-1] + np.array([4, -8, -22])
    way = [
        _off(place, -s * 16, 4, 12),
        _off(collar, 0, 6, -8),
        _off(0.5 * (collar + vein[0]), 0, 6, 4),
        vein[0],
        vein[-1],
        inlet,
        apex,
    ]
    line = curve(np.array(way), 90)
    patient.draw(line, 1.5, METAL)
    patient.draw(line[-4:], 2.2, METAL)


def _central_line(patient: Patient, side: Side, rng: np.random.Generator) -> None:
    """Paint a catheter from the neck into the superior vena cava."""
    vein = _vein(patient)
    if vein is None:
        return
    s = 1 if side == "left" else -1
    top = patient.grid.origin[2] + patient.grid.spacing * (patient.grid.shape[0] - 1)
    neck = np.array([vein[0][0] + s * (46 if side == "left" else 22), vein[0][1] + 4, min(vein[0][2] + 85, top)])
    tip = vein[int(rng.uniform(0.5, 0.98) * (len(vein) - 1))]
    patient.draw(curve(np.array([_off(neck, s * 14, -12, 10), neck, vein[0], 0.5 * (vein[0] + tip), tip]), 60), 1.6, STRIPE)


def _tracheal_tube(patient: Patient, rng: np.random.Generator) -> None:
    """Paint a tube that ends some way above the carina."""
    course = patient.course("trachea")
    if course is None:
        return
    line = course[course[:, 2] > course[0, 2] + rng.uniform(25, 60)]
    if len(line) < 5:
        return
    line = curve(line[:: max(1, len(line) // 12)], 40)
    wall = tube(patient.grid, line, 4.6)
    patient.lay(wall, PLASTIC)
    patient.lay(wall.grown(-1.2), -980.0)
    patient.draw(line + np.array([0, 3.6, 0]), 1.2, STRIPE)


def _gastric_tube(patient: Patient) -> None:
    """Paint a tube down the oesophagus into the stomach."""
    course, stomach = patient.course("esophagus"), _middle(patient, "stomach")
    if course is None or len(course) < 10:
        return
    line = course[::-1][:: max(1, len(course) // 14)]
    end = [] if stomach is None else [stomach]
    patient.draw(curve(np.array([*line, *end]), 90), 1.6, STRIPE)


def _chest_tube(patient: Patient, side: Side, rng: np.random.Generator) -> None:
    """Paint a drain from the flank along the inside of the chest wall towards the apex."""
    box = patient.box(f"lung_{side}")
    if box is None:
        return
    x, y, z = (axis.ravel() for axis in patient.grid.axes(box))
    s = 1 if side == "left" else -1
    wall = x[-1] if side == "left" else x[0]
    height = float(rng.uniform(0.3, 0.45))
    enter = np.array([wall + s * 30, y.mean() - 10, z[0] + (height - 0.12) * np.ptp(z)])
    way = [
        enter,
        _off(enter, -s * 34, 0, 18),
        _off(enter, -s * 40, 10, 0.3 * np.ptp(z)),
        [wall - s * 55, y.mean() + 5, z[-1] - 45],
    ]
    line = curve(np.array(way), 50)
    drain = tube(patient.grid, line, 4.2)
    patient.lay(drain, PLASTIC)
    patient.lay(drain.grown(-1.4), -900.0)
    patient.draw(line + np.array([0, 0, 3.4]), 1.3, STRIPE)


def _sternal_wires(patient: Patient, count: int, rng: np.random.Generator) -> None:
    course = patient.course("sternum")
    if course is None or len(course) < 6:
        return
    turn = np.linspace(0, 2 * np.pi, 25)
    for at in np.linspace(0.25, 0.92, count) * (len(course) - 1):
        middle = course[int(at)]
        loop = middle + np.stack([rng.uniform(12, 17) * np.cos(turn), 7 * np.sin(turn), 3 * np.sin(turn)], axis=1)
        patient.draw(loop, 1.1, METAL)
        patient.draw(np.array([_off(middle, 0, -8, 0), middle + rng.normal([0, -10, 0], 3)]), 1.4, METAL)


def _electrodes(patient: Patient, count: int, rng: np.random.Generator) -> None:
    """Paint adhesive electrodes on the front of the chest with their leads running off."""
    box = patient.box("lungs")
    if box is None:
        return
    x, _, z = (axis.ravel() for axis in patient.grid.axes(box))
    width, height = float(np.ptp(x)), float(np.ptp(z))
    places = rng.permutation(np.array([(0.08, 0.9), (0.92, 0.9), (0.1, 0.12), (0.9, 0.12), (0.5, 0.45)]))[:count]
    gather = np.array([x[0] + rng.uniform(0.1, 0.9) * width, 0, z[0] - 30.0])
    for u, v in places:
        spot = patient.skin_in_front(float(x[0] + (u + rng.normal(0, 0.03)) * width), float(z[0] + v * height))
        patient.lay(ellipsoid(patient.grid, _off(spot, 0, -2, 0), (13, 2, 13), margin=4), 120.0)
        patient.lay(ellipsoid(patient.grid, _off(spot, 0, -4, 0), (4.5, 3, 4.5), margin=4), METAL)
        knots = [_off(spot, 0, -5, 0)]
        for part in (0.35, 0.7, 1.0):
            to = spot * (1 - part) + gather * part + rng.normal(0, 14, 3) * (part < 1)
            knots.append(_off(patient.skin_in_front(float(to[0]), float(to[2])), 0, -5, 0))
        patient.draw(curve(np.array(knots), 40), 1.3, 1800.0)


def _clips(patient: Patient, count: int, rng: np.random.Generator) -> None:
    heart = patient.course("heart")
    if heart is None:
        return
    middle = heart.mean(axis=0)
    for _ in range(count):
        at = middle + rng.normal([0, -10, 25], [28, 14, 30])
        patient.draw(np.array([at, at + rng.normal(0, 3, 3)]), 1.2, METAL)
