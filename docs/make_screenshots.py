"""Take the pictures of the desk's pages by working in the real window: `python docs/make_screenshots.py docs/images [PART ...]`.

Needs a display (xvfb-run gives one) and the sample CT. Data are kept in a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from training.drr import PHYSICS

SCREEN = (1366, 768)
PATIENCE = 300.0
"""How long a job may take on a busy machine [s]."""
FOUND = ("lung_left", "lung_right", "heart", "aorta", "trachea", "spine", "liver", "clavicula_left", "clavicula_right")
TAUGHT = "kidney_left"
ANGLES = (0.0, 8.0, -8.0, 16.0, -16.0)


def main(folder: Path, parts: Sequence[str] = ()) -> None:
    """Take all pictures, or those of some parts: welcome, radiograph, predict, measure, review, fewshot."""
    import napari
    from napari.settings import get_settings

    # Nobody's own settings, and no toast about units over the pictures.
    get_settings(None).application.gui_notification_level = "error"
    viewer = napari.Viewer(title="CheXanatomy")
    viewer.window.resize(*SCREEN)
    viewer.open_sample("napari-chexanatomy", "lidc")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for part in (welcome, radiograph, predict, measure, review, fewshot):
            if not parts or part.__name__ in parts:
                part(viewer, folder, Path(scratch))
        viewer.close()


def welcome(viewer: Any, folder: Path, scratch: Path) -> None:
    """The welcome with its first step done."""
    del scratch  # every part takes the same
    open_alone(viewer, "Welcome")
    picture(viewer, folder / "welcome.png")


def radiograph(viewer: Any, folder: Path, scratch: Path) -> None:
    """A view with its structures and one ray, an exposure with little dose, an oblique view in the room, an impossible pose."""
    from napari_chexanatomy.layers import core_of

    widget = open_alone(viewer, "Radiograph")
    widget.take(0.0)
    wait(lambda: widget.settled)
    widget.structures.set_checked(FOUND)
    heart = np.argwhere(settled_masks(widget)["heart"]).mean(axis=0)
    widget.probe(core_of(widget.layer), *(float(place) for place in heart))
    wait(lambda: bool(widget.ray_list.rows()))
    picture(viewer, folder / "radiograph.png")
    widget.ray_list.unfold(False)
    widget.exposure.section.unfold()
    widget.structures.set_checked([])
    widget.exposure.show_physics(replace(widget.exposure.physics, kvp=70.0, exposure_index=25.0, grid=False))
    wait(lambda: widget.settled)
    picture(viewer, folder / "exposure.png")
    widget.exposure.show_physics(PHYSICS["stand"])
    widget.exposure.section.unfold(False)
    widget.structures.set_checked(FOUND)
    widget.take(12.0)
    widget.show_room()
    wait(lambda: widget.settled and "patient" in viewer.layers)
    picture(viewer, folder / "room.png")
    widget.pose.sliders["sid"].setValue(200)
    widget.pose.sliders["y"].setValue(-100)
    picture(viewer, folder / "impossible.png")
    widget.usual_pose()
    widget.show_room(False)
    widget.structures.set_checked([])
    wait(lambda: widget.settled)


def settled_masks(widget: Any) -> Any:
    """The masks of what is ticked, as soon as they are there."""
    wait(lambda: widget.settled)
    return widget.picture.masks


def predict(viewer: Any, folder: Path, scratch: Path) -> None:
    """What the model finds, one structure selected; what a box shows; and the results of several images."""
    from training.drr import render
    from training.images import write_radiograph_dicom

    widget = ask(viewer)
    picture(viewer, folder / "predict.png")
    only(widget, widget.back)
    heart = next(f for f in widget.findings if f.structure == "heart")
    widget.table.clearSelection()
    widget.draw_box()
    top, left, bottom, right = heart.box
    viewer.layers.selection.active.add_rectangles(np.array([[top, left], [top, right], [bottom, right], [bottom, left]]))
    widget.identify()
    wait(lambda: not widget.busy)
    picture(viewer, folder / "whatisthis.png")
    viewer.layers.remove(viewer.layers["what is this?"])
    (scratch / "images").mkdir()
    for seed in range(4):
        ct, _, pose = body(seed)
        write_radiograph_dicom(render(ct, pose), scratch / f"images/phantom-{seed}.dcm")
    only(widget, widget.many)
    widget.many.measure.setChecked(True)
    widget.many.run_folder(scratch / "images", scratch / "results", FOUND)
    wait(lambda: not widget.busy)
    widget.many.table.selectRow(1)
    picture(viewer, folder / "many.png")
    viewer.layers.remove(viewer.layers["phantom-1.dcm"])


def measure(viewer: Any, folder: Path, scratch: Path) -> None:
    """The cardiothoracic ratio with its lines, and where prediction and projected masks agree."""
    from qtpy.QtWidgets import QScrollArea

    widget = ask(viewer)
    only(widget, widget.measuring)
    widget.table.clearSelection()
    widget.measure()
    wait(lambda: not widget.busy)
    picture(viewer, folder / "measure.png")
    widget.table.select("heart")
    widget.compare()
    wait(lambda: not widget.busy)
    widget.findChild(QScrollArea).verticalScrollBar().setValue(100_000)
    for layer in viewer.layers:
        layer.visible = layer.visible and layer.name not in ("cardiothoracic ratio", "predicted structures")
    picture(viewer, folder / "agreement.png")


def ask(viewer: Any) -> Any:
    """The Predict widget after it asked about the PA view of the sample CT, which is taken where there is none."""
    from napari_chexanatomy.layers import is_radiograph

    if not any(is_radiograph(layer) for layer in viewer.layers):
        taking = open_alone(viewer, "Radiograph")
        taking.take(0.0)
        wait(lambda: taking.settled)
    widget = open_alone(viewer, "Predict")
    for layer in list(viewer.layers):
        if layer.name in ("projected structures", "predicted structures"):
            viewer.layers.remove(layer)
    widget.structures.set_checked(FOUND)
    widget.style_combo.setCurrentIndex(1)
    widget.run()
    wait(lambda: not widget.busy)
    widget.table.select("heart")
    return widget


def only(widget: Any, section: Any) -> None:
    """Unfold one section of a widget and fold the others."""
    from napari_chexanatomy.section import Section

    for other in widget.findChildren(Section):
        other.unfold(other is section)


def body(seed: int) -> tuple[Any, Any, Any]:
    """A phantom, its labels and a PA pose."""
    from training.drr import Geometry
    from training.phantom import thorax

    ct, labels = thorax(seed=seed, spacing=2.5)
    return ct, labels, Geometry.pa(ct, rows=512, columns=512)


def review(viewer: Any, folder: Path, scratch: Path) -> None:
    """A small data set of phantoms with one planted mistake."""
    from training.dataset import Case, Dataset
    from training.drr import project_labels, render

    dataset = Dataset.create(scratch / "data")
    for seed in range(3):
        ct, labels, pose = body(seed)
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
    from napari.layers import Layer

    from napari_chexanatomy.layers import core_of, from_radiograph, is_ct, is_labels
    from training.drr import Geometry, project_labels, render

    ct = next(core_of(layer).ct for layer in viewer.layers if is_ct(layer))
    labels = next(core_of(layer).labels for layer in viewer.layers if is_labels(layer))
    widget = open_alone(viewer, "Few-shot")
    widget.new(scratch / "kidney")
    widget.choose_structure("left kidney")
    for angle in ANGLES:
        pose = Geometry.view(ct, angle, rows=512, columns=512)
        mask = project_labels(labels, pose, [TAUGHT])[TAUGHT]
        layer = viewer.add_layer(Layer.create(*from_radiograph(replace(render(ct, pose), name=f"view at {angle:g} degrees"))))
        widget.layers.choose(layer)
        widget.add_layer()
        viewer.layers.remove(layer)
        widget.drawing.replace(mask)
        widget.flush()
    picture(viewer, folder / "fewshot_draw.png")
    widget.learn()
    wait(lambda: not widget.busy)
    picture(viewer, folder / "fewshot.png")
    widget.pages.setCurrentWidget(widget.adapters)
    picture(viewer, folder / "fewshot_adapters.png")


def open_alone(viewer: Any, name: str) -> Any:
    """Open a widget with no other beside it; Review and Few-shot begin with CT and labels alone, and those hidden."""
    from napari_chexanatomy.demo import open_widget
    from napari_chexanatomy.layers import is_ct, is_labels

    viewer.window.remove_dock_widget("all")
    if name in ("Review", "Few-shot"):
        for layer in list(viewer.layers):
            layer.visible = False
            if not (is_ct(layer) or is_labels(layer)):
                viewer.layers.remove(layer)
    widget = open_widget(viewer, name)
    settle()
    return widget


def wait(done: Callable[[], bool]) -> None:
    """Let the window work as under `napari.run` until something is done. Raises TimeoutError when it takes too long."""
    from qtpy.QtCore import QEventLoop, QTimer

    end = time.monotonic() + PATIENCE
    loop, look = QEventLoop(), QTimer()
    look.timeout.connect(lambda: loop.quit() if done() or time.monotonic() > end else None)
    look.start(10)
    loop.exec()
    look.stop()
    if not done():
        raise TimeoutError("the window did not get done")


def settle() -> None:
    """Let everything be laid out and drawn."""
    end = time.monotonic() + 0.5
    wait(lambda: time.monotonic() > end)


def picture(viewer: Any, path: Path) -> None:
    """Write a picture of the whole window when everything is drawn."""
    settle()
    viewer.screenshot(str(path), canvas_only=False, flash=False)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images"), sys.argv[2:])
