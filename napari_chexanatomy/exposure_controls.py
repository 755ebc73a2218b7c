"""Controls for the beam, the dose and the look of the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_chexanatomy.pose_controls import add_slider, slider_grid
from napari_chexanatomy.section import Section
from napari_chexanatomy.unit_slider import Knob, UnitSlider
from training.drr import PHYSICS, PRESENTATIONS, Exposure, Physics, Presentation

BEAMS = {
    "stand": ("Chest stand", "125 kV with an anti-scatter grid, as for a standing patient."),
    "bedside": ("Bedside", "90 kV without a grid, as a mobile unit at the bed takes it: more scatter, less contrast."),
    "ideal": ("Ideal", "Attenuation alone at 60 keV: no scatter, no noise, no blur."),
}
LOOKS = {
    "digital": ("Digital", "As a digital system shows it: lung and mediastinum both visible."),
    "film": ("Film", "As a film shows it: steep, no equalisation."),
    "raw": ("Raw attenuation", "The attenuation itself on a straight scale from air to the strongest ray."),
}
VOLTAGE = Knob("Tube voltage", "kV", 40, 150, "Peak voltage of the tube. Low: bone stands out; high: the usual chest radiograph.")
DOSE = Knob(
    "Dose (index)", "", 25, 5000,
    "Exposure index, the dose at the detector behind the patient: 100 is 1 µGy, 250 is usual. A tenth is grainy.", 1, 0, True,
)  # fmt: skip
STAGES = {
    "noise": ("Noise", "Quantum noise: the fewer quanta (dose), the more grain."),
    "scatter": ("Scatter", "Radiation scattered in the patient veils the picture."),
    "grid": ("Grid", "An anti-scatter grid before the detector. Matters with scatter only."),
    "hardening": ("Hardening", "The beam gets harder on its way, so thick parts look thinner than they are."),
    "blur": ("Blur", "The detector spreads every quantum a little."),
}


class ExposureControls(QWidget):
    """Shows a beam and a look. `moved` is emitted with every new value, `released` when the hand lets go."""

    moved = Signal()
    released = Signal()

    def __init__(self) -> None:
        """Stand at the chest stand and the digital look."""
        super().__init__()
        self._physics = PHYSICS["stand"]
        section = Section("Exposure and look", "Tube voltage, dose, what is reckoned with, and how the picture is shown.", False)
        grid = slider_grid(section)
        self.beam, self.look = _choice(BEAMS), _choice(LOOKS)
        for row, (name, combo) in enumerate((("Beam", self.beam), ("Look", self.look)), start=1):
            grid.addWidget(QLabel(name), row, 0)
            grid.addWidget(combo, row, 1)
        self.voltage, self.dose = add_slider(grid, VOLTAGE), add_slider(grid, DOSE)
        self.stages: dict[str, QCheckBox] = {}
        boxes = QGridLayout()
        for index, (name, (text, tip)) in enumerate(STAGES.items()):
            box = QCheckBox(text)
            box.setToolTip(tip)
            box.toggled.connect(self._edited)
            self.stages[name] = box
            boxes.addWidget(box, index // 3, index % 3)
        section.body.addLayout(boxes)
        self.reading = QLabel()
        self.reading.setToolTip("What an automatic exposure control would ask of the tube, and the dose over the whole field.")
        section.body.addWidget(self.reading)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(section)
        self.section = section
        self.beam.activated.connect(lambda _: self.show_physics(PHYSICS[self.beam.currentData()]))
        self.look.currentIndexChanged.connect(lambda _: self.moved.emit())
        for slider in (self.voltage, self.dose):
            slider.valueChanged.connect(self._edited)
            slider.released.connect(self.released)
        self.show_physics(self._physics)

    @property
    def held(self) -> UnitSlider | None:
        """The slider that the hand is on."""
        return next((slider for slider in (self.voltage, self.dose) if slider.held), None)

    @property
    def physics(self) -> Physics:
        """The beam, the dose and the stages as they are set."""
        return self._physics

    @property
    def presentation(self) -> Presentation:
        """The look that is chosen."""
        return PRESENTATIONS[self.look.currentData()]

    def show_physics(self, physics: Physics) -> None:
        """Put the controls where these settings stand and emit `moved` once. A switched-off dose leaves its slider."""
        values = {
            **{name: getattr(physics, name) for name in STAGES if name != "noise"},
            "noise": physics.exposure_index is not None,
        }
        for name, box in self.stages.items():
            with QSignalBlocker(box):
                box.setChecked(bool(values[name]))
        with QSignalBlocker(self.voltage), QSignalBlocker(self.dose):
            self.voltage.setValue(physics.kvp)
            self.dose.setValue(physics.exposure_index or self.dose.value())
        self._physics = physics
        self._grey_out()
        self.moved.emit()

    def show_reading(self, exposure: Exposure) -> None:
        """Say what the shot would have taken."""
        known = exposure.mas is not None and exposure.dap is not None
        text = f"{exposure.mas:.1f} mAs, dose-area product {exposure.dap:.0f} mGy cm²" if known else ""
        if text != self.reading.text():
            self.reading.setText(text)

    def _edited(self, *_: object) -> None:
        on = {name: box.isChecked() for name, box in self.stages.items()}
        noise = on.pop("noise")
        # One energy has no voltage: whoever moves the voltage wants the tube's spectrum again.
        moved = self.voltage.value() != self._physics.kvp
        self._physics = replace(
            self._physics, **on, kvp=self.voltage.value(), energy=None if moved else self._physics.energy,
            exposure_index=self.dose.value() if noise else None,
        )  # fmt: skip
        if moved and self._physics.detector == "ideal":
            self._physics = replace(self._physics, detector="CsI")
        self._grey_out()
        self.moved.emit()

    def _grey_out(self) -> None:
        self.dose.setEnabled(self._physics.exposure_index is not None)
        self.stages["grid"].setEnabled(self._physics.scatter)
        self.stages["hardening"].setEnabled(self._physics.energy is None)
        known = next((name for name, physics in PHYSICS.items() if physics == self._physics), None)
        index = self.beam.findData(known) if known else -1
        self.beam.setPlaceholderText("as set below")
        self.beam.setCurrentIndex(index)


def _choice(entries: Mapping[str, tuple[str, str]]) -> QComboBox:
    from qtpy.QtCore import Qt

    combo = QComboBox()
    for index, (key, (text, tip)) in enumerate(entries.items()):
        combo.addItem(text, key)
        combo.setItemData(index, tip, Qt.ItemDataRole.ToolTipRole)
    combo.setToolTip("\n".join(f"{text}: {tip}" for text, tip in entries.values()))
    return combo
