"""The table of what a model found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QKeySequence, QMouseEvent, QPixmap, QShortcut
from qtpy.QtWidgets import QAbstractItemView, QApplication, QHeaderView, QTableWidget, QTableWidgetItem

from napari_chexanatomy.structure_colours import colour_of, display_name
from training.evaluate.measurements import area
from training.plain import inert

if TYPE_CHECKING:
    from training.model import Finding

NUMBER = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
GREY = QColor(140, 140, 140)
AMBER = QColor(212, 124, 24)
"""Readable on the dark and on the light theme."""
HEADINGS = {
    "Structure": "What was asked for.",
    "Found": "Whether the model sees it in this picture; “doubtful” when it expects less than half of its mask to be right.",
    "Sure": "The overlap (Dice) that the model expects of its mask, 0 to 100 %; for “not seen” how sure it is of that.",
    "cm²": "Area of the shadow on the detector. The column is left out where the pixel spacing is not known.",
    "Box": "Top to bottom, left to right, in pixels of the radiograph.",
}


class PlainTable(QTableWidget):
    """A table to read and to copy from, in the widgets' usual dress."""

    def __init__(self, headings: dict[str, str], stretch: int | None = 0) -> None:
        """headings: title -> tooltip; stretch: the column that takes the room left over; None: as wide as the cells are."""
        super().__init__(0, len(headings))
        self.setHorizontalHeaderLabels(list(headings))
        for column, tip in enumerate(headings.values()):
            self.horizontalHeaderItem(column).setToolTip(tip)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(24)
        self.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        if stretch is not None:
            self.horizontalHeader().setSectionResizeMode(stretch, QHeaderView.ResizeMode.Stretch)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.horizontalHeader().setMinimumSectionSize(34)
        copy = QShortcut(QKeySequence.StandardKey.Copy, self)
        copy.setContext(Qt.ShortcutContext.WidgetShortcut)
        copy.activated.connect(self.copy)

    @property
    def chosen_row(self) -> int:
        """The selected row, -1 for none."""
        return next(iter({index.row() for index in self.selectedIndexes()}), -1)

    def put(self, row: int, column: int, text: str, colour: QColor | None = None, tip: str = "") -> QTableWidgetItem:
        """Write a cell; figures stand on the right."""
        item = QTableWidgetItem(text)
        if (text[:1].isdigit() and "," not in text) or text in ("–", "<1%"):
            item.setTextAlignment(NUMBER)
        if colour is not None:
            item.setForeground(colour)
        item.setToolTip(inert(tip))
        self.setItem(row, column, item)
        return item

    def as_text(self) -> str:
        """The whole table, tab-separated, for a spreadsheet."""
        titles = [self.horizontalHeaderItem(column).text() for column in range(self.columnCount())]
        lines = [titles]
        for row in range(self.rowCount()):
            cells = [self.item(row, column) for column in range(self.columnCount())]
            lines.append([cell.text() if cell is not None else "" for cell in cells])
        return "\n".join("\t".join(line) for line in lines)

    def copy(self) -> None:
        """Put the whole table onto the clipboard."""
        QApplication.clipboard().setText(self.as_text())

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """A click on the selected row takes the selection away."""
        index = self.indexAt(event.pos())
        if index.isValid() and index.row() == self.chosen_row:
            self.clearSelection()
            return
        super().mousePressEvent(event)


class FindingsTable(PlainTable):
    """One row per finding; `selected` is emitted when another row is chosen."""

    selected = Signal()

    def __init__(self) -> None:
        """Start empty."""
        super().__init__(HEADINGS, stretch=None)
        self._findings: list[Finding] = []
        self.setMinimumHeight(150)
        self.setToolTip("Select a row to see that structure brought out in the radiograph; select it again to see all alike.")
        self.itemSelectionChanged.connect(self.selected)

    @property
    def finding(self) -> Finding | None:
        """The finding of the selected row."""
        return self._findings[self.chosen_row] if 0 <= self.chosen_row < len(self._findings) else None

    @property
    def structure(self) -> str | None:
        """The structure of the selected row."""
        return self.finding.structure if self.finding is not None else None

    def select(self, structure: str) -> None:
        """Select the row of a structure, if it has one."""
        for row, finding in enumerate(self._findings):
            if finding.structure == structure:
                self.selectRow(row)

    def show_findings(
        self, findings: Sequence[Finding], spacing: tuple[float, float] | None, untaught: Sequence[str] = ()
    ) -> None:
        """Fill the table; spacing: (row, column) [mm] or None; untaught: structures that the model does not know, listed last."""
        self.blockSignals(True)
        self.clearSelection()
        self._findings = list(findings)
        self.setRowCount(len(findings) + len(untaught))
        self.setColumnHidden(list(HEADINGS).index("cm²"), bool(findings) and spacing is None)
        for row, finding in enumerate(findings):
            self._fill(row, finding, spacing)
        for row, structure in enumerate(untaught, len(findings)):
            tip = "This model was never taught this structure, so it was not asked. The Few-shot widget can teach it."
            for column, text in enumerate((display_name(structure), "not taught", "–", "–", "–")):
                self.put(row, column, text, GREY, tip)
        self.blockSignals(False)

    def _fill(self, row: int, finding: Finding, spacing: tuple[float, float] | None) -> None:
        colour, tip = (None, "") if finding.present else (GREY, "The model does not see it in this picture: there is no mask.")
        found = "yes" if finding.present else "not seen"
        if finding.doubtful:
            colour, found = AMBER, "doubtful"
            tip = "The model expects less than half of this mask to be right. It is drawn dotted: look twice."
        size, box = "–", "–"
        if finding.mask is not None and spacing is not None:
            size = f"{area(finding.mask, spacing):.1f}"
        if finding.box is not None:
            top, left, bottom, right = (round(edge) for edge in finding.box)
            box = f"{top}–{bottom}, {left}–{right}"
        shown = display_name(finding.structure) + (f" ({finding.convention})" if finding.convention else "")
        name = self.put(row, 0, shown, colour, shown)
        for column, text in enumerate((found, f"{finding.confidence:.0%}", size, box), 1):
            self.put(row, column, text, colour, tip or (f"{HEADINGS['Box']}\n{box}" if column == 4 else ""))
        swatch = QPixmap(12, 12)
        swatch.fill(QColor(*colour_of(finding.structure)) if finding.present else QColor(0, 0, 0, 0))
        name.setIcon(QIcon(swatch))
