"""Boxes and masks drawn into the picture, for the questions "name the drawn box" and "name the overlaid mask"."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from training.errors import ChexanatomyError

COLOURS = ((1.0, -0.6, -0.6), (-0.6, 1.0, -0.6), (1.0, 1.0, -0.8), (-0.8, 1.0, 1.0))
"""Red, green, yellow and cyan, in the model's -1..1."""

OPACITY = 0.5
"""How much of the picture a mask laid over it hides."""

LINE = 0.008
"""Half the width of a drawn box's line, as a share of the picture's side."""


def sound_box(box: Sequence[float], shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box (top, left, bottom, right) [px] of a picture of `shape` (rows, columns). Raises ChexanatomyError where it is none,
    or beside the picture."""
    if len(box) == 4 and all(map(math.isfinite, box)):
        top, left, bottom, right = (float(edge) for edge in box)
        if top < bottom and left < right and bottom > 0 and right > 0 and top < shape[0] and left < shape[1]:
            return top, left, bottom, right
    raise ChexanatomyError(
        f"{tuple(box)} is no box in a picture of {shape[0]} rows and {shape[1]} columns: give top, left, bottom, right in pixels."
    )


def outlined(pixels: Tensor, boxes: Tensor, colours: Tensor) -> Tensor:
    """Pictures float [n, 3, side, side] in -1..1 with a box float [n, 4] (top, left, bottom, right; shares of the side) drawn
    into each. colours: int64 [n], numbers of COLOURS."""
    side = pixels.shape[-1]
    place = (torch.arange(side, device=pixels.device) + 0.5) / side
    reach = max(LINE, 0.75 / side)
    low, high = boxes[:, :2, None], boxes[:, 2:, None]
    near = ((place - low).abs() < reach) | ((place - high).abs() < reach)
    inside = (place > low - reach) & (place < high + reach)
    line = (near[:, 0, :, None] & inside[:, 1, None]) | (inside[:, 0, :, None] & near[:, 1, None])
    return torch.where(line[:, None], _paint(pixels, colours), pixels)


def overlaid(pixels: Tensor, boxes: Tensor, crops: Tensor, colours: Tensor) -> Tensor:
    """The same with a mask laid over each. crops: float [n, 64, 64], the masks inside their boxes."""
    side = pixels.shape[-1]
    place = (2 * torch.arange(side, device=pixels.device) + 1) / side
    low, high = boxes[:, :2, None], boxes[:, 2:, None]
    rows, columns = ((place - low - high) / (high - low).clamp_min(1e-6)).unbind(1)
    grid = torch.stack(torch.broadcast_tensors(columns[:, None], rows[:, :, None]), -1)
    covered = functional.grid_sample(crops[:, None].to(pixels), grid.to(pixels.dtype), align_corners=False) * OPACITY
    return pixels * (1 - covered) + _paint(pixels, colours) * covered


def _paint(pixels: Tensor, colours: Tensor) -> Tensor:
    return torch.tensor(COLOURS, dtype=pixels.dtype).to(pixels.device)[colours][:, :, None, None]
