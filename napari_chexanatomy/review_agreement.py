"""How far the reviewers of a data set agree, and the masks on which they do not."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from napari_chexanatomy.review_queue import ReviewQueue
from napari_chexanatomy.structure_colours import display_name
from training.plain import inert

LISTED = 500
"""Disagreements listed at most."""
ROLE = Qt.ItemDataRole.UserRole


class AgreementView(QWidget):
    """Cohen's kappa for each pair of reviewers, and a table of what they differ on; double-click opens it."""

    opened = Signal(str, str)
    """Case id and structure."""

    def __init__(self) -> None:
        """Empty until `show_queue`."""
        super().__init__()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.summary.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.table = QTableWidget(0, 4)
        self.table.setHorizontalHeaderLabels(["Case", "Structure", "One", "The other"])
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        self.table.setToolTip("Masks on which two reviewers differ. Double-click to open one.")
        self.table.itemDoubleClicked.connect(self._open)
        layout.addWidget(self.summary)
        layout.addWidget(self.table)

    def show_queue(self, queue: ReviewQueue) -> None:
        """Read everybody's decisions and compare them."""
        from training.dataset import agreements

        queue.read_decisions()
        pairs = agreements(queue.everybodys)
        lines = []
        for pair in pairs:
            kappa = (
                "Cohen's kappa is not defined: both always said the same"
                if pair.kappa is None
                else f"Cohen's kappa {pair.kappa:.2f}"
            )
            lines.append(
                f"<b>{_escaped(pair.one)}</b> and <b>{_escaped(pair.two)}</b>: {pair.agreed} of {pair.shared} alike; {kappa}"
            )
        names = sorted({d.reviewer for d in queue.everybodys})
        nobody = f"Only {_escaped(names[0])} has decided so far." if names else "Nobody has decided anything yet."
        self.summary.setText("<br>".join(lines) or (nobody if len(names) < 2 else "No two reviewers decided on the same mask."))
        rows = [both for pair in pairs for both in pair.disagreements][:LISTED]
        self.table.setRowCount(len(rows))
        for row, (one, two) in enumerate(rows):
            structure = one.structure or two.structure
            texts = [one.case_id, display_name(structure) if structure else "whole case"]
            texts += [f"{d.reviewer}: {d.verdict}{f' ({d.comment})' if d.comment else ''}" for d in (one, two)]
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                item.setToolTip(inert(text))
                item.setData(ROLE, (one.case_id, structure))
                self.table.setItem(row, column, item)

    def _open(self, item: QTableWidgetItem) -> None:
        self.opened.emit(*item.data(ROLE))


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)
