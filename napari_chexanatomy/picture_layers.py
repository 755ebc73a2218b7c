"""The two flat layers in which the Radiograph widget shows a picture: the radiograph, and the structures over it."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from napari_chexanatomy.layers import KEY, LivePixels, from_radiograph, look_at
from napari_chexanatomy.overlay import CompositeOverlay
from napari_chexanatomy.picture import Picture, exposure_settings

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

EXPOSURE_KEY = "exposure"
"""Where a radiograph's layer carries beam, dose and look, for scripts and other plugins."""


class PictureLayers:
    """Makes the layers when they are first needed and again after the user deleted them; a renamed one keeps its name."""

    def __init__(self, viewer: ViewerModel) -> None:
        """Nothing shown yet."""
        self._viewer = viewer
        self._layer: Layer | None = None
        self._pixels = LivePixels()
        self._own_name = ""
        self.overlay = CompositeOverlay(viewer, "projected structures")
        self.opacity = 1.0

    @property
    def layer(self) -> Layer | None:
        """The layer of the radiograph; None before the first one and after the user deleted it."""
        return self._layer if self._layer is not None and self._layer in self._viewer.layers else None

    def show(self, picture: Picture) -> None:
        """Show a picture; a preview is shown with as little work for the window as can be."""
        order = picture.order
        data, keywords, _ = from_radiograph(picture.radiograph, order.geometry, picture.masks)
        keywords["metadata"][KEY] = replace(
            keywords["metadata"][KEY],
            source=weakref.ref(order.ct),
            source_labels=weakref.ref(order.labels) if order.labels is not None else None,
        )
        keywords["metadata"][EXPOSURE_KEY] = exposure_settings(order)
        layer = self.layer
        if layer is None:
            flat = self._viewer.dims.ndisplay == 2
            layer = self._layer = self._viewer.add_image(data, **keywords, visible=flat)
            self._own_name = layer.name
            if flat:
                self._first_look(layer)
        else:
            self._pixels.show(layer, data, keywords["scale"], live=not order.full)
            layer.metadata.update(keywords["metadata"])
            if order.full and layer.name == self._own_name != keywords["name"]:
                layer.name = keywords["name"]
                self._own_name = layer.name
        if picture.overlay is None:
            self.overlay.remove()
        elif self.overlay.present or self._viewer.dims.ndisplay == 2:  # napari cannot make a flat colour layer in 3D
            self.overlay.show(picture.overlay, layer, picture.masks, live=not order.full)
            self.set_opacity(self.opacity)

    def set_opacity(self, opacity: float) -> None:
        """Let the structures shine through (0) or not (1)."""
        self.opacity = opacity
        if self.overlay.present and self.overlay.layer is not None and self.overlay.layer.opacity != opacity:
            self.overlay.layer.opacity = opacity

    def keep(self) -> Layer | None:
        """Leave the present layers in the viewer for good; the next picture gets new ones. Returns the kept radiograph."""
        layer = self.layer
        if layer is None:
            return None
        layer.name = f"{layer.name} (kept)"
        if self.overlay.present and self.overlay.layer is not None:
            self.overlay.layer.name = f"structures of {layer.name}"
            self.overlay.layer.visible = False
        self._layer, self.overlay = None, CompositeOverlay(self._viewer, "projected structures")
        self._pixels = LivePixels()
        return layer

    def _first_look(self, layer: Layer) -> None:
        for other in self._viewer.layers:
            if other.ndim == 3:
                other.visible = False
        look_at(self._viewer, layer)
