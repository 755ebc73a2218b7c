"""The project's images as a list: what is drawn on, what is held out."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_chexanatomy.labelling import Item, Project
from napari_chexanatomy.tick_boxes import frame_boxes

NAME_ROLE = Qt.ItemDataRole.UserRole


class ImageList(QListWidget):
    """One line per image; its tick says that it is held out."""

    picked = Signal(str)
    """Carries the name of the image that the user went to; empty for none."""
    held_out = Signal(str, bool)
    """Carries the name of an image and whether it is to be held out."""

    def __init__(self) -> None:
        """Empty until a project is shown."""
        super().__init__()
        self.setMinimumHeight(110)
        self.setSpacing(1)
        frame_boxes(self)
        self.setToolTip("Images of the project. Select one to draw on it. A ticked one is measured on, not learnt from.")
        self.currentItemChanged.connect(lambda line, _before: self.picked.emit(line.data(NAME_ROLE) if line is not None else ""))
        self.itemChanged.connect(lambda line: self.held_out.emit(line.data(NAME_ROLE), ticked(line)))

    def show_project(self, project: Project, current: str) -> None:
        """Say again what is in the project, without going anywhere. current: the image in hand."""
        self.blockSignals(True)
        if self.count() == len(project.items):
            for row, item in enumerate(project.items):
                self._write(self.item(row), project, item)
        else:
            self.clear()
            for item in project.items:
                line = QListWidgetItem()
                line.setFlags(line.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                self._write(line, project, item)
                self.addItem(line)
        rows = [row for row, item in enumerate(project.items) if item.name == current]
        self.setCurrentRow(rows[0] if rows else -1)
        self.blockSignals(False)

    def go_to(self, name: str) -> None:
        """Select an image as the user would."""
        for row in range(self.count()):
            if self.item(row).data(NAME_ROLE) == name:
                self.setCurrentRow(row)

    @staticmethod
    def _write(line: QListWidgetItem, project: Project, item: Item) -> None:
        state = "not there" if project.absent(item) else ("drawn" if project.drawn(item) else "to draw")
        line.setText(f"{item.title}   ({state})")
        line.setData(NAME_ROLE, item.name)
        line.setCheckState(Qt.CheckState.Checked if item.held_out else Qt.CheckState.Unchecked)


def ticked(line: QListWidgetItem) -> bool:
    """Whether a line is ticked."""
    return line.checkState() == Qt.CheckState.Checked
