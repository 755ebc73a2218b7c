"""One RGBA layer that shows many masks over a radiograph: adding a layer per structure takes seconds, this takes milliseconds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_chexanatomy.layers import KEY, Core, LivePixels, place, plane_of
from napari_chexanatomy.structure_colours import colour_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

Style = Literal["fill", "outline"]
Boxes = Mapping[str, tuple[float, float, float, float]]
"""By structure (top, left, bottom, right) [px]."""
DOT = 3
"""Length of a dot of a doubtful mask's outline, in widths of a line."""
FILL = 0.42
"""Opacity of a filled mask, 0..1; edges are drawn opaque."""
HAZE = 0.75
"""Opacity where a structure is certain, 0..1, when probabilities are shown."""
CHOSEN: dict[Style, float] = {"fill": 0.5, "outline": 0.12}
"""The same for the highlighted mask: among outlines a tint that leaves the picture under it to be judged."""


@dataclass(frozen=True)
class Patch:
    """A mask cut to its bounding box: bool `crop` [row, column], or uint8 for a probability in 255ths, whose first pixel is at
    `corner` (row, column) of the picture."""

    structure: str
    corner: tuple[int, int]
    crop: np.ndarray

    @property
    def pixels(self) -> int:
        """Number of pixels of the mask."""
        return int(np.count_nonzero(self.crop))

    @property
    def window(self) -> tuple[slice, slice]:
        """Where it lies in the picture: rows, columns."""
        (row, column), (height, width) = self.corner, self.crop.shape
        return slice(row, row + height), slice(column, column + width)


def cut(structure: str, mask: np.ndarray) -> Patch | None:
    """The mask (bool, or a share of 255 as uint8, [row, column]) cut to its bounding box; None for an empty one."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Patch(structure, (int(rows[0]), int(columns[0])), np.ascontiguousarray(crop))


def patches(masks: Mapping[str, np.ndarray]) -> list[Patch]:
    """Cut every mask, as `cut` takes it, that is not empty, the largest first, so that small ones are painted over large ones."""
    found = (cut(structure, mask) for structure, mask in masks.items())
    return sorted((patch for patch in found if patch is not None), key=lambda patch: -patch.crop.size)


def compose(
    shape: tuple[int, int],
    parts: Iterable[Patch],
    style: Style = "fill",
    highlight: str | None = None,
    doubtful: Collection[str] = (),
    boxes: Boxes | None = None,
) -> np.ndarray:
    """Paint the patches into one uint8 [row, column, 4] picture; the highlighted one last, tinted and edged in white.

    doubtful: structures that get a dotted outline and no area; boxes: what boxes to draw.
    """
    canvas = np.zeros((*shape, 4), np.float32)
    width = max(1, round(max(shape) / 400))
    ordered = sorted(parts, key=lambda patch: patch.structure == highlight)
    for patch in ordered:
        window = canvas[patch.window]
        colour = np.array(colour_of(patch.structure), np.float32)
        chosen = patch.structure == highlight
        unsure = patch.structure in doubtful
        if (style == "fill" or chosen) and not unsure:
            _over(window, patch.crop, colour, CHOSEN[style] if chosen else FILL)
        line = edge(patch.crop, 2 * width if unsure else width)
        if unsure:
            line &= _dots(line.shape, DOT * width)
        _over(window, line, np.full(3, 255, np.float32) if chosen else colour, 1.0)
    return _finished(canvas, boxes, highlight, width)


def hazy(
    shape: tuple[int, int],
    parts: Iterable[Patch],
    highlight: str | None = None,
    boxes: Boxes | None = None,
) -> np.ndarray:
    """Paint probabilities (uint8 patches) into one uint8 [row, column, 4] picture: the surer, the denser. Of the highlighted one
    alone if there is one, with a white line where it is half sure. boxes: as in `compose`."""
    canvas = np.zeros((*shape, 4), np.float32)
    width = max(1, round(max(shape) / 400))
    every = list(parts)
    for patch in [part for part in every if part.structure == highlight] or every:
        window, share = canvas[patch.window], patch.crop / np.float32(255)
        _over(window, patch.crop > 0, np.array(colour_of(patch.structure), np.float32), HAZE * share[patch.crop > 0])
        if patch.structure == highlight:
            _over(window, edge(share > 0.5, width), np.full(3, 255, np.float32), 1.0)
    return _finished(canvas, boxes, highlight, width)


def _finished(canvas: np.ndarray, boxes: Boxes | None, highlight: str | None, width: int) -> np.ndarray:
    """The canvas with boxes over it, uint8."""
    for structure, box in (boxes or {}).items():
        colour = np.full(3, 255, np.float32) if structure == highlight else np.array(colour_of(structure), np.float32)
        _over(canvas, _frame((canvas.shape[0], canvas.shape[1]), box, width), colour, 1.0)
    canvas[..., 3] *= 255
    return canvas.round().astype(np.uint8)


def edge(mask: np.ndarray, width: int) -> np.ndarray:
    """Bool [row, column]: the pixels of the mask within `width` pixels of its border or of the picture's."""
    inside = np.pad(mask, 1)
    for _ in range(width):
        inside[1:-1, 1:-1] &= inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return mask & ~inside[1:-1, 1:-1]


