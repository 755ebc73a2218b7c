"""Choosing the model: the embedded one, a folder, a hub id, or an adapter; its card is one click away."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

from qtpy.compat import isalive
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_chexanatomy.jobs import Outcome, in_background, wait_for
from napari_chexanatomy.structure_colours import display_name
from training.errors import ChexanatomyError
from training.model.checkpoint import read_page
from training.plain import inert
from training.progress import ProgressCallback

TOOLTIP = Qt.ItemDataRole.ToolTipRole
EMBEDDED = "embedded"
EMBEDDED_NAME = "chexanatomy-tiny (embedded)"
FOLDER = "A folder of a model or an adapter …"
HUB = "A hub name …"
CODEBOOK = "A mask codebook …"
LIMITS = "## Limits"
MOST_LIMITS = 190
"""Characters of the limits that are always in view; the card has all of them."""
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


@dataclass(frozen=True)
class Opener:
    """Opens the model that was chosen when the question was asked; another may be chosen by the time of the answer."""

    spec: str
    codebook: str | None
    open_model: Callable[[ProgressCallback], Any]

    def __call__(self, progress: ProgressCallback) -> Any:
        """The model. To be called off the GUI thread. Raises ChexanatomyError, and Cancelled where `progress` does."""
        return self.open_model(progress)


class ModelChooser(QWidget):
    """Offers models and keeps the one that was opened last, so that a second question costs no loading."""

    chosen_changed = Signal()

    def __init__(self, parent: QWidget, follows: bool = True) -> None:
        """Start with the embedded model, or with the adapter applied last; one that does not follow stays with what it shows."""
        super().__init__(parent)
        self._open: tuple[str, Any] | None = None
        self._opening: dict[tuple[str, str | None], Future[Outcome]] = {}
        self.choice = QComboBox()
        self.choice.setToolTip("The model that is asked. An adapter that you taught appears here when you apply it.")
        self.choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.choice.setMinimumContentsLength(10)
        self.choice.addItem(EMBEDDED_NAME, EMBEDDED)
        self.choice.insertSeparator(1)
        self.choice.addItem(FOLDER, FOLDER)
        self.choice.addItem(HUB, HUB)
        self.choice.addItem(CODEBOOK, CODEBOOK)
        for row, tip in (
            (2, "A PaliGemma or PaliGemma 2 model, one trained with this program, or an adapter that names its base."),
            (3, "A model of the Hugging Face hub, or BASE+ADAPTER; fetched once, where there is a connection."),
            (4, "For models that come without one: the file vae-oid.npz, which turns mask tokens into masks."),
        ):
            self.choice.setItemData(row, tip, TOOLTIP)
        self.choice.activated.connect(self._activated)
        self._last = 0
        self.card_button = QPushButton("Card")
        self.card_button.setCheckable(True)
        self.card_button.setToolTip("What this model was trained on, how well it does, and what it is not for.")
        self.card_button.toggled.connect(self._toggle_card)
        self.codebook: str | None = None
        self.limits = QLabel()
        self.limits.setWordWrap(True)
        self.limits.setTextFormat(Qt.TextFormat.PlainText)
        self.limits.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.limits.setStyleSheet("QLabel { font-size: 11px; }")
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
        layout.setSpacing(2)
        layout.addLayout(row)
        layout.addWidget(self.limits)
        layout.addWidget(self.card)
        self._show_card()
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
        """What the model was taught beyond the embedded model's structures, as far as it is open or a folder."""
        is_open = self._open is not None and self._open[0] == self.spec
        return beyond(self._open[1].card if self._open is not None and is_open else read_card(_folder_of(self.spec)))

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

    def use_codebook(self, file: str) -> None:
        """Let models that come without a mask codebook use this one."""
        self.codebook, self._open = file, None
        self._show_card()

    def opener(self) -> Opener:
        """What opens the chosen model; at once when it is open already.

        Cancelled while it opens, it raises at once; the next call goes on with the opening that was left.
        """
        spec, kept, codebook = self.spec, self._open, self.codebook

        def open_model(progress: ProgressCallback) -> Any:
            if kept is not None and kept[0] == spec:
                return kept[1]
            left = self._opening.pop((spec, codebook), None)
            future = left if left is not None else in_background(partial(_load, spec, codebook))
            self._opening = {(spec, codebook): future}
            try:
                return wait_for(future, progress, "Opening the model")
            finally:
                if future.done():
                    self._opening = {}

        return Opener(spec, codebook, open_model)

    def opened(self, opener: Opener, predictor: Any) -> None:
        """Keep the model that was opened, if it is the chosen one still."""
        if (opener.spec, opener.codebook) != (self.spec, self.codebook):
            return
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
        elif chosen == CODEBOOK:
            self.choice.setCurrentIndex(self._last)
            file = QFileDialog.getOpenFileName(self, "Mask codebook", "", "Codebooks (*.npz *.safetensors)")[0]
            if file:
                self.use_codebook(file)
        else:
            self._last = index
            self.chosen_changed.emit()
            self._show_card()

    def _toggle_card(self, shown: bool) -> None:
        self.card.setVisible(shown)
        self._show_card()

    def _show_card(self) -> None:
        text = limits_text(self.spec)
        beside = f" Mask codebook: {Path(self.codebook).name}." if self.codebook and self.spec != EMBEDDED else ""
        self.limits.setText(shortened(text, MOST_LIMITS) + beside)
        self.limits.setToolTip(inert(text))
        if not self.card_button.isChecked():
            return
        try:
            self.card.setMarkdown(card_text(self.spec))
        except ChexanatomyError as error:
            self.card.setPlainText(str(error))


