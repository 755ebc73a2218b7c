"""What the Review widget shows: the choice of cases, gallery, case and agreement, and a button for every key."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from html import escape

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_chexanatomy.mask_list import MaskList
from napari_chexanatomy.review_agreement import AgreementView
from napari_chexanatomy.review_filter import FilterBar
from napari_chexanatomy.review_gallery import Gallery
from napari_chexanatomy.review_queue import Opened, ReviewQueue

VERDICTS = {"accept": "accepted", "reject": "rejected", "flag": "flagged"}


@dataclass(frozen=True)
class Action:
    """What a key does: its name in the program, the words on its button, and what the tooltip says."""

    name: str
    words: str
    tip: str


KEYS = {
    "A": Action("accept", "Accept", "accept the selected mask, or the whole case where none is selected"),
    "R": Action("reject", "Reject", "reject it: it is left out of training and export"),
    "F": Action("flag", "Flag", "flag it for somebody else; it stays in until it is rejected"),
    "Shift+A": Action("accept case", "Case ✓", "accept the whole case, whatever is selected, and go to the next"),
    "Shift+R": Action("reject case", "Case ✗", "reject the whole case and go to the next"),
    "U": Action("undo", "Undo", "take the last decision or repair back"),
    "B": Action("previous", "Back", "the case before"),
    "N": Action("next", "Next", "the next case"),
    "G": Action("gallery", "Gallery", "between gallery and case"),
    "K": Action("mask before", "Mask ↑", "select the mask before"),
    "J": Action("next mask", "Mask ↓", "select the next mask"),
    "Q": Action("no mask", "No mask", "select no mask, so that a decision is about the whole case"),
    "T": Action("all", "All", "between the selected mask alone and all masks at once"),
    "L": Action("style", "Lines", "between outlines and filled masks"),
    "H": Action("hide", "Hide", "hide the masks, and show them again"),
    "W": Action("comment", "Comment", "write a comment that goes with the next decision; Enter ends it"),
    "E": Action("repair", "Repair", "correct the selected mask with napari's brush"),
    "S": Action("save", "Save", "keep the repaired mask as a correction; the original stays in the data set"),
}
"""Keys on the canvas and in the widget. Napari's own for images are left alone: C, O, X, Y, Z, V, digits and arrows are taken."""

_ON_GRID = tuple(a.name for a in KEYS.values() if a.name not in ("comment", "repair", "save"))


