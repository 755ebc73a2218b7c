"""napari's canvas, where it needs a hand."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import ref

from qtpy.compat import isalive
from qtpy.QtOpenGLWidgets import QOpenGLWidget

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QWidget

HELD = "chexanatomy-held"
"""The property of a canvas that is looked after already."""


def look_after(viewer: ViewerModel, window: QWidget) -> None:
    """Make the canvases of a viewer's window current before a layer is removed, from now on.

    napari 0.9.2 frees what a removed layer has on the graphics card at once, in whatever context happens to be current. In that
    of Qt's own painting this ends the program at the next picture: so it was with vispy 0.17 on Mesa 22.3, with three images of
    which the lowest is deleted first, and no plugin at all.
    """
    for canvas in window.findChildren(QOpenGLWidget):
        if not canvas.property(HELD):
            canvas.setProperty(HELD, True)
            viewer.layers.events.removing.connect(partial(_make_current, ref(canvas)))


def _make_current(canvas: ref[QOpenGLWidget], _event: Any = None) -> None:
    widget = canvas()
    if widget is not None and isalive(widget) and widget.isValid():
        widget.makeCurrent()