def _load(spec: str, codebook: str | None) -> Any:
    from napari.utils.notifications import show_info

    from training.model import load

    return load(spec, codebook=codebook, say=show_info)


def read_card(folder: str | Path) -> dict[str, Any]:
    """What a model or adapter folder says about itself in chexanatomy.json; empty when it says nothing that can be used."""
    from training.model import checkpoint

    try:
        return checkpoint.read_card(Path(folder))
    except ChexanatomyError:
        return {}


def beyond(card: dict[str, Any]) -> tuple[str, ...]:
    """Structures on a card that the embedded model is not trained on: keys of the vocabulary and learnt names."""
    from training.anatomy import trainable

    lists = [card.get("structures"), card.get("learned"), [card.get("structure")]]
    names = dict.fromkeys(name for names in lists if isinstance(names, list) for name in names if isinstance(name, str))
    return tuple(name for name in names if name not in trainable())


def limits_text(spec: str, deep: int = 3) -> str:
    """What the model knows and what it is not good at, in its card's own words; of an adapter, also those of its base, so many
    adapters deep."""
    from training.model.taught import answers_alone

    card = read_card(_folder_of(spec))
    if deep and answers_alone(card):
        base = card.get("base")
        below = limits_text(base, deep - 1) if isinstance(base, str) else ""
        return f"Taught {display_name(card['structure'])}; the rest is answered without it. {below}".strip()
    try:
        text = card_text(spec)
    except ChexanatomyError as error:
        return str(error)
    known = len(card.get("structures", ()))
    count = f"Knows {known} structures. " if known else ""
    _, _, limits = text.partition(LIMITS)
    limits = " ".join(limits.partition("\n## ")[0].split())
    return count + (limits or "Its card does not say what it is not good at.")


def shortened(text: str, most: int) -> str:
    """Whole sentences of a text up to so many characters; the first sentence in any case."""
    kept = ""
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        if kept and len(kept) + len(sentence) > most:
            break
        kept = f"{kept} {sentence}".strip()
    return kept


def _folder_of(spec: str) -> Path:
    if spec == EMBEDDED:
        import training

        return Path(training.__file__).parent / "model" / "chexanatomy_tiny"
    return Path(spec.rsplit("+", 1)[-1])


def card_text(spec: str) -> str:
    """The model card as Markdown: README.md in the model's folder. Raises ChexanatomyError when there is none."""
    text = read_page(_folder_of(spec))
    if not text:
        raise ChexanatomyError("This model came without a card; its training data and its limits are unknown.")
    return text
