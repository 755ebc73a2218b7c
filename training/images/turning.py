"""How a picture was turned when it was read, and the way back onto its file's own pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Turn:
    """From a file's own grid to the grid as read. transposed: rows became columns; flipped, mirrored: then the rows, the columns
    were put in reverse order."""

    transposed: bool = False
    flipped: bool = False
    mirrored: bool = False

    def __call__(self, stored: np.ndarray) -> np.ndarray:
        """Turn an array [row, column]."""
        turned = stored.T if self.transposed else stored
        turned = turned[::-1] if self.flipped else turned
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)

    def box(self, box: Box, size: tuple[int, int]) -> Box:
        """Turn a box (top, left, bottom, right) [px] on a grid of `size` (rows, columns)."""
        (top, left, bottom, right), (rows, columns) = box, size
        if self.transposed:
            top, left, bottom, right, rows, columns = left, top, right, bottom, columns, rows
        if self.flipped:
            top, bottom = rows - bottom, rows - top
        if self.mirrored:
            left, right = columns - right, columns - left
        return top, left, bottom, right

    @property
    def back(self) -> Turn:
        """The turn from the grid as read to the file's own."""
        return Turn(True, self.mirrored, self.flipped) if self.transposed else self


AS_STORED = Turn()
