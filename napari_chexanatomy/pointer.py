"""From a click on the canvas to a pixel of a radiograph: on the flat picture, or on the detector in the room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_chexanatomy.layers import Core, core_of, is_radiograph
from training.drr import Geometry

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

LEFT = 1
STILL = 3
"""A hand that moves no farther between press and release clicks [screen pixels]."""
FREE_MODES = ("pan_zoom", "transform")
"""Layer modes in which a click draws nothing."""


class Clicks:
    """Calls `clicked(core, row, column)` for every click that hits a radiograph taken here; a drag is no click."""

    def __init__(
        self, viewer: ViewerModel, shown: Callable[[], Layer | None], clicked: Callable[[Core, float, float], None]
    ) -> None:
        """`shown` gives the layer that is meant when no radiograph is selected."""
        self._viewer = viewer
        self._shown = shown
        self._clicked = clicked
        viewer.mouse_drag_callbacks.append(self._press)

    def close(self) -> None:
        """Listen no more."""
        if self._press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._press)

    def _press(self, viewer: ViewerModel, event: Any) -> Iterator[None]:
        active = viewer.layers.selection.active
        drawing = active is not None and str(getattr(active, "mode", "pan_zoom")) not in FREE_MODES
        if event.button != LEFT or event.modifiers or drawing:
            return
        start = np.array(event.pos)
        yield
        while event.type == "mouse_move":
            if np.abs(np.array(event.pos) - start).max() > STILL:
                return
            yield
        hit = self._hit(event)
        if hit is not None:
            self._clicked(*hit)

    def _hit(self, event: Any) -> tuple[Core, float, float] | None:
        active = self._viewer.layers.selection.active
        layer = active if active is not None and core_of(active).geometry is not None else self._shown()
        core = core_of(layer)
        geometry = core.geometry
        if layer is None or geometry is None:
            return None
        if self._viewer.dims.ndisplay == 3:
            place = on_detector(geometry, event.position, event.view_direction)
        elif layer.visible and is_radiograph(layer):
            place = in_picture(layer, geometry, event.position)
        else:
            place = None
        if place is None or not (-0.5 <= place[0] <= geometry.rows - 0.5 and -0.5 <= place[1] <= geometry.columns - 0.5):
            return None
        return core, *place


def in_picture(layer: Layer, geometry: Geometry, position: Any) -> tuple[float, float]:
    """(row, column) of the geometry's detector under a position of the canvas; a preview has fewer pixels than the detector."""
    row, column = layer.world_to_data(position)[-2:]
    rows, columns = layer.data.shape[:2]
    return (float(row) + 0.5) * geometry.rows / rows - 0.5, (float(column) + 0.5) * geometry.columns / columns - 0.5


def on_detector(geometry: Geometry, position: Any, direction: Any) -> tuple[float, float] | None:
    """(row, column) where a line of sight (position and direction, z y x) meets the detector's plane; None where it does not."""
    point, way = np.asarray(position, float)[-3:][::-1], np.asarray(direction, float)[-3:][::-1]
    slope = float(way @ geometry.beam)
    if abs(slope) < 1e-6:
        return None
    met = point + way * float((geometry.detector_centre - point) @ geometry.beam) / slope
    row, column = geometry.project(met[None])[0]
    return float(row), float(column)
