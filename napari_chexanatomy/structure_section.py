"""Which structures fall onto the detector, and how they are painted."""

from __future__ import annotations

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QSlider

from napari_chexanatomy.overlay import Style
from napari_chexanatomy.section import Section
from napari_chexanatomy.structure_list import StructureList


class StructureSection(Section):
    """The list to tick, filled or outlined, and the opacity [0..1]. `changed` asks for a new picture."""

    changed = Signal()
    opacity_changed = Signal(float)

    def __init__(self) -> None:
        """Nothing on offer yet."""
        super().__init__("Structures on the detector", "Which structures of the label map fall onto the picture, and how.")
        self.list = StructureList("to see its shadow on the detector")
        self.list.changed.connect(self.changed)
        self.combo = QComboBox()
        self.combo.addItem("Filled", "fill")
        self.combo.addItem("Outlines", "outline")
        self.combo.setToolTip("Paint structures as areas or as outlines.")
        self.combo.currentIndexChanged.connect(lambda _: self.changed.emit())
        opacity = QSlider(Qt.Orientation.Horizontal)
        opacity.setRange(0, 100)
        opacity.setValue(100)
        opacity.setToolTip("Opacity of the structures over the radiograph.")
        opacity.valueChanged.connect(lambda percent: self.opacity_changed.emit(percent / 100))
        look = QHBoxLayout()
        look.addWidget(self.combo)
        look.addWidget(opacity, 1)
        self.body.addWidget(self.list, 1)
        self.body.addLayout(look)

    @property
    def style_of_masks(self) -> Style:
        """Filled or outlined."""
        return self.combo.currentData()  # type: ignore[no-any-return]
