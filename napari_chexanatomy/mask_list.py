"""The masks of the case under review, most suspicious first."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem

from napari_chexanatomy.review_queue import Opened, ReviewQueue
from napari_chexanatomy.structure_colours import colour_of, display_name
from training.plain import inert

KEY_ROLE = Qt.ItemDataRole.UserRole
VERDICT_ROLE = Qt.ItemDataRole.UserRole + 1
SCORE_ROLE = Qt.ItemDataRole.UserRole + 2
MARKS = {"accept": "✓", "reject": "✗", "flag": "⚑", "": "·"}


class MaskList(QListWidget):
    """One line per mask: decision, name, how suspicious. Nothing selected means the whole case."""

    selected = Signal()

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setMinimumHeight(120)
        self.setUniformItemSizes(True)
        self.setToolTip(
            "Masks of this case, most suspicious first. Select one to decide about it alone; select none for the whole case."
        )
        self.itemSelectionChanged.connect(self.selected)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """No higher than it has to be: the list takes what is left, and low screens need no scroll bar around everything."""
        return QSize(super().sizeHint().width(), self.minimumHeight())

    @property
    def structure(self) -> str | None:
        """The selected structure."""
        items = self.selectedItems()
        return items[0].data(KEY_ROLE) if items else None

    def show_masks(self, opened: Opened, queue: ReviewQueue) -> None:
        """Fill the list, keeping the selection."""
        before = self.structure
        self.blockSignals(True)
        self.clear()
        names = set(opened.masks) | set(opened.scores)
        for structure in sorted(names, key=lambda s: (-opened.scores.get(s, 0.0), s)):
            score = opened.scores.get(structure, 0.0)
            item = QListWidgetItem()
            item.setData(KEY_ROLE, structure)
            item.setData(SCORE_ROLE, score)
            item.setToolTip(inert(" ".join(opened.reasons.get(structure, ()))) or "Nothing suspicious found.")
            square = QPixmap(12, 12)
            square.fill(QColor(*colour_of(structure)))
            item.setIcon(QIcon(square))
            self._mark(item, opened, queue)
            self.addItem(item)
            if structure == before:
                item.setSelected(True)
        self.blockSignals(False)

    def show_decisions(self, opened: Opened, queue: ReviewQueue) -> None:
        """Write the decisions anew."""
        for row in range(self.count()):
            self._mark(self.item(row), opened, queue)

    @staticmethod
    def _mark(item: QListWidgetItem, opened: Opened, queue: ReviewQueue) -> None:
        structure, score = item.data(KEY_ROLE), item.data(SCORE_ROLE)
        verdict = queue.verdict(opened.case.id, structure)
        notes = [f"suspicion {score:.1f}"] if score > 0 else []
        if structure not in opened.masks:
            notes.append("no mask")
        if queue.repaired(opened.case.id, structure):
            notes.append("repaired")
        item.setData(VERDICT_ROLE, verdict)
        item.setText(f"{MARKS[verdict]}  {display_name(structure)}{'   ' if notes else ''}{', '.join(notes)}")

    def select(self, structure: str) -> bool:
        """Select a structure's line; False where there is none."""
        for row in range(self.count()):
            if self.item(row).data(KEY_ROLE) == structure:
                self.setCurrentRow(row)
                return True
        return False

    def step(self, by: int) -> None:
        """Select the next line (by = 1) or the one before (-1); from nothing, the first or the last."""
        if self.count():
            row = self.currentRow() + by if self.structure else (0 if by > 0 else self.count() - 1)
            self.setCurrentRow(min(max(row, 0), self.count() - 1))
            self.currentItem().setSelected(True)

    def select_worst(self) -> None:
        """Select the first line when there is something suspicious about it."""
        self.clearSelection()
        first = self.item(0)
        if first is not None and first.data(SCORE_ROLE) > 0:
            self.setCurrentItem(first)
            first.setSelected(True)

    def select_next_undecided(self) -> bool:
        """Move on to the next suspicious mask without a decision; False when none is left."""
        for row in range(self.count()):
            item = self.item(row)
            if not item.data(VERDICT_ROLE) and item.data(SCORE_ROLE) > 0:
                self.setCurrentItem(item)
                return True
        return False

    def keyboardSearch(self, search: str | None) -> None:  # noqa: N802 - Qt's name
        """Letters are the keys of the review, not a search for names."""
