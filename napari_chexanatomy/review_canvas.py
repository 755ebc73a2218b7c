"""The case under review on the canvas: one image layer and one overlay of its masks, painted off the GUI thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from weakref import WeakSet

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_chexanatomy.jobs import LatestWins, Outcome
from napari_chexanatomy.layers import KEY, from_radiograph, keep_in_sight, look_at
from napari_chexanatomy.overlay import CompositeOverlay, Patch, Style, compose
from napari_chexanatomy.review_queue import Opened

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

Shown = Literal["all", "selected", "none"]


class CaseCanvas(QObject):
    """Holds the layers of the case on screen; they are used again for the next case."""

    failed = Signal(str)

    def __init__(self, viewer: ViewerModel, owner: QObject) -> None:
        """Nothing is shown yet."""
        super().__init__(owner)
        self._viewer = viewer
        self._layer: Layer | None = None
        self._opened: Opened | None = None
        self._asked = self._painted = 0
        self._hidden: WeakSet[Layer] = WeakSet()
        self._overlay = CompositeOverlay(viewer, "masks of the case")
        self._painter = LatestWins(self)
        self._painter.delivered.connect(self._take)

    @property
    def layer(self) -> Layer | None:
        """The radiograph's layer, None when the user has closed it."""
        return self._layer if self._layer is not None and self._layer in self._viewer.layers else None

    @property
    def idle(self) -> bool:
        """True when the last picture that was asked for is on the canvas."""
        return self._asked == self._painted

    def show(self, opened: Opened) -> None:
        """Put a case's radiograph on the canvas; its masks follow with `paint`."""
        self._opened = opened
        data, keywords, _ = from_radiograph(opened.radiograph, masks=opened.masks)
        layer = self.layer
        if layer is None:
            self._set_aside()
            self._layer = layer = self._viewer.add_image(data, **keywords)
            look_at(self._viewer, layer)
            return
        shape, scale = layer.data.shape, np.array(layer.scale)
        layer.data, layer.name, layer.metadata[KEY] = data, keywords["name"], keywords["metadata"][KEY]
        if not np.array_equal(scale, keywords["scale"]):  # napari draws anew for each value that is set
            layer.scale = keywords["scale"]
        if (str(layer.units[0]) == "pixel") != (opened.radiograph.spacing is None):
            layer.units = keywords["units"]
        if shape != data.shape:
            look_at(self._viewer, layer)
        else:
            keep_in_sight(self._viewer, np.array(layer.scale) / scale)

    def paint(self, opened: Opened, structure: str | None, shown: Shown, style: Style) -> None:
        """Paint the masks, the given structure brought out."""
        if self.layer is None:
            return
        self._opened = opened
        cuts, shape = to_paint(opened, structure, shown), opened.radiograph.pixels.shape
        self._asked += 1
        number = self._asked
        self._painter.submit(lambda: (number, opened, compose(shape, cuts, style, structure)))

    def _take(self, outcome: Outcome) -> None:
        if outcome.error:
            self._painted = self._asked
            self.failed.emit(outcome.error)
            return
        opened: Opened = outcome.value[1]
        self._painted = outcome.value[0]
        if opened is self._opened and self.layer is not None:
            self._overlay.show(outcome.value[2], self.layer, opened.masks)

    def _set_aside(self) -> None:
        """Hide what would lie over the case or show through its masks, until the review is closed."""
        for layer in self._viewer.layers:
            if layer.visible and layer is not self._overlay.layer:
                layer.visible = False
                self._hidden.add(layer)

    def close(self) -> None:
        """End the painting, and show again what was hidden."""
        self._painter.close()
        for layer in self._viewer.layers:
            if layer in self._hidden:
                layer.visible = True
        self._hidden.clear()


def to_paint(opened: Opened, structure: str | None, shown: Shown) -> list[Patch]:
    """The patches to paint. Of all masks, those of composites are left out unless selected: their parts are there.

    With nothing selected, "selected" is all.
    """
    from training.dataset.measure import composites

    if shown == "none":
        return []
    cuts = opened.cuts
    if shown == "selected" and structure:
        return [cut for cut in cuts if cut.structure == structure]
    here = {cut.structure for cut in cuts}
    return [cut for cut in cuts if cut.structure == structure or not here & set(composites().get(cut.structure, ()))]
