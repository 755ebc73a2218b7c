"""The first page of the Few-shot widget: which images, and the tools to draw with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QCheckBox, QGroupBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_chexanatomy.buttons import push_button
from napari_chexanatomy.desk import LayerChooser
from napari_chexanatomy.image_list import ImageList

if TYPE_CHECKING:
    from napari_chexanatomy.fewshot import FewShotWidget


class DrawPage(QWidget):
    """Adds images, lists them, and offers brush, outline, undo and existing layers."""

    def __init__(self, desk: FewShotWidget) -> None:
        """The desk does what is asked here."""
        super().__init__()
        box = QGroupBox("Images")
        inside = QVBoxLayout(box)
        self.layers = LayerChooser(desk.viewer, desk.addable, "no radiograph open")
        self.layers.setToolTip("A radiograph that is open in the viewer.")
        add = push_button("Add", "Copy this radiograph into the project.", desk.add_layer)
        files = push_button("Files …", "Copy radiograph files (DICOM, PNG, JPEG, TIFF) into the project.", desk.choose_files)
        inside.addLayout(_row((self.layers, 1), (add, 0), (files, 0)))
        self.images = ImageList()
        inside.addWidget(self.images)
        inside.addWidget(QLabel("☑ = held out: measured on, never learnt from"))
        self.suggest = push_button(
            "Suggest next",
            "Go to the image without a drawing that the model is least sure of: it has most to learn from that one.",
            desk.suggest,
        )
        remove = push_button("Remove image", "Take the selected image and its drawings out of the project.", desk.remove_image)
        inside.addLayout(_row((self.suggest, 1), (remove, 1)))
        tools = QGroupBox("Drawing")
        inside = QVBoxLayout(tools)
        brush = push_button("Brush", "Draw with napari's brush; keys [ and ] change its size.", desk.draw_freely)
        outline = push_button(
            "Outline", "Draw around the structure; what is inside the outline counts as drawn.", desk.draw_outline
        )
        undo = push_button("Undo", "Take the last change back, also one made before the program was started.", desk.undo)
        inside.addLayout(_row((brush, 1), (outline, 1), (undo, 1)))
        self.drawings = LayerChooser(desk.viewer, desk.takeable, "no other drawing open")
        self.drawings.setToolTip("A Labels or Shapes layer of this image that is open in the viewer, whoever made it.")
        take = push_button("Take over", "Use what is drawn in that layer as the drawing of this image.", desk.take_over)
        inside.addLayout(_row((self.drawings, 1), (take, 0)))
        self.absent = QCheckBox("The structure is not in this image")
        self.absent.setToolTip("Tick this when there is nothing to draw: the model learns to say so.")
        self.absent.toggled.connect(desk.set_absent)
        inside.addWidget(self.absent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 4, 2, 2)
        layout.addWidget(box, 1)
        layout.addWidget(tools)


def _row(*parts: tuple[QWidget, int]) -> QHBoxLayout:
    row = QHBoxLayout()
    for widget, stretch in parts:
        row.addWidget(widget, stretch)
    return row
