"""Drawn radiographs that look a little like chests: dark lungs, a heart to the left, ribs; every case lies differently."""

import numpy as np

from training.dataset import Case, Dataset
from training.images import Radiograph

SHAPE = (96, 104)
WHOLES = {"ribs_left": 6, "ribs_right": 6}


def ellipse(place, size, pose):
    """Bool [row, column]; place and size in shares of a picture that is moved, scaled and turned by the pose."""
    shift, scale, turn = pose
    rows, columns = np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in SHAPE), indexing="ij")
    c, s = np.cos(turn), np.sin(turn)
    y, x = (c * (rows - shift[0]) - s * (columns - shift[1])) / scale, (s * (rows - shift[0]) + c * (columns - shift[1])) / scale
    return np.square((y - place[0]) / size[0]) + np.square((x - place[1]) / size[1]) < 1


def draw(number):
    """(pixels float32 [row, column], masks) of a case."""
    rng = np.random.default_rng(number)
    pose = rng.normal(0, 0.015, 2), rng.normal(1, 0.05), rng.normal(0, 0.05)

    def near(*values):
        return np.array(values) + rng.normal(0, 0.006, len(values))

    heart = rng.normal(1, 0.06)
    masks = {
        "lung_right": ellipse(near(-0.05, -0.2), near(0.3, 0.13), pose),
        "lung_left": ellipse(near(-0.05, 0.2), near(0.3, 0.13), pose),
        "heart": ellipse(near(0.08, 0.06), near(0.13, 0.11) * heart, pose),
        "liver": ellipse(near(0.33, -0.2), near(0.1, 0.19), pose),
        "spleen": ellipse(near(0.33, 0.27), near(0.06, 0.06), pose),
        "trachea": ellipse(near(-0.35, 0.0), near(0.1, 0.018), pose),
        "spine": ellipse(near(0.0, 0.0), near(0.47, 0.035), pose),
        "aorta": ellipse(near(-0.15, 0.06), near(0.07, 0.05), pose),
    }
    for side, sign in (("left", 1), ("right", -1)):
        for i in range(WHOLES[f"ribs_{side}"]):
            masks[f"rib_{side}_{i + 2}"] = ellipse(near(-0.3 + 0.1 * i, sign * 0.22), near(0.022, 0.14), pose)
        masks[f"ribs_{side}"] = np.logical_or.reduce([masks[f"rib_{side}_{i + 2}"] for i in range(WHOLES[f"ribs_{side}"])])
    pixels = np.full(SHAPE, 0.5)
    bright = {"lung_right": -0.3, "lung_left": -0.3, "heart": 0.3, "liver": 0.25, "spleen": 0.2, "spine": 0.2, "trachea": -0.15}
    for name, mask in masks.items():
        pixels += mask * bright.get(name, 0.06 if name.startswith("rib_") else 0.0)
    pixels = np.clip(pixels * rng.uniform(0.8, 1.1) + rng.normal(0, 0.03, SHAPE), 0, 1)
    return pixels.astype(np.float32), masks


def make(folder, count, plant=None, start=0):
    """A data set of drawn cases; plant: by number, what makes (pixels, masks, case changes) of (pixels, masks)."""
    made = Dataset.create(folder)
    for number in range(start, start + count):
        pixels, masks = draw(number)
        changes = {}
        if plant and number in plant:
            pixels, masks, *more = plant[number](pixels, masks)
            changes = more[0] if more else {}
        name = f"case-{number:03d}"
        values = {
            "id": name,
            "subject": f"person {number % 7}",
            "view": "PA",
            "geometry": None,
            "image": f"images/{name}.png",
            "present": tuple(masks),
            "absent": (),
            "cut_off": (),
            "provenance": "drawn by a test",
            "seed": number,
            "version": "1",
        }
        made.add(Case(**values | changes), Radiograph(pixels), masks)
    return made
