"""From a radiograph to what a model looks at: letterboxed to a square, grey levels stretched, scaled to -1..1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]

# Shares of the pixels that may be darker than black and brighter than white after stretching.
STRETCH = (0.01, 0.99)


@dataclass(frozen=True)
class Letterbox:
    """Where an image of `shape` (rows, columns) lies in a square of `size` pixels: scale, then shift by (top, left), whole
    pixels."""

    shape: tuple[int, int]
    size: int
    scale: float
    top: int
    left: int

    @classmethod
    def fit(cls, shape: tuple[int, int], size: int) -> Letterbox:
        """Centre an image of `shape` (rows, columns) in a square of `size` pixels, its aspect ratio kept."""
        rows, columns = shape
        scale = size / max(rows, columns)
        return cls((rows, columns), size, scale, round((size - rows * scale) / 2), round((size - columns * scale) / 2))

    def into(self, box: Box) -> Box:
        """Image pixels to pixels of the square: (top, left, bottom, right)."""
        top, left, bottom, right = (v * self.scale for v in box)
        return top + self.top, left + self.left, bottom + self.top, right + self.left

    def out_of(self, box: Box) -> Box:
        """Pixels of the square to image pixels."""
        top, left, bottom, right = box
        return (
            (top - self.top) / self.scale,
            (left - self.left) / self.scale,
            (bottom - self.top) / self.scale,
            (right - self.left) / self.scale,
        )

    def cut(self, box: Box) -> Box:
        """The part of a box, in image pixels, that lies in the image; at least one pixel each way."""
        (top, bottom), (left, right) = (_cut(box[i], box[i + 2], self.shape[i]) for i in (0, 1))
        return top, left, bottom, right


def _cut(low: float, high: float, length: int) -> tuple[float, float]:
    low, high = min(max(low, 0.0), length - 1.0), min(max(high, 0.0), float(length))
    return low, max(high, low + 1)


def letterbox(pixels: np.ndarray, size: int) -> tuple[np.ndarray, Letterbox]:
    """Resize pixels float [row, column] into a black square, float32 [size, size], and say where they lie in it."""
    import torch

    place = Letterbox.fit((pixels.shape[0], pixels.shape[1]), size)
    rows = max(1, round(pixels.shape[0] * place.scale))
    columns = max(1, round(pixels.shape[1] * place.scale))
    image = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None, None]
    small = torch.nn.functional.interpolate(image, (rows, columns), mode="bilinear", antialias=True, align_corners=False)
    square = np.zeros((size, size), np.float32)
    top, left = place.top, place.left
    square[top : top + rows, left : left + columns] = small[0, 0].numpy()[: size - top, : size - left]
    return square, place


def stretch(pixels: np.ndarray) -> np.ndarray:
    """Spread grey levels so that 1 % of the pixels are black and 1 % white: float32 [row, column] in 0..1."""
    low, high = np.quantile(pixels, STRETCH)
    return np.clip((pixels - low) / max(float(high - low), 1e-6), 0, 1).astype(np.float32)
