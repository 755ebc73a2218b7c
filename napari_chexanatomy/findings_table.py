"""The table of what a model found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QMouseEvent, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem

from napari_chexanatomy.structure_colours import colour_of, display_name

if TYPE_CHECKING:
    from training.model import Finding

LOW_CONFIDENCE = 0.2
"""Below this an answer is marked; the figure is a mean over many tokens, so even good answers rarely pass one half."""
HEADINGS = {
    "Structure": "What was asked for.",
    "Found": "Whether the model sees it in this picture.",
    "Sure": "How sure the model is of every part of its answer, 0 to 100 %; compare rows. Low values are marked.",
    "cm²": "Area of the shadow on the detector, when the pixel spacing is known.",
}
NUMBER = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class FindingsTable(QTableWidget):
    """One row per finding; `selected` is emitted when another row is chosen."""

    selected = Signal()

    def __init__(self) -> None:
        """Start empty."""
        super().__init__(0, len(HEADINGS))
        self._findings: list[Finding] = []
        self.setHorizontalHeaderLabels(list(HEADINGS))
        for column, tip in enumerate(HEADINGS.values()):
            self.horizontalHeaderItem(column).setToolTip(tip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().hide()
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.setMinimumHeight(150)
        self.setToolTip("Select a row to see that structure brought out in the radiograph; select it again to see all alike.")
        self.itemSelectionChanged.connect(self.selected)

    @property
    def finding(self) -> Finding | None:
        """The finding of the selected row."""
        rows = {index.row() for index in self.selectedIndexes()}
        row = next(iter(rows), -1)
        return self._findings[row] if 0 <= row < len(self._findings) else None

    @property
    def structure(self) -> str | None:
        """The structure of the selected row."""
        return self.finding.structure if self.finding is not None else None

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """A click on the selected row takes the selection away."""
        index = self.indexAt(event.pos())
        if index.isValid() and index.row() in {chosen.row() for chosen in self.selectedIndexes()}:
            self.clearSelection()
            return
        super().mousePressEvent(event)

    def show_findings(self, findings: Sequence[Finding], spacing: tuple[float, float] | None) -> None:
        """Fill the table; spacing: (row, column) [mm] or None."""
        self.blockSignals(True)
        self.clearSelection()
        self._findings = list(findings)
        self.setRowCount(len(findings))
        for row, finding in enumerate(findings):
            self._fill(row, finding, spacing)
        self.blockSignals(False)

    def _fill(self, row: int, finding: Finding, spacing: tuple[float, float] | None) -> None:
        area = "–"
        if finding.mask is not None and spacing is not None:
            area = f"{finding.mask.sum() * spacing[0] * spacing[1] / 100:.1f}"
        cells = (display_name(finding.structure), "yes" if finding.present else "not seen", f"{finding.confidence:.0%}", area)
        for column, text in enumerate(cells):
            item = QTableWidgetItem(text)
            if column >= 2:
                item.setTextAlignment(NUMBER)
            if not finding.present:
                item.setForeground(QColor(140, 140, 140))
            self.setItem(row, column, item)
        swatch = QPixmap(12, 12)
        swatch.fill(QColor(*colour_of(finding.structure)) if finding.present else QColor(0, 0, 0, 0))
        self.item(row, 0).setIcon(QIcon(swatch))
        if finding.confidence < LOW_CONFIDENCE:
            self.item(row, 2).setText(f"{finding.confidence:.0%} ?")
            self.item(row, 2).setToolTip("The model is not sure of this: look twice.")
            self.item(row, 2).setForeground(QColor(230, 150, 40))
