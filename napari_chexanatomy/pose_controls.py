"""Sliders with units for the pose of tube and detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QGroupBox, QLabel, QVBoxLayout, QWidget
from superqt import QLabeledDoubleSlider

from training.drr import Geometry
from training.images.types import CT

PIXEL_CHOICES = (256, 512, 1024, 2048)
DEFAULT_PIXELS = 512


@dataclass(frozen=True)
class Knob:
    """One slider: name, unit, range (low, high) and what it does in the user's words."""

    label: str
    unit: str
    low: float
    high: float
    tip: str


CENTRED = "from the middle of the CT"
KNOBS: dict[str, Knob] = {
    "primary": Knob(
        "Primary angle",
        "°",
        -180,
        180,
        "Turns the tube around the patient: 0° PA, 180° AP, 90° left lateral; LAO positive, RAO negative.",
    ),
    "secondary": Knob(
        "Secondary angle", "°", -60, 60, "Tilts the detector towards the head (cranial, positive) or the feet (caudal, negative)."
    ),
    "roll": Knob("Roll", "°", -180, 180, "Turns the picture clockwise about the central ray."),
    "sdd": Knob(
        "Source to detector", "mm", 500, 3000, "From the X-ray source to the detector (SDD). 1800 mm is usual for the chest."
    ),
    "sid": Knob(
        "Source to isocentre", "mm", 200, 2900, "From the X-ray source to the point it turns about (SID). Smaller magnifies more."
    ),
    "x": Knob("Isocentre left", "mm", -300, 300, f"Moves the point the tube turns about to the patient's left, {CENTRED}."),
    "y": Knob("Isocentre back", "mm", -300, 300, f"Moves the point the tube turns about towards the patient's back, {CENTRED}."),
    "z": Knob("Isocentre up", "mm", -300, 300, f"Moves the point the tube turns about towards the head, {CENTRED}."),
    "field": Knob("Detector edge", "mm", 50, 800, "Edge length of the square detector. A usual chest detector has 430 mm."),
}
GROUPS = (
    ("Tube", ("primary", "secondary", "roll")),
    ("Distances and detector", ("sdd", "sid", "field")),
    ("Isocentre", ("x", "y", "z")),
)


class PoseControls(QWidget):
    """Shows a geometry as sliders. `moved` is emitted while a slider moves, with the fresh values in `geometry`."""

    moved = Signal()

    def __init__(self) -> None:
        """Stand at the usual chest geometry."""
        super().__init__()
        self.sliders: dict[str, QLabeledDoubleSlider] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for title, names in GROUPS:
            box = QGroupBox(title)
            grid = QGridLayout(box)
            grid.setContentsMargins(6, 4, 6, 4)
            grid.setVerticalSpacing(2)
            grid.setColumnStretch(1, 1)
            for row, name in enumerate(names):
                self._add_slider(grid, row, name)
            if "field" in names:
                self._add_pixels(grid, len(names))
            layout.addWidget(box)
        self._centre = (0.0, 0.0, 0.0)
        self.show_geometry(Geometry(), None)

    def _add_slider(self, grid: QGridLayout, row: int, name: str) -> None:
        knob = KNOBS[name]
        slider = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        slider.setRange(knob.low, knob.high)
        slider.setDecimals(0 if knob.unit == "mm" else 1)
        slider.setSingleStep(1)
        slider.valueChanged.connect(self._emit)
        self.sliders[name] = slider
        cells: list[tuple[QWidget, int]] = [(QLabel(knob.label), 0), (slider, 1), (QLabel(knob.unit), 2)]
        for widget, column in cells:
            widget.setToolTip(knob.tip)
            grid.addWidget(widget, row, column)

    def _add_pixels(self, grid: QGridLayout, row: int) -> None:
        self.pixels = QComboBox()
        for count in PIXEL_CHOICES:
            self.pixels.addItem(f"{count} × {count} pixels", count)
        self.pixels.setCurrentIndex(PIXEL_CHOICES.index(DEFAULT_PIXELS))
        self.pixels.setToolTip("How finely the detector is divided. More pixels take longer.")
        self.pixels.currentIndexChanged.connect(self._emit)
        grid.addWidget(QLabel("Resolution"), row, 0)
        grid.addWidget(self.pixels, row, 1, 1, 2)

    def _emit(self, *_: Any) -> None:
        self.moved.emit()

    def geometry_for(self, ct: CT) -> Geometry:
        """The geometry that the sliders stand at. Raises ImpossibleGeometry when there can be none."""
        value: Callable[[str], float] = lambda name: float(self.sliders[name].value())  # noqa: E731
        count = int(self.pixels.currentData())
        x, y, z = ct.centre
        return Geometry(
            sdd=value("sdd"), sid=value("sid"), primary=value("primary"), secondary=value("secondary"), roll=value("roll"),
            isocentre=(x + value("x"), y + value("y"), z + value("z")),
            rows=count, columns=count, spacing=(value("field") / count, value("field") / count),
        )  # fmt: skip

    def show_geometry(self, geometry: Geometry, ct: CT | None) -> None:
        """Put the sliders where a geometry stands and emit `moved` once. The longer edge of the detector counts."""
        centre = ct.centre if ct is not None else geometry.isocentre
        shift = [a - b for a, b in zip(geometry.isocentre, centre, strict=True)]
        field = max(geometry.rows * geometry.spacing[0], geometry.columns * geometry.spacing[1])
        turn = 180.0 if geometry.primary == 180 else (geometry.primary + 180) % 360 - 180
        values = {
            "primary": turn,
            "secondary": geometry.secondary,
            "roll": geometry.roll,
            "sdd": geometry.sdd,
            "sid": geometry.sid,
        }
        values |= {"x": shift[0], "y": shift[1], "z": shift[2], "field": field}
        for name, number in values.items():
            slider = self.sliders[name]
            slider.blockSignals(True)
            slider.setRange(min(KNOBS[name].low, number), max(KNOBS[name].high, number))
            slider.setValue(number)
            slider.blockSignals(False)
        if geometry.rows in PIXEL_CHOICES and ct is not None:
            self.pixels.blockSignals(True)
            self.pixels.setCurrentIndex(PIXEL_CHOICES.index(geometry.rows))
            self.pixels.blockSignals(False)
        self.moved.emit()

    def turn_to(self, geometry: Geometry, ct: CT | None) -> None:
        """Take the angles of a preset; distances, isocentre and detector stay."""
        here = self.geometry_for(ct) if ct is not None else Geometry()
        self.show_geometry(replace(here, primary=geometry.primary, secondary=geometry.secondary, roll=geometry.roll), ct)
