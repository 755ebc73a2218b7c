"""Slightly moved looks at an image, over which the accurate answer averages."""

from __future__ import annotations

from dataclasses import dataclass

import torch

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Look:
    """A slightly moved look at an image: new = scale * old + shift about the centre, both as shares of the side (row, column)."""

    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def back(self, box: Box, size: int) -> Box:
        """A box (top, left, bottom, right) [px] of the moved square in the square as it was."""
        middle = size / 2
        row, column = (s * size + middle for s in self.shift)
        top, left, bottom, right = box
        return (
            (top - row) / self.scale + middle,
            (left - column) / self.scale + middle,
            (bottom - row) / self.scale + middle,
            (right - column) / self.scale + middle,
        )


LOOKS = (Look(), Look(0.94, (0.02, -0.02)), Look(1.06, (-0.02, 0.02)), Look(0.97, (-0.03, -0.03)), Look(1.03, (0.03, 0.03)))
"""What `accurate` averages over; the first is the image as it is."""


def moved(pixels: torch.Tensor, look: Look) -> torch.Tensor:
    """Pixels float [1, 3, size, size] in -1..1 under a look; black comes in from outside."""
    if look == LOOKS[0]:
        return pixels
    row, column = (-2 * s / look.scale for s in look.shift)
    theta = torch.tensor([[[1 / look.scale, 0, column], [0, 1 / look.scale, row]]])
    grid = torch.nn.functional.affine_grid(theta, [1, 1, *pixels.shape[-2:]], align_corners=False)
    return torch.nn.functional.grid_sample(pixels + 1, grid, align_corners=False) - 1
