"""Boxes and masks drawn into the picture, for the questions "name the drawn box" and "name the overlaid mask"."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

COLOURS = ((1.0, -0.6, -0.6), (-0.6, 1.0, -0.6), (1.0, 1.0, -0.8), (-0.8, 1.0, 1.0))
"""Red, green, yellow and cyan, in the model's -1..1."""

OPACITY = 0.5
"""How much of the picture a mask laid over it hides."""

LINE = 0.008
"""Half the width of a drawn box's line, as a share of the picture's side."""


def mark(pixels: Tensor, box: tuple[float, float, float, float], crop: Tensor | None, colour: int = 0) -> None:
    """Draw a box (top, left, bottom, right; shares of the side), or the mask crop float [64, 64] inside it, into pixels float [3,
    side, side] in -1..1, in place."""
    side = pixels.shape[-1]
    paint = torch.tensor(COLOURS[colour % len(COLOURS)], device=pixels.device, dtype=pixels.dtype)[:, None, None]
    place = (torch.arange(side, device=pixels.device) + 0.5) / side
    top, left, bottom, right = box
    if crop is None:
        reach = max(LINE, 0.75 / side)
        rows, columns = _band(place, top, bottom, reach), _band(place, left, right, reach)
        inside_rows = (place > top - reach) & (place < bottom + reach)
        inside_columns = (place > left - reach) & (place < right + reach)
        line = (rows[:, None] & inside_columns[None]) | (columns[None] & inside_rows[:, None])
        pixels.copy_(torch.where(line, paint, pixels))
        return
    grid_rows = (place - (top + bottom) / 2) / max((bottom - top) / 2, 1e-6)
    grid_columns = (place - (left + right) / 2) / max((right - left) / 2, 1e-6)
    grid = torch.stack(torch.meshgrid(grid_rows, grid_columns, indexing="ij")[::-1], -1)[None]
    covered = functional.grid_sample(crop[None, None].to(pixels), grid.to(pixels.dtype), align_corners=False)[0] * OPACITY
    pixels.copy_(pixels * (1 - covered) + paint * covered)


def _band(place: Tensor, low: float, high: float, reach: float) -> Tensor:
    return ((place - low).abs() < reach) | ((place - high).abs() < reach)
