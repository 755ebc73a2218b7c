"""The masks of the case under review, most suspicious first."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QListWidget, QListWidgetItem

from napari_chexanatomy.review_queue import Opened, ReviewQueue
from napari_chexanatomy.structure_colours import colour_of, display_name

KEY_ROLE = Qt.ItemDataRole.UserRole
VERDICT_ROLE = Qt.ItemDataRole.UserRole + 1
SCORE_ROLE = Qt.ItemDataRole.UserRole + 2
MARKS = {"accept": "✓", "reject": "✗", "flag": "⚑", "": " "}


class MaskList(QListWidget):
    """One line per mask: decision, name, how suspicious. Nothing selected means the whole case."""

    selected = Signal()

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setMinimumHeight(160)
        self.setToolTip(
            "Masks of this case, most suspicious first. Select one to decide about it alone; select none for the whole case."
        )
        self.itemSelectionChanged.connect(self.selected)

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
            verdict, score = queue.verdict(opened.case.id, structure), opened.scores.get(structure, 0.0)
            suspicious = f"   suspicion {score:.1f}" if score > 0 else ""
            item = QListWidgetItem(f"{MARKS[verdict]} {display_name(structure)}{suspicious}")
            item.setData(KEY_ROLE, structure)
            item.setData(VERDICT_ROLE, verdict)
            item.setData(SCORE_ROLE, score)
            item.setToolTip(" ".join(opened.reasons.get(structure, ())) or "Nothing suspicious found.")
            square = QPixmap(12, 12)
            square.fill(QColor(*colour_of(structure)))
            item.setIcon(QIcon(square))
            self.addItem(item)
            if structure == before:
                item.setSelected(True)
        self.blockSignals(False)

    def select_worst(self) -> None:
        """Select the first line when there is something suspicious about it."""
        self.clearSelection()
        first = self.item(0)
        if first is not None and first.data(SCORE_ROLE) > 0:
            first.setSelected(True)

    def select_next_undecided(self) -> bool:
        """Move on to the next suspicious mask without a decision; False when none is left."""
        for row in range(self.count()):
            item = self.item(row)
            if not item.data(VERDICT_ROLE) and item.data(SCORE_ROLE) > 0:
                self.setCurrentItem(item)
                return True
        return False
