import numpy as np
import pytest

from training.dataset import Case, Dataset
from training.images import Radiograph


def make_case(number, view="PA", subject="someone", **changes):
    values = {
        "id": f"{subject}-{number:05d}",
        "subject": subject,
        "view": view,
        "geometry": None,
        "image": f"images/{subject}-{number:05d}.png",
        "present": ("lung_left", "lung_right", "heart"),
        "absent": ("colon",),
        "cut_off": (),
        "provenance": "drawn by a test",
        "seed": 3,
        "version": "1",
    }
    return Case(**values | changes)


def make_masks(rng, swapped=False):
    """Two lungs and a heart as jittered boxes on 120 x 100 pixels."""
    dy, dx = rng.integers(-3, 4, 2)
    boxes = {"lung_right": (20, 10, 90, 45), "lung_left": (20, 55, 90, 90), "heart": (60, 40, 88, 72)}
    if swapped:
        boxes["lung_right"], boxes["lung_left"] = boxes["lung_left"], boxes["lung_right"]
    masks = {}
    for name, (top, left, bottom, right) in boxes.items():
        masks[name] = np.zeros((120, 100), bool)
        masks[name][top + dy : bottom + dy, left + dx : right + dx] = True
    return masks


@pytest.fixture
def dataset(tmp_path):
    """Twenty cases."""
    rng = np.random.default_rng(0)
    made = Dataset.create(tmp_path / "data")
    for number in range(20):
        pixels = rng.random((120, 100)).astype(np.float32)
        made.add(make_case(number), Radiograph(pixels), make_masks(rng))
    return made