class ReviewPanel(QWidget):
    """The controls of the review, without what they do."""

    def __init__(self) -> None:
        """No data set is open; the reviewer has the name of the login."""
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.open_button = QPushButton("Open a data set …")
        self.open_button.setToolTip("Choose the folder that `chexanatomy synthesize` wrote; it holds cases.jsonl.")
        self.report_button = QPushButton("Report …")
        self.report_button.setToolTip(
            "Write one HTML file with counts, pictures and reasons, and a CSV table of everything beside it."
        )
        top = QHBoxLayout()
        top.addWidget(self.open_button, 1)
        top.addWidget(self.report_button)
        layout.addLayout(top)
        self.reviewer = QLineEdit(_login())
        self.reviewer.setToolTip("Your name: decisions of several reviewers are kept apart.")
        form = QFormLayout()
        form.addRow("Reviewer", self.reviewer)
        layout.addLayout(form)
        self.done_bar = QProgressBar()
        self.done_bar.setToolTip("How many cases of the data set you have decided on.")
        self.done_bar.setRange(0, 1)
        self.done_bar.setValue(0)
        self.done_bar.setFormat("no data set open")
        layout.addWidget(self.done_bar)
        self.tabs = QTabWidget()
        self.overview, self.case, self.agreement = QWidget(), QWidget(), AgreementView()
        self.filter, self.gallery = FilterBar(), Gallery()
        inside = QVBoxLayout(self.overview)
        inside.setContentsMargins(0, 4, 0, 0)
        inside.addWidget(self.filter)
        inside.addWidget(self.gallery, 1)
        hint = QLabel("Selected: accept (A), reject (R), flag (F), undo (U). Open one: Enter.")
        hint.setWordWrap(True)
        inside.addWidget(hint)
        self._fill_case()
        self.tabs.addTab(self.overview, "Gallery")
        self.tabs.addTab(self.case, "Case")
        self.tabs.addTab(self.agreement, "Reviewers")
        self.tabs.setCurrentWidget(self.case)
        layout.addWidget(self.tabs, 1)

    def _fill_case(self) -> None:
        inside = QVBoxLayout(self.case)
        inside.setContentsMargins(4, 4, 4, 4)
        self.title = QLabel()
        self.title.setWordWrap(True)
        self.title.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        inside.addWidget(self.title)
        self.masks = MaskList()
        inside.addWidget(self.masks, 1)
        self.shown, self.style_box = QComboBox(), QComboBox()
        for text, key in (("Selected mask", "selected"), ("All masks", "all"), ("No masks", "none")):
            self.shown.addItem(text, key)
        self.shown.setToolTip("Which masks are painted: the selected one (all where none is), all at once (T), or none (H).")
        for text, key in (("Outlines", "outline"), ("Filled", "fill")):
            self.style_box.addItem(text, key)
        self.style_box.setToolTip("Paint masks as outlines or as areas (L).")
        self.comment = QLineEdit()
        self.comment.setPlaceholderText("comment that goes with the next decision (W)")
        self.comment.setToolTip("Why: kept with the decision.")
        choices = QHBoxLayout()
        choices.addWidget(self.shown)
        choices.addWidget(self.style_box)
        inside.addLayout(choices)
        inside.addWidget(self.comment)
        grid = QGridLayout()
        grid.setSpacing(3)
        self.buttons: dict[str, QPushButton] = {}
        for key, action in KEYS.items():
            button = QPushButton(f"{action.words} ({key.replace('Shift+', '⇧')})")
            button.setToolTip(f"Key {key}: {action.tip}.")
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the keyboard stays where it is
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)  # three in a row, however narrow
            if action.name in _ON_GRID:
                place = _ON_GRID.index(action.name)
                grid.addWidget(button, place // 3, place % 3)
                self.buttons[action.name] = button
            elif action.name == "repair":
                self.repair_button = button
            elif action.name == "save":
                self.save_button = button
        inside.addLayout(grid)
        self.discard_button = QPushButton("Discard")
        self.discard_button.setToolTip("Put the brush away and keep the mask as it was.")
        self.discard_button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        row = QHBoxLayout()
        row.setSpacing(3)
        for button in (self.repair_button, self.save_button, self.discard_button):
            row.addWidget(button)
        inside.addLayout(row)
        self.show_repair(False)

    @property
    def name(self) -> str:
        """Who reviews: what is typed, otherwise the name of the login."""
        return self.reviewer.text().strip() or _login()

    def show_repair(self, running: bool) -> None:
        """Offer what can be done now: begin a repair, or end it."""
        self.repair_button.setEnabled(not running)
        self.save_button.setEnabled(running)
        self.discard_button.setEnabled(running)

    def show_progress(self, queue: ReviewQueue) -> None:
        """How far the reviewer has come."""
        decided, accepted, rejected, flagged = queue.counts()
        self.done_bar.setRange(0, len(queue.dataset.cases))
        self.done_bar.setValue(decided)
        only = "" if queue.writable else " – to look at only: the folder cannot be written to"
        self.done_bar.setFormat(f"{decided:,} of {len(queue.dataset.cases):,} cases decided{only}")
        self.done_bar.setToolTip(
            f"Cases on which {queue.reviewer} has decided. "
            f"{accepted:,} decisions to accept, {rejected:,} to reject, {flagged:,} to flag."
        )

    def show_title(self, queue: ReviewQueue, opened: Opened) -> None:
        """Which case this is."""
        case = opened.case
        verdict = queue.verdict(case.id)
        state = f" – {VERDICTS[verdict]}" if verdict else ""
        place = queue.place(case.id)
        where = f"{place + 1:,} of {len(queue.cases):,}" if place is not None else "not among those shown"
        parts = [where, case.view, f"suspicion {queue.score(case.id):.1f}" if queue.judged else "", case.provenance]
        self.title.setText(f"<b>{escape(case.id)}</b>{state}<br>{escape(', '.join(p for p in parts if p))}")

    def act(self, action: str) -> None:
        """Do what concerns the panel alone."""
        match action:
            case "next mask":
                self.masks.step(1)
            case "mask before":
                self.masks.step(-1)
            case "no mask":
                self.masks.clearSelection()
            case "all":
                self.shown.setCurrentIndex(0 if self.shown.currentIndex() == 1 else 1)
            case "hide":
                self.shown.setCurrentIndex(0 if self.shown.currentIndex() == 2 else 2)
            case "style":
                self.style_box.setCurrentIndex(1 - self.style_box.currentIndex())
            case "gallery":
                to_case = self.tabs.currentWidget() is self.overview
                self.tabs.setCurrentWidget(self.case if to_case else self.overview)
                (self.masks if to_case else self.gallery).setFocus()
            case "comment":
                self.tabs.setCurrentWidget(self.case)
                self.comment.setFocus()


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "reviewer"
