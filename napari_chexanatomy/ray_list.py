"""Lists what the ray under the pointer passes."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QTreeWidget, QTreeWidgetItem

from napari_chexanatomy.section import Section
from napari_chexanatomy.structure_colours import display_name
from napari_chexanatomy.structure_list import swatch
from napari_chexanatomy.thickness import Ray

HINT = "Click on the radiograph, or on the detector in the room."
MOST_ROWS = 8
"""Rows that are seen without scrolling."""


class RayList(Section):
    """The structures under the pointer with their thickness; folded up until the first click."""

    def __init__(self) -> None:
        """Nothing clicked yet."""
        super().__init__("Under the pointer", "What the ray passes that meets the pixel you clicked on.", unfolded=False)
        self.summary = QLabel(HINT)
        self.summary.setWordWrap(True)
        self.tree = QTreeWidget()
        self.tree.setColumnCount(2)
        self.tree.setHeaderHidden(True)
        self.tree.setRootIsDecorated(False)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.tree.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.tree.setToolTip("Thickness of each structure along the ray, the thickest first.")
        self.tree.header().setStretchLastSection(False)
        self.tree.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.tree.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        self.body.addWidget(self.summary)
        self.body.addWidget(self.tree)
        self.tree.hide()

    def rows(self) -> list[tuple[str, str]]:
        """What is listed: (structure, thickness) as shown."""
        items = [self.tree.topLevelItem(i) for i in range(self.tree.topLevelItemCount())]
        return [(item.text(0), item.text(1)) for item in items]

    def show_ray(self, ray: Ray, labelled: bool) -> None:
        """List a ray; labelled: a label map was followed as well."""
        where = f"Row {ray.row:.0f}, column {ray.column:.0f}: weakens the beam as {ray.water:.0f} mm of water."
        if labelled and not ray.crossings:
            where += " No labelled structure."
        self.summary.setText(where if labelled else where + " Open a label map to see the structures.")
        self.tree.clear()
        for structure, millimetres in ray.crossings:
            item = QTreeWidgetItem(self.tree, [display_name(structure), f"{millimetres:.1f} mm"])
            item.setIcon(0, swatch(structure))
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.tree.setVisible(bool(ray.crossings))
        if ray.crossings:
            row = self.tree.sizeHintForRow(0)
            self.tree.setFixedHeight(row * min(MOST_ROWS, len(ray.crossings)) + 2 * self.tree.frameWidth() + 2)
