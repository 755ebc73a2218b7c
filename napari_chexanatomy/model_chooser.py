"""Choosing the model: the embedded one, a folder, a hub id, or an adapter; its card is one click away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QInputDialog, QPushButton, QTextBrowser, QVBoxLayout, QWidget

from training.errors import ChexanatomyError

CARD = "chexanatomy.json"
EMBEDDED = "embedded"
EMBEDDED_NAME = "chexanatomy-tiny (embedded)"
FOLDER = "A folder …"
HUB = "A hub name …"
_live: WeakSet[ModelChooser] = WeakSet()
_applied: list[tuple[str, str]] = []


def apply_everywhere(spec: str, name: str) -> None:
    """Let every Predict widget, open or opened later, use this model."""
    _applied.append((spec, name))
    for chooser in list(_live):
        if isalive(chooser):
            chooser.use(spec, name)


def withdraw_everywhere(spec: str) -> None:
    """Let no widget offer this model any more; those that use it go back to the model applied before, or to the embedded one."""
    _applied[:] = [entry for entry in _applied if entry[0] != spec]
    for chooser in list(_live):
        if isalive(chooser):
            chooser.withdraw(spec)


class ModelChooser(QWidget):
    """Offers models and keeps the one that was opened last, so that a second question costs no loading."""

    chosen_changed = Signal()

    def __init__(self, parent: QWidget, follows: bool = True) -> None:
        """Start with the embedded model, or with the adapter applied last; one that does not follow stays with what it shows."""
        super().__init__(parent)
        self._open: tuple[str, Any] | None = None
        self.choice = QComboBox()
        self.choice.setToolTip("The model that is asked. An adapter that you taught appears here when you apply it.")
        self.choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.choice.setMinimumContentsLength(10)
        self.choice.addItem(EMBEDDED_NAME, EMBEDDED)
        self.choice.insertSeparator(1)
        self.choice.addItem(FOLDER, FOLDER)
        self.choice.addItem(HUB, HUB)
        self.choice.activated.connect(self._activated)
        self._last = 0
        self.card_button = QPushButton("Card")
        self.card_button.setCheckable(True)
        self.card_button.setToolTip("What this model was trained on, how well it does, and what it is not for.")
        self.card_button.toggled.connect(self._toggle_card)
        self.card = QTextBrowser()
        self.card.setMaximumHeight(180)
        self.card.setOpenLinks(False)
        self.card.hide()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.choice, 1)
        row.addWidget(self.card_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.card)
        if follows:
            _live.add(self)
            for spec, name in _applied[-1:]:
                if Path(spec).is_dir():
                    self.use(spec, name)

    @property
    def spec(self) -> str:
        """What `training.model.load` takes."""
        return str(self.choice.currentData())

    @property
    def learned(self) -> tuple[str, ...]:
        """Names that the model was taught beyond the vocabulary, as far as it is open or a folder."""
        if self._open is not None and self._open[0] == self.spec:
            return tuple(self._open[1].learned)
        return tuple(read_card(self.spec).get("learned", ()))

    def use(self, spec: str, name: str = "") -> None:
        """Offer a model by its spec and choose it."""
        index = self.choice.findData(spec)
        if index < 0:
            index = 1
            self.choice.insertItem(index, name or Path(spec).name, spec)
        self.choice.setCurrentIndex(index)
        self._last = index
        self.chosen_changed.emit()
        self._show_card()

    def withdraw(self, spec: str) -> None:
        """Stop offering a model."""
        index, chosen = self.choice.findData(spec), self.spec
        if index < 0:
            return
        self.choice.removeItem(index)
        if chosen == spec:
            self.use(*(_applied[-1] if _applied else (EMBEDDED, EMBEDDED_NAME)))
        self._last = self.choice.currentIndex()

    def opener(self) -> Callable[[], Any]:
        """A function that opens the chosen model, to be called off the GUI thread; at once when it is open already."""
        spec, kept = self.spec, self._open

        def open_model() -> Any:
            from training.model import load

            return kept[1] if kept is not None and kept[0] == spec else load(spec)

        return open_model

    def opened(self, predictor: Any) -> None:
        """Keep the model that was opened for the present choice."""
        before = self.learned
        self._open = (self.spec, predictor)
        if self.learned != before:
            self.chosen_changed.emit()
        self._show_card()

    def _activated(self, index: int) -> None:
        chosen = self.choice.itemData(index)
        if chosen == FOLDER:
            self.choice.setCurrentIndex(self._last)
            folder = QFileDialog.getExistingDirectory(self, "Folder of a model or an adapter")
            if folder:
                self.use(folder)
        elif chosen == HUB:
            self.choice.setCurrentIndex(self._last)
            name, given = QInputDialog.getText(self, "Model hub", "Name of a model, or base+adapter:")
            if given and name.strip():
                self.use(name.strip(), name.strip())
        else:
            self._last = index
            self.chosen_changed.emit()
            self._show_card()

    def _toggle_card(self, shown: bool) -> None:
        self.card.setVisible(shown)
        self._show_card()

    def _show_card(self) -> None:
        if not self.card_button.isChecked():
            return
        try:
            self.card.setMarkdown(card_text(self.spec))
        except ChexanatomyError as error:
            self.card.setPlainText(str(error))


def read_card(folder: str | Path) -> dict[str, Any]:
    """What a model or adapter folder says about itself in chexanatomy.json; empty when it says nothing."""
    try:
        card = json.loads((Path(folder) / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def card_text(spec: str) -> str:
    """The model card as Markdown: README.md in the model's folder. Raises ChexanatomyError when there is none."""
    if spec == EMBEDDED:
        import training

        folder = Path(training.__file__).parent / "model" / "chexanatomy_tiny"
    else:
        folder = Path(spec.rsplit("+", 1)[-1])
    card = folder / "README.md"
    if not card.is_file():
        raise ChexanatomyError("This model came without a card; its training data and its limits are unknown.")
    text = card.read_text(encoding="utf-8", errors="replace")
    return text.split("---", 2)[-1].strip() if text.startswith("---") else text
