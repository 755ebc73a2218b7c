"""Landmarks of the shoulder girdle: what bones, muscles and skin of the shoulders are built around."""

from __future__ import annotations

import numpy as np

from training.phantom.scaffold import SIDES, Scaffold, Side, sign
from training.phantom.shapes import curve


def shoulder_joint(scaffold: Scaffold, side: Side) -> np.ndarray:
    """Return the middle of the humeral head (x, y, z) [mm]; it rises with the clavicle and the raised arm."""
    p, k = scaffold.parameters, scaffold.size
    height = 50 + 112 * np.sin(np.radians(p.clavicle_tilt)) * 0.55 + 0.25 * max(p.arm_elevation, 0)
    return np.array([sign(side) * (158 * p.width - 0.3 * max(p.shoulder_advance, 0)), -18 - p.shoulder_advance, height]) * k


def upper_arm(scaffold: Scaffold, side: Side) -> np.ndarray:
    """Return the middle line of the humerus from its head downwards, [24, 3]."""
    p, k = scaffold.parameters, scaffold.size
    lift = np.radians(p.arm_elevation)
    forward = -0.15 - 0.004 * p.shoulder_advance - (0.5 * np.sin(lift) if lift > 0 else 0.0)
    away = np.array([sign(side) * np.cos(lift), forward, np.sin(lift)])
    away /= np.linalg.norm(away)
    start = shoulder_joint(scaffold, side)
    return curve([start, start + 12 * k * away, start + 150 * k * away, start + 300 * k * away], 24)


def acromion(scaffold: Scaffold, side: Side) -> np.ndarray:
    """Return where the clavicle meets the acromion (x, y, z) [mm]."""
    return np.asarray(shoulder_joint(scaffold, side) + np.array([-sign(side) * 10, 12, 30]) * scaffold.size)


def clavicle_ends(scaffold: Scaffold, side: Side, at_sternum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the medial and the lateral end of what follows a clavicle (x, y, z) [mm]; at_sternum: the medial one, where the
    sternum would have it."""
    medial, lateral = scaffold.parameters.clavicle_stray[SIDES.index(side)]
    up = np.array([0.0, 0.0, 1.0])
    return at_sternum + medial * up, acromion(scaffold, side) + lateral * up


def glenoid(scaffold: Scaffold, side: Side) -> np.ndarray:
    """Return the middle of the shoulder's socket (x, y, z) [mm]."""
    return np.asarray(shoulder_joint(scaffold, side) + np.array([-sign(side) * 27, 5, -2]) * scaffold.size)


def scapula_corners(scaffold: Scaffold, side: Side) -> tuple[np.ndarray, np.ndarray]:
    """Return the scapula's upper and lower medial angles [mm]: they glide around the chest as the arm is raised or advanced."""
    p, k = scaffold.parameters, scaffold.size
    swing = max(p.arm_elevation + 20, 0) * 0.25 + 0.8 * max(p.shoulder_advance, 0)
    upper = scaffold.cage_point(side, 33 + 0.28 * swing, 58 * k, 13 * k)
    lower = scaffold.cage_point(side, 42 + 0.45 * swing, -52 * k, 12 * k)
    lower[2] += 0.15 * swing * k
    upper[2] = max(upper[2], glenoid(scaffold, side)[2] - 8 * k)
    return upper, lower


def pushed_out(scaffold: Scaffold, side: Side, points: np.ndarray, clearance: float = 10.0) -> np.ndarray:
    """Return points moved away from the chest's middle until they clear the middle of the ribs [mm, reference adult]."""
    k = scaffold.size
    z = points[:, 2]
    middle = np.stack([scaffold.middle_x(z), (scaffold.back(z) + scaffold.front(z)) / 2], axis=1)
    away = points[:, :2] - middle
    angle = np.degrees(np.arctan2(np.abs(away[:, 0]), away[:, 1]))
    wanted = np.linalg.norm(scaffold.cage_point(side, angle, z, clearance * k)[:, :2] - middle, axis=1)
    now = np.linalg.norm(away, axis=1)
    moved = points.copy()
    moved[:, :2] = middle + away * (np.maximum(now, wanted) / now)[:, None]
    return moved


def on_ribs(scaffold: Scaffold, side: Side, a: np.ndarray, b: np.ndarray, count: int = 20) -> np.ndarray:
    """Return a line between two points [count, 3] that keeps outside the ribs."""
    return pushed_out(scaffold, side, a + np.linspace(0, 1, count)[:, None] * (b - a))
