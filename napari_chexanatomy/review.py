"""The Review widget: walk through a data set, most suspicious case first, and accept, reject or repair masks by keyboard."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
)

from napari_chexanatomy.desk import DeskWidget, plainly
from napari_chexanatomy.layers import KEY, Core, drawn_mask, from_radiograph, label_colormap, look_at, plane_of
from napari_chexanatomy.mask_list import MaskList
from napari_chexanatomy.overlay import CompositeOverlay, Patch, compose, patches
from napari_chexanatomy.review_queue import Opened, ReviewQueue, load_case, open_queue
from napari_chexanatomy.structure_colours import display_name
from training.errors import ChexanatomyError
from training.progress import ProgressCallback

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

VERDICTS = {"accept": "Accept", "reject": "Reject", "flag": "Flag"}
KEYS = {
    "A": ("accept", "accept the selected mask, or the whole case"),
    "R": ("reject", "reject it"),
    "F": ("flag", "flag it for someone else"),
    "N": ("next", "next case"),
    "B": ("previous", "case before"),
    "U": ("undo", "take the last decision back"),
}
"""Keys on the canvas. Napari's own are untouched: Z, Shift-arrows and the digits are taken."""


class ReviewWidget(DeskWidget):
    """One case at a time: radiograph, masks as one overlay, decisions on disk as they are made."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self.queue: ReviewQueue | None = None
        self.opened: Opened | None = None
        self._layer: Layer | None = None
        self._repair: Layer | None = None
        self._repairing = ""
        self._cuts: list[Patch] = []
        self._overlay = CompositeOverlay(self.viewer, "masks of the case")
        self._build()
        self._bind(True)

    # Building -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.open_button = QPushButton("Open a data set …")
        self.open_button.setToolTip("Choose the folder that `chexanatomy synthesize` wrote; it holds cases.jsonl.")
        self.open_button.clicked.connect(self._ask_open)
        self.disable_while_busy(self.open_button)
        self.body.addWidget(self.open_button)
        self.reviewer = QLineEdit(_login())
        self.reviewer.setToolTip("Your name: decisions of several reviewers are kept apart.")
        self.reviewer.editingFinished.connect(self._reviewer_changed)
        form = QFormLayout()
        form.addRow("Reviewer", self.reviewer)
        self.body.addLayout(form)
        self.done_bar = QProgressBar()
        self.done_bar.setToolTip("How many cases of the data set you have decided on.")
        self.done_bar.setFormat("no data set open")
        self.body.addWidget(self.done_bar)

        box = QGroupBox("Case")
        inside = QVBoxLayout(box)
        self.title = QLabel()
        self.title.setWordWrap(True)
        self.title.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        inside.addWidget(self.title)
        self.masks = MaskList()
        self.masks.selected.connect(self._repaint)
        inside.addWidget(self.masks)
        self.style = QComboBox()
        self.style.addItem("Outlines", "outline")
        self.style.addItem("Filled", "fill")
        self.style.setToolTip("Paint masks as outlines or as areas.")
        self.style.currentIndexChanged.connect(lambda _: self._repaint())
        inside.addWidget(self.style)
        self.comment = QLineEdit()
        self.comment.setPlaceholderText("comment that goes with the next decision")
        self.comment.setToolTip("Why: kept with the decision.")
        inside.addWidget(self.comment)
        grid = QGridLayout()
        self.buttons: dict[str, QPushButton] = {}
        for index, (key, (action, tip)) in enumerate(KEYS.items()):
            button = QPushButton(f"{VERDICTS.get(action, action.capitalize())} ({key})")
            button.setToolTip(f"Key {key} on the canvas: {tip}.")
            button.clicked.connect(lambda _=False, action=action: self.act(action))
            grid.addWidget(button, index // 3, index % 3)
            self.buttons[action] = button
        inside.addLayout(grid)
        row = QHBoxLayout()
        for text, tip, slot in (
            ("Repair mask", "Put the selected mask into a Labels layer and correct it with napari's brush.", self.repair),
            ("Save repair", "Keep the repaired mask as a correction; the original stays in the data set.", self.save_repair),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(slot)
            row.addWidget(button)
        inside.addLayout(row)
        self.body.addWidget(box)
        self.say("Open a data set to begin.")

    def _bind(self, ours: bool) -> None:
        """Take the keys, or give them back: while a mask is repaired they belong to napari's brush."""
        for key, (action, _) in KEYS.items():
            self.viewer.bind_key(key, _key_handler(self, action) if ours else None, overwrite=True)

    # Opening --------------------------------------------------------------------------------------------------------

    def _ask_open(self) -> None:
        folder = self.ask_folder("Data set folder (it holds cases.jsonl)")
        if folder is not None:
            self.open(folder)

    @plainly
    def open(self, folder: Path) -> None:
        """Open a data set and show its most suspicious case."""
        name = self.reviewer.text().strip() or _login()

        def work(progress: ProgressCallback) -> ReviewQueue:
            return open_queue(folder, name, progress)

        def show(queue: ReviewQueue) -> None:
            self.queue = queue
            self._go(queue.first_undecided())

        self.start("Looking for suspicious masks", work, show)

    def _reviewer_changed(self) -> None:
        if self.queue is not None:
            self.queue.change_reviewer(self.reviewer.text().strip() or _login())
            self._refresh_lists()

    def _go(self, index: int) -> None:
        queue = self.queue
        assert queue is not None
        self._drop_repair()

        def work(progress: ProgressCallback) -> Opened:
            return load_case(queue, index)

        self.start("Opening the case", work, self._show_case, quiet=True)

    def _show_case(self, opened: Opened) -> None:
        self.opened = opened
        data, keywords, _ = from_radiograph(opened.radiograph, masks=opened.masks)
        if self._layer is not None and self._layer in self.viewer.layers and self._layer.data.shape == data.shape:
            self._layer.data, self._layer.name = data, keywords["name"]
            self._layer.scale, self._layer.metadata[KEY] = keywords["scale"], keywords["metadata"][KEY]
        else:
            if self._layer is not None and self._layer in self.viewer.layers:
                self.viewer.layers.remove(self._layer)
            self._layer = self.viewer.add_image(data, **keywords)
            look_at(self.viewer, self._layer)
        self._cuts = patches(opened.masks)
        self._refresh_lists()
        self.masks.select_worst()
        if self.masks.structure is None:
            self._repaint()

    def _refresh_lists(self) -> None:
        queue, opened = self.queue, self.opened
        if queue is None or opened is None:
            return
        decided = queue.decided_count()
        self.done_bar.setRange(0, len(queue.cases))
        self.done_bar.setValue(decided)
        self.done_bar.setFormat(f"{decided} of {len(queue.cases)} cases decided")
        verdict = queue.verdict(opened.case.id)
        state = f" – {VERDICTS[verdict].lower()}ed".replace("flaged", "flagged") if verdict else ""
        place = f"{opened.index + 1} of {len(queue.cases)}"
        self.title.setText(f"<b>{opened.case.id}</b>{state}<br>{place}, {opened.case.view}, {opened.case.provenance}")
        self.masks.show_masks(opened, queue)

    def _repaint(self) -> None:
        if self.opened is None or self._layer is None or self._layer not in self.viewer.layers:
            return
        if self.masks.structure:
            reasons = self.opened.reasons.get(self.masks.structure, ())
            self.say(f"{display_name(self.masks.structure)}: " + (" ".join(reasons) or "nothing suspicious found."))
        hidden = self._repairing
        shown = [patch for patch in self._cuts if patch.structure != hidden]
        picture = compose(self.opened.radiograph.pixels.shape, shown, self.style.currentData(), self.masks.structure)
        self._overlay.show(picture, self._layer, self.opened.masks)

    # Deciding -------------------------------------------------------------------------------------------------------

    @plainly
    def act(self, action: str) -> None:
        """Do what a key or a button says."""
        queue, opened = self._need_case()
        if self.busy:
            return
        if action == "next":
            self._go((opened.index + 1) % len(queue.cases))
        elif action == "previous":
            self._go((opened.index - 1) % len(queue.cases))
        elif action == "undo":
            case_id = queue.undo()
            if case_id is None:
                raise ChexanatomyError("There is nothing to take back.")
            self._go(queue.index_of(case_id))
        else:
            self._decide(queue, opened, action)

    def _decide(self, queue: ReviewQueue, opened: Opened, verdict: str) -> None:
        structure = self.masks.structure or ""
        queue.decide(opened.case.id, structure, verdict, self.comment.text().strip())
        self.comment.clear()
        self._refresh_lists()
        what = display_name(structure) if structure else "The whole case"
        if not structure:
            self._go((opened.index + 1) % len(queue.cases))
        elif not self.masks.select_next_undecided():
            self.masks.clearSelection()
        self.say(f"{what}: {verdict}. U takes it back.")

    def _need_case(self) -> tuple[ReviewQueue, Opened]:
        if self.queue is None or self.opened is None:
            raise ChexanatomyError("Open a data set first.")
        return self.queue, self.opened

    # Repairing ------------------------------------------------------------------------------------------------------

    @plainly
    def repair(self, *_: Any) -> None:
        """Put the selected mask into a Labels layer with the brush in hand."""
        opened = self._need_case()[1]
        structure = self.masks.structure
        if not structure:
            raise ChexanatomyError("Select the mask to repair in the list first.")
        if self._layer is None or self._layer not in self.viewer.layers:
            raise ChexanatomyError("The radiograph of this case was closed: go to the next case and back.")
        self._drop_repair()
        mask = opened.masks.get(structure)
        data = np.zeros(opened.radiograph.pixels.shape, np.uint8) if mask is None else mask.astype(np.uint8)
        self._repairing = structure
        self._repair = self.viewer.add_labels(
            data, name=f"repair {display_name(structure)}", colormap=label_colormap({1: structure}), opacity=0.5,
            metadata={KEY: Core(role=f"drawing:{structure}")}, **plane_of(self._layer),
        )  # fmt: skip
        self._bind(False)
        self._repair.mode = "paint"
        self.viewer.layers.selection.active = self._repair
        self._repaint()
        self.say("Paint or erase with napari's brush, then press “Save repair”. The keys are the brush's until then.")

    @plainly
    def save_repair(self, *_: Any) -> None:
        """Store the repaired mask as a correction beside the original."""
        queue, opened = self._need_case()
        if self._repair is None or self._repair not in self.viewer.layers or not self._repairing:
            raise ChexanatomyError("There is no repair to save: select a mask and press “Repair mask”.")
        mask = drawn_mask(self._repair, opened.radiograph.pixels.shape)
        if not mask.any():
            raise ChexanatomyError("The repaired mask is empty: reject the mask instead when the structure is not there.")
        structure = self._repairing
        queue.correct(opened.case.id, structure, mask)
        opened.masks[structure] = mask
        self._cuts = patches(opened.masks)
        self._drop_repair()
        self._refresh_lists()
        self._repaint()
        self.say(f"{display_name(structure)}: the correction is saved; the original is kept.")

    def _drop_repair(self) -> None:
        if self._repair is not None and self._repair in self.viewer.layers:
            self.viewer.layers.remove(self._repair)
        self._repair, self._repairing = None, ""
        self._bind(True)

    def shut_down(self) -> None:
        """Give the keys back."""
        super().shut_down()
        self._bind(False)


def _key_handler(widget: ReviewWidget, action: str) -> Any:
    """A napari key handler that does nothing once the widget is gone."""
    import weakref

    from qtpy.compat import isalive

    held = weakref.ref(widget)

    def handler(viewer: Any) -> None:
        target = held()
        if target is not None and isalive(target) and target.queue is not None:
            target.act(action)

    return handler


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reviewer"
