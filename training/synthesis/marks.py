"""What lies over a radiograph: the collimator's edges, a side marker, lines of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.synthesis.config import Marks

LINES = ("PORTABLE", "SUPINE", "ERECT", "AP", "PA", "SITTING", "ICU", "10:42", "R 12", "EXP", "INSP", "2/2", "MOBILE", "30 DEG")


@dataclass(frozen=True)
class Overlay:
    """What was drawn for one picture: open_field bool [row, column], where the collimator lets the beam through; lettering
    float32 [row, column] in 0..1, how much of a pixel a letter covers; brightness of letters; spill behind the collimator.
    """

    open_field: np.ndarray
    lettering: np.ndarray
    brightness: float
    spill: float

    def over(self, pixels: np.ndarray) -> np.ndarray:
        """Return the radiograph float32 [row, column] in 0..1 with everything on it."""
        shut = np.where(self.open_field, pixels, np.float32(self.spill) * pixels)
        return np.asarray(shut + self.lettering * (np.float32(self.brightness) - shut), dtype=np.float32)


def draw_overlay(marks: Marks, shape: tuple[int, int], view: str, rng: np.random.Generator) -> Overlay:
    """Draw collimation, marker and text for a picture of shape (rows, columns); each uses up random numbers of its own."""
    shutter, letters, lines = (np.random.default_rng(rng.integers(2**63)) for _ in range(3))
    return Overlay(
        _shutter(marks, shape, shutter),
        np.maximum(_marker(marks, shape, view, letters), _text(marks, shape, lines)),
        brightness=float(rng.uniform(0.75, 1.0)),
        spill=float(rng.choice([0.0, 0.0, 0.15])),
    )


def _shutter(marks: Marks, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    field = np.ones(shape, dtype=bool)
    if rng.random() >= marks.collimation:
        return field
    tilt = rng.normal(0, 0.006)
    row, column = np.ogrid[: shape[0], : shape[1]]
    across, down = column / shape[1] + tilt * (row / shape[0] - 0.5), row / shape[0] - tilt * (column / shape[1] - 0.5)
    margins = [marks.margin.draw(rng) * (rng.random() < 0.75) for _ in range(4)]
    return np.asarray((across >= margins[0]) & (across <= 1 - margins[1]) & (down >= margins[2]) & (down <= 1 - margins[3]))


def _marker(marks: Marks, shape: tuple[int, int], view: str, rng: np.random.Generator) -> np.ndarray:
    """A side marker in an upper corner: on frontal views it says the patient's side, right on image left."""
    side, size = int(rng.integers(2)), float(rng.uniform(0.045, 0.085))
    at = (rng.uniform(0.03, 0.2), rng.uniform(0.03, 0.14) if side == 0 else rng.uniform(0.8, 0.9))
    letter = ("R", "L")[side] if view in ("PA", "AP") else "L"
    return _written(shape, letter, size, at) if rng.random() < marks.marker else np.zeros(shape, dtype=np.float32)


def _text(marks: Marks, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    words = rng.choice(LINES, int(rng.integers(1, 4)), replace=False)
    at = (rng.uniform(0.01, 0.06) if rng.random() < 0.6 else rng.uniform(0.86, 0.95), rng.uniform(0.02, 0.7))
    size = float(rng.uniform(0.022, 0.04))
    return _written(shape, " ".join(words), size, at) if rng.random() < marks.text else np.zeros(shape, dtype=np.float32)


def _written(shape: tuple[int, int], text: str, size: float, at: tuple[float, float]) -> np.ndarray:
    """How much of every pixel a text covers: size and place (row, column) as shares of the picture."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("L", (shape[1], shape[0]))
    font = ImageFont.load_default(max(8.0, size * shape[0]))
    ImageDraw.Draw(page).text((at[1] * shape[1], at[0] * shape[0]), text, fill=255, font=font)
    return np.asarray(page, dtype=np.float32) / 255