def _dots(shape: tuple[int, ...], period: int) -> np.ndarray:
    """Bool [row, column]: a chequerboard, which leaves dots of any outline."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    chosen: np.ndarray = (rows // period + columns // period) % 2 == 0
    return chosen


def _frame(shape: tuple[int, int], box: tuple[float, float, float, float], width: int) -> np.ndarray:
    """Bool [row, column]: the border of a box (top, left, bottom, right) [px]."""
    top, left, bottom, right = (round(value) for value in box)
    inside = np.zeros(shape, bool)
    inside[max(top, 0) : bottom, max(left, 0) : right] = True
    return edge(inside, width)


def _over(window: np.ndarray, where: np.ndarray, colour: np.ndarray, alpha: float | np.ndarray) -> None:
    """Blend a colour over the RGBA window (alpha in 0..1 in the last channel) where the mask is set; alpha: 0..1, above 0, of all
    its pixels or of each."""
    below = window[where]
    total = alpha + below[:, 3] * (1 - alpha)
    below[:, :3] = (colour * np.reshape(alpha, (-1, 1)) + below[:, :3] * (below[:, 3] * (1 - alpha))[:, None]) / total[:, None]
    below[:, 3] = total
    window[where] = below


class CompositeOverlay:
    """The one overlay layer of a widget: made when first needed, made again after the user deleted it."""

    def __init__(self, viewer: ViewerModel, name: str) -> None:
        """`name` is what the layer list shows."""
        self._viewer = viewer
        self._name = name
        self._pixels = LivePixels()
        self.layer: Layer | None = None

    @property
    def present(self) -> bool:
        """True while the layer is in the viewer."""
        return self.layer is not None and self.layer in self._viewer.layers

    def show(self, picture: np.ndarray, base: Layer, masks: Mapping[str, np.ndarray], live: bool = False) -> None:
        """Lay the RGBA picture over the base layer and keep the masks with it; live: more will follow at once."""
        core = Core(masks=dict(masks), role="overlay")
        if self.present and self.layer is not None:
            self._pixels.show(self.layer, picture, tuple(base.scale), live)
            place(self.layer, base)
            self.layer.metadata[KEY] = core
            layers = self._viewer.layers
            if base in layers and layers.index(self.layer) < layers.index(base):
                layers.move(layers.index(self.layer), layers.index(base) + 1)
            return
        active = self._viewer.layers.selection.active
        keywords: dict[str, Any] = {"name": self._name, "rgb": True, "blending": "translucent", "metadata": {KEY: core}}
        self.layer = self._viewer.add_image(picture, **keywords, **plane_of(base), visible=base.visible)
        self._viewer.layers.selection.active = active if active is not None else base

    def let_go(self) -> None:
        """Leave the layer to the user, as any other."""
        self.layer = None

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self.present:
            self._viewer.layers.remove(self.layer)
        self.layer = None
