"""What `chexanatomy demo` and `chexanatomy review --window` open: the napari window with something to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_chexanatomy.layers import from_ct, from_labels, from_radiograph
from napari_chexanatomy.overlay import compose, patches
from napari_chexanatomy.picture import Order, Picture
from training.images.types import CT, LabelMap, Radiograph

if TYPE_CHECKING:
    from training.drr import Geometry
    from training.model import Finding

PLUGIN = "napari-chexanatomy"
WINDOW = (1600, 900)
GAP = 0.04
"""Space between the two radiographs, as a share of the width of one."""
DRAWING_ROUNDS = 20


def show(
    ct: CT,
    labels: LabelMap,
    geometry: Geometry,
    radiograph: Radiograph,
    masks: Mapping[str, np.ndarray],
    findings: Sequence[Finding],
    screenshot: Path | None = None,
    block: bool | None = None,
) -> Any:
    """Open the window: the radiograph on the left with the masks projected from the CT, on the right with those predicted.

    masks: bool [row, column] by structure; screenshot: write a picture of the whole window there and close it; block: stay until
    the user closes the window (default: unless a screenshot is taken). Returns the viewer.
    """
    import napari
    from napari.layers import Layer

    viewer = napari.Viewer(title="CheXanatomy")
    viewer.window.resize(*WINDOW)
    for data in (from_ct(ct), from_labels(labels)):
        viewer.add_layer(Layer.create(*data)).visible = False
    radiographs, predict = open_widget(viewer, "Radiograph"), open_widget(viewer, "Predict")
    asked = tuple(f.structure for f in findings if f.structure in masks) or tuple(masks)
    shown = {structure: masks[structure] for structure in asked}
    painted = compose(radiograph.pixels.shape, patches(shown))
    radiographs.adopt(Picture(Order(ct, labels, geometry, asked, "fill", None, True), radiograph, shown, painted))
    data, keywords, _ = from_radiograph(replace(radiograph, name=f"{radiograph.name}, asked"))
    width = radiograph.pixels.shape[1] * keywords["scale"][1]
    beside = viewer.add_image(data, translate=(0.0, width * (1 + GAP)), **keywords)
    predict.radiograph_chooser.choose(beside)
    predict.structures.set_checked(asked)
    predict.show_findings(beside, radiograph, findings)
    viewer.canvas.overlays.text.text = "left: projected from the CT's labels      right: predicted from the radiograph alone"
    viewer.canvas.overlays.text.visible = True
    viewer.reset_view()
    _fit_flat(viewer)
    if screenshot is not None:
        _picture(viewer, screenshot)
    if block if block is not None else screenshot is None:
        napari.run()
    elif screenshot is not None and block is None:
        viewer.close()
    return viewer


def review(dataset: Path, block: bool = True) -> Any:
    """Open the window with the Review widget on a data set. Returns the viewer."""
    import napari

    viewer = napari.Viewer(title="CheXanatomy")
    viewer.window.resize(*WINDOW)
    open_widget(viewer, "Review").open(dataset)
    if block:
        napari.run()
    return viewer


def open_widget(viewer: Any, name: str) -> Any:
    """Open one of the plugin's widgets by its display name, as the Plugins menu does; returns the widget."""
    return viewer.window.add_plugin_dock_widget(PLUGIN, name, tabify=True)[1]


def _fit_flat(viewer: Any) -> None:
    """Fit the 2D layers to the canvas; the hidden volumes are as wide as the patient and would only push them aside."""
    corners = [layer.extent.world for layer in viewer.layers if layer.ndim == 2]
    low = np.min([corner[0] for corner in corners], axis=0)
    high = np.max([corner[1] for corner in corners], axis=0)
    every = viewer.layers.extent.world[:, -2:]
    viewer.scene.camera.zoom *= float(((every[1] - every[0]) / (high - low)).min())
    viewer.scene.camera.center = tuple((low + high) / 2)


def _picture(viewer: Any, path: Path) -> None:
    """Write a picture of the window once everything in it has been drawn."""
    import time

    from qtpy.QtWidgets import QApplication

    for _ in range(DRAWING_ROUNDS):
        QApplication.processEvents()
        time.sleep(0.02)
    path.parent.mkdir(parents=True, exist_ok=True)
    viewer.screenshot(str(path), canvas_only=False, flash=False)
