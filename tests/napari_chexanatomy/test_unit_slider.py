from __future__ import annotations

import pytest
from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication

from napari_chexanatomy.exposure_controls import ExposureControls
from napari_chexanatomy.pose_controls import PoseControls
from napari_chexanatomy.unit_slider import STEPS, Knob, UnitSlider
from training.drr import PHYSICS, Geometry


@pytest.fixture
def slider(qtbot):
    made = UnitSlider(Knob("Angle", "°", -180, 180, "turns", 0.5, 1))
    qtbot.addWidget(made)
    return made


def test_a_value_stays_exact_where_the_handle_rounds_it(slider):
    slider.setValue(12.3456)
    assert slider.value() == 12.3456
    assert slider.box.text() == "12.3 °"
    slider.setValue(400.0)
    assert slider.value() == 400.0
    assert slider.handle.value() == STEPS


def test_a_drag_goes_in_steps_and_a_number_can_be_typed(slider, qtbot):
    values = []
    slider.valueChanged.connect(values.append)
    slider.handle.setValue(STEPS // 2 + 7)
    assert values == [2.5]
    with qtbot.waitSignal(slider.released):
        slider.box.setValue(-33.3)
    assert values[-1] == pytest.approx(-33.3)


def test_a_logarithmic_knob_has_the_geometric_mean_in_the_middle(qtbot):
    slider = UnitSlider(Knob("Dose", "", 25, 2500, "dose", 1, 0, True))
    qtbot.addWidget(slider)
    slider.handle.setValue(STEPS // 2)
    assert slider.value() == 250


def test_a_wheel_that_scrolls_past_does_not_turn_the_tube(slider):
    slider.show()
    centre = QPointF(slider.handle.rect().center())
    wheel = QWheelEvent(
        centre, centre, QPoint(0, 0), QPoint(0, 120), Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    before = slider.value()
    QApplication.sendEvent(slider.handle, wheel)
    assert slider.value() == before


def test_a_pose_that_is_put_in_comes_out_exactly_until_a_slider_moves(qtbot, body):
    controls = PoseControls()
    qtbot.addWidget(controls)
    ct = body[0]
    odd = Geometry(
        sdd=1011.3, sid=777.77, primary=-123.456, secondary=7.89, roll=0.1, isocentre=(1.1, 2.2, -33.3),
        rows=301, columns=199, spacing=(0.7, 1.3),
    )  # fmt: skip
    controls.show_geometry(odd, ct)
    assert controls.geometry_for(ct) == odd
    controls.sliders["roll"].setValue(5.0)
    moved = controls.geometry_for(ct)
    assert moved.roll == 5.0
    assert moved.isocentre == pytest.approx(odd.isocentre)
    assert moved.rows * moved.spacing[0] == pytest.approx(301 * 0.7)
    assert moved.columns * moved.spacing[1] == pytest.approx(199 * 1.3)


def test_a_tall_detector_keeps_square_pixels(qtbot, body):
    controls = PoseControls()
    qtbot.addWidget(controls)
    controls.sliders["width"].setValue(215.0)
    geometry = controls.geometry_for(body[0])
    assert (geometry.rows, geometry.columns) == (512, 256)
    assert geometry.spacing[0] == pytest.approx(geometry.spacing[1])


def test_every_stage_of_the_exposure_can_be_switched_off(qtbot):
    controls = ExposureControls()
    qtbot.addWidget(controls)
    assert controls.physics == PHYSICS["stand"]
    controls.stages["noise"].setChecked(False)
    assert controls.physics.exposure_index is None
    assert not controls.dose.isEnabled()
    controls.stages["noise"].setChecked(True)
    assert controls.physics == PHYSICS["stand"]
    for name in ("scatter", "hardening", "blur", "grid"):
        controls.stages[name].setChecked(False)
        assert not getattr(controls.physics, name)
    assert controls.beam.currentIndex() == -1
    controls.voltage.setValue(70.0)
    assert controls.physics.kvp == 70.0


def test_the_ideal_beam_gives_way_to_a_voltage_that_is_set(qtbot):
    controls = ExposureControls()
    qtbot.addWidget(controls)
    controls.show_physics(PHYSICS["ideal"])
    assert controls.physics == PHYSICS["ideal"]
    controls.stages["scatter"].setChecked(True)
    assert controls.physics.energy == 60.0
    controls.voltage.setValue(90.0)
    assert (controls.physics.energy, controls.physics.kvp) == (None, 90.0)
