"""Take the pictures of docs/desk.md by working in the real window: `python docs/make_screenshots.py docs/images`.

Needs a display (xvfb-run gives one) and the sample CT. Data are kept in a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SCREEN = (1366, 768)
PATIENCE = 300.0
"""How long a job may take on a busy machine [s]."""
FOUND = ("lung_left", "lung_right", "heart", "aorta", "trachea", "spine", "liver", "clavicula_left", "clavicula_right")
TAUGHT = "kidney_left"
ANGLES = (0.0, 8.0, -8.0, 16.0, -16.0)


def main(folder: Path) -> None:
    """Take all pictures."""
    import napari

    viewer = napari.Viewer(title="CheXanatomy")
    viewer.window.resize(*SCREEN)
    viewer.open_sample("napari-chexanatomy", "lidc")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        radiograph(viewer, folder)
        predict(viewer, folder)
        review(viewer, folder, Path(scratch))
        fewshot(viewer, folder, Path(scratch))
        viewer.close()


def radiograph(viewer: Any, folder: Path) -> None:
    """An oblique view with its structures."""
    widget = open_alone(viewer, "Radiograph")
    widget.take(0.0)
    wait(lambda: widget.settled)
    widget.structures.set_checked(FOUND)
    widget.pose.sliders["primary"].setValue(20)
    wait(lambda: widget.settled)
    picture(viewer, folder / "radiograph.png")
    widget.take(0.0)
    wait(lambda: widget.settled)
    widget.structures.set_checked([])
    wait(lambda: widget.settled)


def predict(viewer: Any, folder: Path) -> None:
    """What the model finds, one structure selected."""
    widget = open_alone(viewer, "Predict")
    widget.structures.set_checked(FOUND)
    widget.style.setCurrentIndex(1)
    widget.run()
    wait(lambda: not widget.busy)
    widget.table.selectRow([f.structure for f in widget.findings].index("heart"))
    picture(viewer, folder / "predict.png")


def review(viewer: Any, folder: Path, scratch: Path) -> None:
    """A small data set of phantoms with one planted mistake."""
    from training.dataset import Case, Dataset
    from training.drr import Geometry, project_labels, render
    from training.phantom import thorax

    dataset = Dataset.create(scratch / "data")
    for seed in range(3):
        ct, labels = thorax(seed=seed, spacing=2.5)
        pose = Geometry.pa(ct, rows=512, columns=512)
        masks = project_labels(labels, pose, FOUND)
        if seed == 1:
            masks["lung_left"], masks["lung_right"] = masks["lung_right"], masks["lung_left"]
        name = f"phantom-{seed}"
        case = Case(name, name, "PA", pose.to_dict(), f"images/{name}.png", tuple(masks), (), (), "phantom", seed, "docs")
        dataset.add(case, render(ct, pose), masks)
    widget = open_alone(viewer, "Review")
    widget.reviewer.setText("reader")
    widget.open(dataset.folder)
    wait(lambda: widget.opened is not None and not widget.busy)
    picture(viewer, folder / "review.png")


def fewshot(viewer: Any, folder: Path, scratch: Path) -> None:
    """Five drawings of a structure that the model was not trained on, and what it learnt."""
    from dataclasses import replace

    from napari.layers import Layer

    from napari_chexanatomy.layers import core_of, from_radiograph, is_ct, is_labels
    from training.drr import Geometry, project_labels, render

    ct = next(core_of(layer).ct for layer in viewer.layers if is_ct(layer))
    labels = next(core_of(layer).labels for layer in viewer.layers if is_labels(layer))
    widget = open_alone(viewer, "Few-shot")
    widget.new(scratch / "kidney")
    widget.structure.setText("left kidney")
    widget.structure.editingFinished.emit()
    for angle in ANGLES:
        pose = Geometry.view(ct, angle, rows=512, columns=512)
        mask = project_labels(labels, pose, [TAUGHT])[TAUGHT]
        layer = viewer.add_layer(Layer.create(*from_radiograph(replace(render(ct, pose), name=f"view at {angle:g} degrees"))))
        widget.layers.choose(layer)
        widget.add_layer()
        viewer.layers.remove(layer)
        widget._drawing.data = mask.astype(np.uint8)
        widget.flush()
    widget.learn()
    wait(lambda: not widget.busy)
    widget.findChild(_scroll_area()).verticalScrollBar().setValue(100_000)
    picture(viewer, folder / "fewshot.png")


def open_alone(viewer: Any, name: str) -> Any:
    """Open a widget with no other beside it, every earlier 2D layer hidden."""
    from napari_chexanatomy.demo import open_widget

    for layer in viewer.layers:
        layer.visible = layer.visible and name in ("Radiograph", "Predict")
    viewer.window.remove_dock_widget("all")
    widget = open_widget(viewer, name)
    settle()
    return widget


def wait(done: Callable[[], bool]) -> None:
    """Let the window work until something is done. Raises TimeoutError when it takes too long."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the window did not get done")
        QApplication.processEvents()
        time.sleep(0.01)


def settle() -> None:
    """Let everything be laid out and drawn."""
    end = time.monotonic() + 0.5
    wait(lambda: time.monotonic() > end)


def picture(viewer: Any, path: Path) -> None:
    """Write a picture of the whole window when everything is drawn."""
    settle()
    viewer.screenshot(str(path), canvas_only=False, flash=False)


def _scroll_area() -> Any:
    from qtpy.QtWidgets import QScrollArea

    return QScrollArea


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"))
