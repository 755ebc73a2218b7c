"""The canvas keeps its graphics context in hand while layers go."""

from __future__ import annotations

import numpy as np
from qtpy.QtGui import QOpenGLContext
from qtpy.QtOpenGLWidgets import QOpenGLWidget

from napari_chexanatomy.canvas import HELD
from napari_chexanatomy.predict import PredictWidget


def test_layers_go_in_the_context_of_their_canvas_also_after_the_widgets_are_closed(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    dock = viewer.window.add_dock_widget(PredictWidget(viewer), name="Predict")
    (canvas,) = viewer.window._qt_window.findChildren(QOpenGLWidget)
    qtbot.waitUntil(lambda: canvas.isValid() and bool(canvas.property(HELD)))
    layers = [viewer.add_image(np.zeros((8, 8), np.float32)) for _ in range(3)]
    seen = []
    viewer.layers.events.removed.connect(lambda: seen.append(QOpenGLContext.currentContext() == canvas.context()))
    for number, layer in enumerate(layers):
        if number == 1:
            viewer.window.remove_dock_widget(dock)
        canvas.doneCurrent()
        assert QOpenGLContext.currentContext() != canvas.context()
        viewer.layers.remove(layer)
    assert seen == [True] * 3
