"""Sliders for the pose of tube and detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_chexanatomy.section import Section
from napari_chexanatomy.unit_slider import Knob, UnitSlider
from training.drr import Geometry
from training.images.types import CT, Triple

PIXEL_CHOICES = (256, 512, 1024, 2048)
DEFAULT_PIXELS = 512
CENTRED = "from the middle of the CT"
KNOBS: Mapping[str, Knob] = {
    "primary": Knob(
        "Primary angle",
        "°",
        -180,
        180,
        "Turns the tube around the patient: 0° PA, ±180° AP, 90° left lateral; LAO positive, RAO negative.",
        0.5,
        1,
    ),
    "secondary": Knob(
        "Secondary angle",
        "°",
        -60,
        60,
        "Tilts the detector towards the head (cranial, positive) or the feet (caudal, negative).",
        0.5,
        1,
    ),
    "roll": Knob("Roll", "°", -180, 180, "Turns the picture clockwise about the central ray.", 0.5, 1),
    "sdd": Knob(
        "Source to detector", "mm", 500, 3000, "From the X-ray source to the detector (SDD). 1800 mm is usual for the chest.", 5
    ),
    "sid": Knob(
        "Source to isocentre",
        "mm",
        200,
        2900,
        "From the X-ray source to the point it turns about (SID). Smaller magnifies more.",
        5,
    ),
    "width": Knob("Detector width", "mm", 50, 800, "How wide the detector is. A usual chest detector has 430 mm."),
    "height": Knob("Detector height", "mm", 50, 800, "How high the detector is. A usual chest detector has 430 mm."),
    "x": Knob("To the left", "mm", -300, 300, f"Moves the point the tube turns about to the patient's left, {CENTRED}."),
    "y": Knob("To the back", "mm", -300, 300, f"Moves the point the tube turns about towards the patient's back, {CENTRED}."),
    "z": Knob("To the head", "mm", -300, 300, f"Moves the point the tube turns about towards the patient's head, {CENTRED}."),
}
PRESETS = {
    "PA": (0.0, "The usual standing chest radiograph: beam from the back, detector in front of the chest."),
    "AP": (180.0, "As taken in bed: beam from the front, detector behind the back."),
    "L lat": (90.0, "Left lateral: the left side at the detector."),
    "R lat": (-90.0, "Right lateral: the right side at the detector."),
    "RAO 45": (-45.0, "Right anterior oblique, 45°: the right front at the detector."),
    "LAO 45": (45.0, "Left anterior oblique, 45°: the left front at the detector."),
}
GROUPS = (
    ("Tube angles", "How the tube is turned around the patient.", ("primary", "secondary", "roll"), True),
    ("Distances and detector", "Where tube and detector stand, and how large and fine the detector is.",
     ("sdd", "sid", "width", "height"), False),
    ("Isocentre", "The point that the tube turns about and that the central ray meets.", ("x", "y", "z"), False),
)  # fmt: skip


class PresetRow(QWidget):
    """A button for each usual view. `chosen` carries its primary angle [degrees]."""

    chosen = Signal(float)

    def __init__(self) -> None:
        """No view is chosen."""
        super().__init__()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        self.buttons: dict[str, QPushButton] = {}
        for name, (angle, tip) in PRESETS.items():
            button = QPushButton(name)
            button.setToolTip(f"{tip} Takes the radiograph.")
            button.setMinimumWidth(30)
            button.clicked.connect(lambda _=False, angle=angle: self.chosen.emit(angle))
            row.addWidget(button)
            self.buttons[name] = button


class PoseControls(QWidget):
    """Shows a geometry as sliders. `moved` is emitted with every new value, `released` when the hand lets go."""

    moved = Signal()
    released = Signal()

    def __init__(self) -> None:
        """Stand at the usual chest geometry."""
        super().__init__()
        self.sliders: dict[str, UnitSlider] = {}
        self._given: Geometry | None = None
        self._given_centre: Triple | None = None
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        for title, tip, names, unfolded in GROUPS:
            section = Section(title, tip, unfolded)
            grid = slider_grid(section)
            for name in names:
                self.sliders[name] = add_slider(grid, KNOBS[name])
                self.sliders[name].valueChanged.connect(self._edited)
                self.sliders[name].released.connect(self.released)
            if "width" in names:
                self._add_pixels(grid)
            layout.addWidget(section)
        self.show_geometry(Geometry().resized(DEFAULT_PIXELS, DEFAULT_PIXELS), None)

    def _add_pixels(self, grid: QGridLayout) -> None:
        self.pixels = QComboBox()
        for count in PIXEL_CHOICES:
            self.pixels.addItem(f"{count} pixels", count)
        self.pixels.setToolTip("Pixels along the longer edge of the detector; they are square. More of them take longer.")
        self.pixels.currentIndexChanged.connect(self._edited)
        row = grid.rowCount()
        grid.addWidget(QLabel("Resolution"), row, 0)
        grid.addWidget(self.pixels, row, 1)

    @property
    def held(self) -> UnitSlider | None:
        """The slider that the hand is on."""
        return next((slider for slider in self.sliders.values() if slider.held), None)

    def _edited(self, *_: object) -> None:
        self._given = None
        self.moved.emit()

    def geometry_for(self, ct: CT) -> Geometry:
        """The geometry that the sliders stand at; one that was put in stays exact until a slider is moved.

        Raises ImpossibleGeometry when there can be none.
        """
        if self._given is not None and self._given_centre in (None, ct.centre):
            if self._given_centre is not None:
                return self._given
            return replace(self._given, isocentre=self._isocentre(ct))
        value = {name: slider.value() for name, slider in self.sliders.items()}
        longer = int(self.pixels.currentData())
        pitch = max(value["width"], value["height"]) / longer
        rows, columns = (max(2, round(value[edge] / pitch)) for edge in ("height", "width"))
        return Geometry(
            sdd=value["sdd"], sid=value["sid"], primary=value["primary"], secondary=value["secondary"], roll=value["roll"],
            isocentre=self._isocentre(ct), rows=rows, columns=columns,
            spacing=(value["height"] / rows, value["width"] / columns),
        )  # fmt: skip

    def _isocentre(self, ct: CT) -> Triple:
        x, y, z = (middle + self.sliders[name].value() for middle, name in zip(ct.centre, "xyz", strict=True))
        return x, y, z

    def show_geometry(self, geometry: Geometry, ct: CT | None) -> None:
        """Put the sliders where a geometry stands and emit `moved` once. Without a CT the isocentre is its middle."""
        shift = [a - b for a, b in zip(geometry.isocentre, ct.centre, strict=True)] if ct is not None else [0.0, 0.0, 0.0]
        self._show({
            "primary": 180.0 if geometry.primary == 180 else (geometry.primary + 180) % 360 - 180,
            "secondary": geometry.secondary, "roll": geometry.roll, "sdd": geometry.sdd, "sid": geometry.sid,
            "width": geometry.columns * geometry.spacing[1], "height": geometry.rows * geometry.spacing[0],
            "x": shift[0], "y": shift[1], "z": shift[2],
        })  # fmt: skip
        longer = max(geometry.rows, geometry.columns)
        with QSignalBlocker(self.pixels):
            if self.pixels.findData(longer) < 0:
                self.pixels.addItem(f"{longer} pixels", longer)
            self.pixels.setCurrentIndex(self.pixels.findData(longer))
        self._given, self._given_centre = geometry, ct.centre if ct is not None else None
        self.moved.emit()

    def turn_to(self, primary: float) -> None:
        """Take the angles of a preset; distances, isocentre and detector stay. Emits `moved` once."""
        self._show({"primary": primary, "secondary": 0.0, "roll": 0.0})
        self._edited()

    def _show(self, values: Mapping[str, float]) -> None:
        for name, number in values.items():
            with QSignalBlocker(self.sliders[name]):
                self.sliders[name].setValue(number)


def slider_grid(section: Section) -> QGridLayout:
    """Lay out a section in two columns: what a slider sets, and the slider."""
    grid = QGridLayout()
    grid.setContentsMargins(0, 0, 0, 0)
    grid.setVerticalSpacing(2)
    grid.setColumnStretch(1, 1)
    grid.setColumnMinimumWidth(0, 128)
    section.body.addLayout(grid)
    return grid


def add_slider(grid: QGridLayout, knob: Knob) -> UnitSlider:
    """Add a knob as the grid's next row; returns its slider."""
    slider = UnitSlider(knob)
    label = QLabel(knob.label)
    label.setToolTip(knob.tip)
    row = grid.rowCount()
    grid.addWidget(label, row, 0)
    grid.addWidget(slider, row, 1)
    return slider
