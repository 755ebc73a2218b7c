"""The hands of tools/long_use.py: what a person does in each widget, one action after the other."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench_desk import every, grip, mouse
from napari_chexanatomy.layers import core_of

if TYPE_CHECKING:
    from tools.long_use import Watch

PLUGIN = "napari-chexanatomy"
DRAG_STEPS = 12
RELOAD = 6
"""Every so many turns the CT and its labels are deleted and opened again."""
LEARN = 4
"""Every so many turns the learning is not cancelled."""
LEARNING_SECONDS = 3
LOOK_MS, PATIENCE = 20, 900
"""How often it is looked whether something is done [ms], and how long at most [s]: others may use the machine as well."""


class Hands:
    """Knows where every control is; `turn` works through all widgets once."""

    def __init__(self, viewer: Any, watch: Watch, dataset: Path, project: Path, rng: random.Random, sample: str) -> None:
        """rng: decides which control is used how."""
        self.viewer, self.watch, self.dataset, self.project, self.rng, self.sample = viewer, watch, dataset, project, rng, sample
        self.names: list[str] = []

    # A turn ---------------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Open every widget, use it, close it, and clear away what it left."""
        from napari_chexanatomy.layers import is_ct, is_labels

        if not len(self.viewer.layers):
            self.viewer.open_sample(PLUGIN, self.sample)
            self.watch.did("open a CT")
        if not self.project.exists():
            self._prepare_project()
        jobs: list[Callable[[], None]] = [self.radiograph, self.predict, self.review, self.fewshot]
        for job in jobs:
            job()
            if self.rng.random() < 0.5:
                self.close("all")
        self.close("all")
        for layer in list(self.viewer.layers):
            if self.watch.turn % RELOAD == 0 or not (is_ct(layer) or is_labels(layer)):
                self.viewer.layers.remove(layer)
                self.watch.did("delete a layer")

    def _prepare_project(self) -> None:
        widget = self.open("Welcome")
        widget.teach(self.project)
        wait(lambda: not widget.busy)
        self.watch.did("prepare the lesson")
        self.close("all")

    def open(self, name: str) -> Any:
        """Open a widget as the Plugins menu does."""
        from napari_chexanatomy.demo import open_widget

        widget = open_widget(self.viewer, name)
        self.watch.did(f"open {name}")
        return widget

    def close(self, name: str) -> None:
        """Close widgets."""
        self.viewer.window.remove_dock_widget(name)
        self.watch.did("close widgets")

    def do(self, widget: Any, kind: str, act: Callable[[], Any], done: Callable[[], bool]) -> None:
        """Do something, wait until it is done, and count what the widget complained about."""
        act()
        wait(done)
        if widget.message.styleSheet():
            self.watch.complaints[f"{kind}: {widget.message.text()}"] += 1
        self.watch.did(kind)

    # Radiograph -----------------------------------------------------------------------------------------------------

    def radiograph(self) -> None:
        """Presets, angles, exposure, structures, the ray under a click, the room, keep and save."""
        widget = self.open("Radiograph")
        rng, pose = self.rng, widget.pose

        def settled() -> bool:
            return widget.settled and not widget.busy

        def do(kind: str, act: Callable[[], Any]) -> None:
            self.do(widget, kind, act, settled)

        for name, button in rng.sample(sorted(widget.preset_buttons.items()), 3):
            do(f"view {name}", button.click)
        widget.warm_up()
        wait(widget.warm_up)
        for name in ("primary", "secondary", "roll"):
            do(f"drag {name}", lambda name=name: self.drag(pose.sliders[name]))
        for name, low, high in (("primary", -60, 60), ("secondary", -20, 20), ("sdd", 1650, 2000), ("z", -40, 40)):
            do(f"type {name}", lambda name=name, low=low, high=high: pose.sliders[name].setValue(rng.uniform(low, high)))
        known = widget.structures.structures()
        for count in (12, 40, 3):
            do("tick structures", lambda count=count: (widget.structures.set_checked(rng.sample(known, count)),
                                                       widget.structures.changed.emit()))  # fmt: skip
        widget.probe(core_of(widget.layer), rng.uniform(100, 400), rng.uniform(100, 400))
        wait(lambda: widget._probes.idle)  # a ray beside the body meets nothing
        self.watch.did("probe a ray")
        do("room", widget.room_view.room_button.click)
        wait(lambda: "patient" in self.viewer.layers)
        do("drag in the room", lambda: self.drag(pose.sliders["primary"]))
        do("back to the radiograph", widget.room_view.flat_button.click)
        do("keep", widget.keep)
        do("view after keeping", widget.preset_buttons["PA"].click)
        do("save", lambda: widget.save(self.project.parent / "saved"))
        if rng.random() < 0.3:
            self.viewer.layers.remove(widget.layer)
            self.watch.did("delete the radiograph")
            do("view after deleting", widget.preset_buttons["AP"].click)

    def drag(self, slider: Any) -> None:
        """Take a slider's handle, move it to and fro, let go."""
        from tools.long_use import pause

        handle = slider.handle
        x, y = grip(handle)
        mouse(handle, "MouseButtonPress", x, y)
        for _ in range(DRAG_STEPS):
            mouse(handle, "MouseMove", x + self.rng.uniform(-0.1, 0.1) * handle.width(), y)
            pause(0.05)
        mouse(handle, "MouseButtonRelease", x, y)

    # Predict --------------------------------------------------------------------------------------------------------

    def predict(self) -> None:
        """Ask, look at rows, ask back, measure, edit, save."""
        widget = self.open("Predict")
        rng = self.rng

        def done() -> bool:
            return not widget.busy

        def do(kind: str, act: Callable[[], Any]) -> None:
            self.do(widget, kind, act, done)

        known = widget.structures.structures()
        for count in (5, 12):
            widget.structures.set_checked([*rng.sample(known, count), "heart"])
            do("ask", widget.run_button.click)
        widget.prompt.setText("left lung; right lung; heart; fifth right rib")
        do("ask in words", widget.run)
        widget.prompt.clear()
        for finding in rng.sample(widget.findings, 2):
            do("select a row", lambda finding=finding: widget.table.select(finding.structure))
        do("outlines", lambda: widget.style_combo.setCurrentIndex(1))
        do("boxes", widget.found.boxes.click)
        do("raw tokens", widget.found.show_tokens.click)
        do("opacity", lambda: widget.found.opacity.setValue(rng.randrange(30, 100)))
        widget.draw_box()
        top, left = rng.uniform(50, 200), rng.uniform(50, 200)
        corners = np.array([[top, left], [top, left + 150], [top + 150, left + 150], [top + 150, left]])
        self.viewer.layers.selection.active.add_rectangles(corners)
        do("what is this box", widget.identify)
        self.viewer.layers.remove("what is this?")
        self.watch.did("delete a layer")
        do("measure", widget.measure)
        present = [f.structure for f in widget.findings if f.mask is not None]
        if present:
            widget.table.select(rng.choice(present))
            do("edit a mask", lambda: widget.found.edit.emit())
            layer = self.viewer.layers.selection.active
            self.paint(layer)
            self.viewer.layers.remove(layer)
            self.watch.did("delete a layer")
        do("save findings", lambda: widget.save(self.project.parent / "found"))
        do("copy the table", widget.table.copy)

    def paint(self, layer: Any) -> None:
        """Some strokes with the brush, and one taken back."""
        rows, columns = layer.data.shape
        for _ in range(3):
            layer.paint((self.rng.uniform(20, rows - 20), self.rng.uniform(20, columns - 20)), 1)
            self.watch.did("paint")
        layer.undo()
        self.watch.did("undo a stroke")

    # Review ---------------------------------------------------------------------------------------------------------

    def review(self) -> None:
        """Open the data set, decide, look around, repair one mask."""
        widget = self.open("Review")
        rng = self.rng

        def done() -> bool:
            return widget.settled

        def do(kind: str, act: Callable[[], Any]) -> None:
            self.do(widget, kind, act, done)

        do("open the data set", lambda: widget.open(self.dataset))
        wait(lambda: widget.opened is not None and widget.settled)
        for name in ("gallery", "gallery"):
            do(f"button {name}", widget.panel.buttons[name].click)
        for key in rng.choices("ARFNNBJJKTLHQU", k=18):
            do(f"key {key}", lambda key=key: press(widget.masks, key))
        do("select a mask", widget.masks.select_worst)
        if widget.masks.structure:
            do("repair", widget.panel.repair_button.click)
            self.paint(self.viewer.layers.selection.active)
            do("keep the repair", (widget.panel.save_button if rng.random() < 0.5 else widget.panel.discard_button).click)
        do("next", widget.panel.buttons["next"].click)
        if self.watch.turn % RELOAD == 1:
            do("report", lambda: widget.report(self.project.parent / "review.html"))

    # Few-shot -------------------------------------------------------------------------------------------------------

    def fewshot(self) -> None:
        """Go through the images, draw, undo, learn or cancel, use and delete the adapter."""
        widget = self.open("Few-shot")

        def done() -> bool:
            return not widget.busy

        def do(kind: str, act: Callable[[], Any]) -> None:
            self.do(widget, kind, act, done)

        do("open the project", lambda: widget.open(self.project))
        for row in range(widget.images.count()):
            do("go to an image", lambda row=row: widget.images.setCurrentRow(row))
        self.paint(widget.drawing.brush)
        for _ in range(2):
            do("undo", widget.undo)
        do("outline", widget.draw_outline)
        do("brush", widget.draw_freely)
        widget.learning.seconds.setValue(LEARNING_SECONDS)
        keep = self.watch.turn % LEARN == 0
        widget.learning.learn_button.click()
        if not keep:
            from tools.long_use import pause

            pause(self.rng.uniform(1, 6))
            widget.cancel()
        do("learn" if keep else "cancel the learning", lambda: None)
        if widget.adapters.kept:
            widget.pages.setCurrentWidget(widget.adapters)
            do("select an adapter", lambda: widget.adapters.table.selectRow(0))
            do("apply an adapter", widget.adapters.buttons["Apply"].click)
            predict = self.open("Predict")
            predict.structures.set_checked(["heart", "lung_left"])
            self.do(predict, "ask with the adapter", predict.run_button.click, lambda: not predict.busy)
            widget.adapters.table.selectRow(0)
            do("delete an adapter", widget.adapters.buttons["Delete"].click)


def wait(done: Callable[[], bool]) -> None:
    """Let the window work until something is done. Raises TimeoutError when it takes too long."""
    from qtpy.QtCore import QEventLoop

    loop, end = QEventLoop(), time.monotonic() + PATIENCE
    if not done():
        with every(LOOK_MS, lambda: loop.quit() if done() or time.monotonic() > end else None):
            loop.exec()
    if not done():
        raise TimeoutError("the window did not get done")


def press(target: Any, key: str) -> None:
    """Press and release a key on a widget."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    QTest.keyClick(target, getattr(Qt.Key, f"Key_{key}"))
