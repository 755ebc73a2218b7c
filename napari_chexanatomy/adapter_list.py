"""What a project has learnt so far: a list of adapters to apply, compare, rename, export and delete."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QGridLayout,
    QHeaderView,
    QInputDialog,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_chexanatomy.model_chooser import apply_everywhere, withdraw_everywhere
from napari_chexanatomy.structure_colours import display_name
from training.errors import ChexanatomyError
from training.fit.adapters import (
    Kept,
    adapters_in,
    card_page,
    delete_adapter,
    export_adapter,
    rename_adapter,
)
from training.plain import inert

if TYPE_CHECKING:
    from napari_chexanatomy.desk import DeskWidget

COLUMNS = ("Adapter", "Structure", "before", "after", "others")
COLUMN_TIPS = (
    "Its name; double-click to change it.",
    "What it was taught.",
    "Mean Dice on the held-out images before learning, at most 1.",
    "The same after learning.",
    "Other structures: the same as before, because a small adapter is used for its own structure alone;\n"
    "else how well they agree with what the model said before (Dice, at most 1).",
)
PATH_ROLE = Qt.ItemDataRole.UserRole


class AdapterList(QWidget):
    """Adapters of the open project, and below them the card of what is selected, or a comparison of several."""

    chosen = Signal(object)
    """Carries the Kept that was selected alone."""

    def __init__(self, desk: DeskWidget) -> None:
        """`desk` says what happened."""
        super().__init__()
        self._desk = desk
        self._folder: Path | None = None
        self.kept: list[Kept] = []
        self.titles: dict[str, str] = {}
        self.table = QTableWidget(0, len(COLUMNS))
        self.table.setHorizontalHeaderLabels(COLUMNS)
        for column, tip in enumerate(COLUMN_TIPS):
            item = self.table.horizontalHeaderItem(column)
            if item is not None:
                item.setToolTip(tip)
        self.table.setToolTip("What this project has learnt. Select one to use it, several (Ctrl+click) to compare them.")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        header = self.table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.table.setMinimumHeight(130)
        self.table.itemSelectionChanged.connect(self._selected)
        self.table.cellDoubleClicked.connect(partial(self._plainly, self.rename))
        self.buttons: dict[str, QPushButton] = {}
        grid = QGridLayout()
        for number, (text, tip, slot) in enumerate(
            (
                ("Apply", "Predict with the selected adapter from now on, also when it is not better than before.", self.apply),
                ("Compare", "Set the selected adapters side by side, image by image.", self.compare),
                ("Rename …", "Give the selected adapter another name.", self.rename),
                ("Export …", "Write the selected adapter with its card as one .zip file, for another computer.", self.export),
                ("Delete", "Move the selected adapters into the project's folder “deleted”.", self.delete),
            )
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(partial(self._plainly, slot))
            self.buttons[text] = button
            grid.addWidget(button, number // 3, number % 3)
        self.card = QTextBrowser()
        self.card.setOpenLinks(False)
        self.card.setToolTip("The card of the selected adapter: data, settings, scores, software.")
        self.card.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.card.setMinimumHeight(160)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 4, 2, 2)
        layout.addWidget(self.table, 1)
        layout.addLayout(grid)
        layout.addWidget(self.card, 2)

    # What is there --------------------------------------------------------------------------------------------------

    def show_folder(self, folder: Path | None, select: Path | None = None) -> None:
        """List a folder's adapters, newest first."""
        self._folder = folder
        self.kept = list(reversed(adapters_in(folder))) if folder is not None else []
        self.table.blockSignals(True)
        self.table.clearSelection()
        self.table.setRowCount(len(self.kept))
        for row, kept in enumerate(self.kept):
            texts = (
                kept.name,
                display_name(kept.structure),
                shown(kept.before),
                shown(kept.after),
                "same" if kept.unchanged else others(kept),
            )
            for column, text in enumerate(texts):
                cell = QTableWidgetItem(text)
                cell.setToolTip("\n".join(map(inert, (str(kept.folder), verdict(kept)))))
                self.table.setItem(row, column, cell)
        self.table.blockSignals(False)
        rows = [row for row, kept in enumerate(self.kept) if kept.folder == select]
        if rows:
            self.table.selectRow(rows[0])
        self._selected()

    def selected(self) -> list[Kept]:
        """What is selected, from top to bottom."""
        rows = sorted({index.row() for index in self.table.selectedIndexes()})
        return [self.kept[row] for row in rows]

    def _one(self) -> Kept:
        chosen = self.selected()
        if len(chosen) != 1:
            raise ChexanatomyError("Select one of the learnt adapters in the list first.")
        return chosen[0]

    def _selected(self) -> None:
        chosen = self.selected()
        self.card.setMarkdown(card_page(chosen[0].card) if len(chosen) == 1 else "")
        if len(chosen) == 1:
            self.chosen.emit(chosen[0])
        elif len(chosen) > 1:
            self.compare()

    def _plainly(self, slot: Callable[[], None], *_: Any) -> None:
        try:
            slot()
        except (ChexanatomyError, OSError) as error:
            self._desk.complain(str(error))

    # What can be done with it ---------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Predict with the selected adapter."""
        kept = self._one()
        apply_everywhere(str(kept.folder), kept.name)
        self._desk.say(f"Predict uses “{kept.name}” now.")

    def compare(self) -> None:
        """Show the selected adapters' scores side by side."""
        chosen = self.selected()
        if len(chosen) < 2:
            raise ChexanatomyError("Select two or more adapters to compare: Ctrl+click adds one.")
        images = list(dict.fromkeys(name for kept in chosen for name in kept.per_image))
        lines = ["| Dice after learning | " + " | ".join(kept.name for kept in chosen) + " |", "|---" * (len(chosen) + 1) + "|"]
        for name in images:
            values = (kept.per_image.get(name, (None, None))[1] for kept in chosen)
            lines.append(f"| {self.titles.get(name, name)} | " + " | ".join(map(shown, values)) + " |")
        lines.append("| **mean** | " + " | ".join(f"**{shown(kept.after)}**" for kept in chosen) + " |")
        lines.append("| before | " + " | ".join(shown(kept.before) for kept in chosen) + " |")
        lines.append("| other structures | " + " | ".join(others(kept) for kept in chosen) + " |")
        lines.append("| steps | " + " | ".join(str(kept.card.get("steps")) for kept in chosen) + " |")
        if len({tuple(sorted(kept.per_image)) for kept in chosen}) > 1:
            lines += ["", "These were measured on different images: compare image by image, not the means."]
        self.card.setMarkdown("\n".join(lines))

    def rename(self) -> None:
        """Ask for another name."""
        kept = self._one()
        name, given = QInputDialog.getText(self, "Rename", "Name of the adapter:", text=kept.name)
        if given:
            rename_adapter(kept, name)
            self.show_folder(self._folder, kept.folder)

    def export(self) -> None:
        """Ask where to, and write a .zip file."""
        kept = self._one()
        name = QFileDialog.getSaveFileName(self, "Export", f"{kept.folder.name}.zip", "Adapter (*.zip)")[0]
        if name:
            self._desk.say(f"Exported as {export_adapter(kept, Path(name))}. Unpacked, it opens under “A folder …” of a model.")

    def delete(self) -> None:
        """Move the selected ones away; where one was in use, the model before it is used again."""
        chosen = self.selected()
        if not chosen:
            raise ChexanatomyError("Select one of the learnt adapters in the list first.")
        for kept in chosen:
            where = delete_adapter(kept)
            withdraw_everywhere(str(kept.folder))
        self.show_folder(self._folder)
        self._desk.say(f"Moved into {where.parent}; delete that folder when you need the room.")


def verdict(kept: Kept) -> str:
    """In a sentence, what came of it."""
    if kept.after is None:
        return "Nothing was held out, so nobody knows whether it is better. Press Apply to use it."
    lost = ", ".join(map(display_name, kept.forgotten))
    if kept.better:
        return "Better than before: Predict uses it now." + (f" Changed most: {lost}." if lost else "")
    if (kept.before or 0) < kept.after:
        return f"Better, but {lost or 'others'} were forgotten, so it is kept but not used. Press Apply to use it."
    return "Not better than before, so it is kept but not used. Press Apply to use it all the same."


def others(kept: Kept) -> str:
    """How well other structures agree with what was said of them before."""
    return "unchanged" if kept.unchanged else shown(kept.others)


def shown(value: float | None) -> str:
    """A Dice, or a dash."""
    return "–" if value is None else f"{value:.3f}"
