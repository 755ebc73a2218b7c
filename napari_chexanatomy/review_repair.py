"""The brush of the review: one mask in a Labels layer, until it is saved or put away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_chexanatomy.layers import KEY, Core, drawn_mask, label_colormap, plane_of
from napari_chexanatomy.review_queue import Opened
from napari_chexanatomy.structure_colours import display_name
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer


class RepairBrush:
    """Holds the Labels layer in which a mask is corrected; `structure` is "" while there is none."""

    def __init__(self, viewer: ViewerModel) -> None:
        """No repair is under way."""
        self._viewer = viewer
        self._layer: Layer | None = None
        self._base: Layer | None = None
        self._opened: Opened | None = None
        self._before = np.zeros((0, 0), bool)
        self.structure = ""

    def begin(self, opened: Opened, structure: str, base: Layer) -> None:
        """Put the mask, or an empty one where there is none, over the radiograph's layer with the brush in hand."""
        mask = opened.masks.get(structure)
        data = np.zeros(opened.radiograph.pixels.shape, np.uint8) if mask is None else mask.astype(np.uint8)
        self.structure, self._base, self._opened, self._before = structure, base, opened, data > 0
        self._layer = self._viewer.add_labels(
            data, name=f"repair {display_name(structure)}", colormap=label_colormap({1: structure}), opacity=0.5,
            metadata={KEY: Core(role=f"drawing:{structure}")}, **plane_of(base),
        )  # fmt: skip
        self._layer.mode = "paint"
        self._viewer.layers.selection.active = self._layer

    @property
    def changed(self) -> bool:
        """Whether there is a drawing that would be lost."""
        layer = self._layer
        return layer is not None and layer in self._viewer.layers and not np.array_equal(layer.data > 0, self._before)

    def drawn(self) -> tuple[Opened, str, np.ndarray]:
        """Case, structure and mask as it is, bool [row, column]. Raises ChexanatomyError when there is none or it is empty."""
        if self._opened is None or self._layer is None or self._layer not in self._viewer.layers:
            raise ChexanatomyError("There is no repair to save: select a mask and press “Repair”.")
        mask = drawn_mask(self._layer, self._opened.radiograph.pixels.shape)
        if not mask.any():
            raise ChexanatomyError("The repaired mask is empty: reject the mask instead when the structure is not there.")
        return self._opened, self.structure, mask

    def put_away(self) -> None:
        """Remove the layer."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
            if self._base is not None and self._base in self._viewer.layers:
                self._viewer.layers.selection.active = self._base
        self._layer = self._base = self._opened = None
        self.structure = ""
