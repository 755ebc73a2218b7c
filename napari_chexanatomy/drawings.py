"""What the user drew over a radiograph, on the radiograph's own pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_chexanatomy.layers import KEY, Core, core_of, drawn_mask
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from napari.layers import Layer

Box = tuple[float, float, float, float]
OWN_SHAPES = ("box", "lines")
"""Roles of Shapes layers that the Predict widget draws itself: no reference and no question."""


def can_be_asked_about(layer: Layer | None) -> bool:
    """True for a flat Labels or Shapes layer that holds something."""
    if layer is None or layer.ndim != 2 or type(layer).__name__ not in ("Labels", "Shapes"):
        return False
    return core_of(layer).role != "lines" and (
        bool(len(layer.data)) if type(layer).__name__ == "Shapes" else bool(np.any(layer.data))
    )


def is_reference(layer: Layer) -> bool:
    """True for a flat Labels or Shapes layer that may hold a reference mask."""
    return type(layer).__name__ in ("Labels", "Shapes") and layer.ndim == 2 and core_of(layer).role not in OWN_SHAPES


def mask_over(layer: Layer, base: Layer, shape: tuple[int, int]) -> np.ndarray:
    """Bool [row, column] of what is drawn in a Labels or Shapes layer, on the pixels of a radiograph's layer of (rows, columns).

    Shapes may have been drawn in a layer of another scale. Raises ChexanatomyError for Labels of another size.
    """
    if type(layer).__name__ != "Shapes":
        return drawn_mask(layer, shape)
    from napari.layers import Shapes

    moved = Shapes(_on(layer, base), shape_type=list(layer.shape_type), ndim=2)
    return drawn_mask(moved, shape)


def last_box(layer: Layer, base: Layer, shape: tuple[int, int]) -> Box:
    """(top, left, bottom, right) [px] of the shape drawn last, on the pixels of a radiograph's layer of (rows, columns)."""
    corners = _on(layer, base)[-1]
    rows, columns = shape
    top, left = np.maximum(corners.min(axis=0) + 0.5, 0)
    bottom, right = np.minimum(corners.max(axis=0) + 0.5, (rows, columns))
    if bottom - top < 1 or right - left < 1:
        raise ChexanatomyError("The box lies outside the radiograph, or is too small: draw it again.")
    return float(top), float(left), float(bottom), float(right)


def _on(layer: Layer, base: Layer) -> list[np.ndarray]:
    """The corners of every shape [point, (row, column)] in the radiograph's pixel coordinates."""
    scale, translate = np.asarray(base.scale)[-2:], np.asarray(base.translate)[-2:]
    return [
        (np.array([layer.data_to_world(corner) for corner in np.asarray(shape)])[:, -2:] - translate) / scale
        for shape in layer.data
    ]


def marked(role: str) -> dict[str, Core]:
    """Metadata of a layer of ours."""
    return {KEY: Core(role=role)}
