"""A searchable tree of structures with groups, check boxes and colours."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from napari_chexanatomy.structure_colours import OTHER_GROUP, colour_of, display_name, group_of, search_text, side_of
from napari_chexanatomy.tick_boxes import frame_boxes
from training.anatomy import vocabulary

KEY_ROLE = Qt.ItemDataRole.UserRole
NAME = 0


class StructureList(QWidget):
    """Structures to tick. `changed` is emitted once per action of the user; `pointed` when a structure is clicked."""

    changed = Signal()
    pointed = Signal(str)

    def __init__(self, purpose: str) -> None:
        """`purpose` completes the tooltip: what ticking a structure does."""
        super().__init__()
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search: RUL, rib 5 …")
        self.search.setClearButtonEnabled(True)
        self.search.setToolTip("Type any name or synonym of a structure to find it in the list.")
        self.search.textChanged.connect(self._filter)
        self.side = QComboBox()
        for text, side in (
            ("any side", ""),
            ("right", "right"),
            ("left", "left"),
            ("midline", "midline"),
            ("both sides", "both"),
        ):
            self.side.addItem(text, side)
        self.side.setToolTip("Show only structures that lie on this side of the patient.")
        self.side.currentIndexChanged.connect(lambda _: self._filter(self.search.text()))
        self.tree = QTreeWidget()
        self.tree.setHeaderHidden(True)
        frame_boxes(self.tree)
        self.tree.setMinimumHeight(170)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.tree.setToolTip(f"Tick a structure {purpose}. Tick a heading for all below it.")
        self.tree.itemChanged.connect(self._item_changed)
        self.tree.itemClicked.connect(self._item_clicked)
        self.count = QLabel()
        self.all_button = QPushButton("All shown")
        self.all_button.setToolTip("Tick every structure that the list shows: all, or those that the search and the side leave.")
        self.all_button.clicked.connect(lambda: self._tick_found(True))
        self.none_button = QPushButton("None")
        self.none_button.setToolTip("Take every tick away.")
        self.none_button.clicked.connect(lambda: self.set_checked([]))
        row = QHBoxLayout()
        row.addWidget(self.count, 1)
        row.addWidget(self.all_button)
        row.addWidget(self.none_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        looking = QHBoxLayout()
        looking.addWidget(self.search, 1)
        looking.addWidget(self.side)
        layout.addLayout(looking)
        layout.addWidget(self.tree, 1)
        layout.addLayout(row)
        self._items: dict[str, QTreeWidgetItem] = {}
        self._pending = False
        self.set_structures([])

    def set_structures(self, structures: Iterable[str]) -> None:
        """Offer these structures, in the vocabulary's order; ticks stay where the structure stays."""
        order = {key: index for index, key in enumerate(vocabulary())}
        wanted = sorted(dict.fromkeys(structures), key=lambda s: order.get(s, len(order)))
        if list(self._items) == wanted and wanted:
            return
        ticked = set(self.checked())
        self.tree.blockSignals(True)
        self.tree.clear()
        self._items = {}
        groups: dict[str, QTreeWidgetItem] = {}
        for structure in wanted:
            group = group_of(structure)
            if group not in groups:
                heading = QTreeWidgetItem(self.tree, [group])
                heading.setFlags(heading.flags() | Qt.ItemFlag.ItemIsAutoTristate | Qt.ItemFlag.ItemIsUserCheckable)
                groups[group] = heading
            item = QTreeWidgetItem(groups[group], [display_name(structure)])
            item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            item.setData(NAME, KEY_ROLE, structure)
            item.setIcon(NAME, swatch(structure))
            item.setToolTip(NAME, _explain(structure))
            item.setCheckState(NAME, Qt.CheckState.Checked if structure in ticked else Qt.CheckState.Unchecked)
            self._items[structure] = item
        if OTHER_GROUP in groups:
            groups[OTHER_GROUP].setExpanded(True)
        for heading in groups.values():
            if heading.checkState(NAME) != Qt.CheckState.Unchecked:
                heading.setExpanded(True)
        self.tree.blockSignals(False)
        self._filter(self.search.text())
        self._recount()

    def structures(self) -> list[str]:
        """Everything on offer."""
        return list(self._items)

    def checked(self) -> list[str]:
        """Keys of the ticked structures in list order."""
        return [key for key, item in self._items.items() if item.checkState(NAME) == Qt.CheckState.Checked]

    def set_checked(self, structures: Iterable[str]) -> None:
        """Tick exactly these."""
        wanted = set(structures)
        self.tree.blockSignals(True)
        for key, item in self._items.items():
            item.setCheckState(NAME, Qt.CheckState.Checked if key in wanted else Qt.CheckState.Unchecked)
            if key in wanted and item.parent() is not None:
                item.parent().setExpanded(True)
        self.tree.blockSignals(False)
        self._recount()
        self.changed.emit()

    def _tick_found(self, tick: bool) -> None:
        found = [key for key, item in self._items.items() if not item.isHidden()]
        self.set_checked([*self.checked(), *found] if tick else [])

    def _filter(self, text: str) -> None:
        words, side = text.casefold().split(), self.side.currentData()
        for key, item in self._items.items():
            item.setHidden(not all(word in search_text(key) for word in words) or side not in ("", side_of(key)))
        for index in range(self.tree.topLevelItemCount()):
            heading = self.tree.topLevelItem(index)
            shown = [heading.child(i) for i in range(heading.childCount()) if not heading.child(i).isHidden()]
            heading.setHidden(not shown)
            if (words or side) and shown:
                heading.setExpanded(True)

    def _item_changed(self, item: QTreeWidgetItem) -> None:
        # A heading reports each of its children as well: one signal when Qt has finished.
        if not self.tree.signalsBlocked() and not self._pending:
            self._pending = True
            QTimer.singleShot(0, self._settle)

    def _settle(self) -> None:
        self._pending = False
        self._recount()
        self.changed.emit()

    def _item_clicked(self, item: QTreeWidgetItem) -> None:
        key = item.data(NAME, KEY_ROLE)
        if key:
            self.pointed.emit(key)

    def _recount(self) -> None:
        self.count.setText(f"{len(self.checked())} of {len(self._items)} chosen" if self._items else "no structures")


def swatch(structure: str) -> QIcon:
    """A small square in the structure's colour."""
    square = QPixmap(12, 12)
    square.fill(QColor(*colour_of(structure)))
    return QIcon(square)


def _explain(structure: str) -> str:
    known = vocabulary().get(structure)
    if known is None:
        return f"{structure}: a name from your file, not in the vocabulary"
    return f"{known.name} ({known.key}; {known.side})" + (f"\nalso: {', '.join(known.synonyms)}" if known.synonyms else "")
