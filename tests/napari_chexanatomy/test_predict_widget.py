from __future__ import annotations

import json

import numpy as np
import pytest

from napari_chexanatomy.layers import core_of, from_radiograph
from napari_chexanatomy.predict import PredictWidget
from tests.napari_chexanatomy.conftest import WAIT


@pytest.fixture
def desk(make_napari_viewer, qtbot, model_spec):
    viewer = make_napari_viewer()
    widget = PredictWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Predict")
    if model_spec != "embedded":
        widget.model.use(model_spec)
    widget.wait = lambda: qtbot.waitUntil(lambda: not widget.busy, timeout=WAIT)
    return widget


def test_what_is_asked_appears_in_the_table_and_in_one_overlay(desk, radiograph, add, tmp_path):
    layer = add(desk.viewer, from_radiograph(radiograph))
    desk.structures.set_checked(["lung_left", "lung_right", "heart"])
    desk.run_button.click()
    assert desk.busy
    assert not desk.run_button.isEnabled()
    desk.wait()
    assert [f.structure for f in desk.findings] == desk.structures.checked()
    assert desk.table.rowCount() == 3
    found = [f for f in desk.findings if f.present]
    assert found, "the model sees no lung in a thorax"
    assert desk.table.item(desk.findings.index(found[0]), 3).text() != "–"
    overlays = [other for other in desk.viewer.layers if core_of(other).role == "overlay"]
    assert len(overlays) == 1
    assert overlays[0].data[..., 3].any()
    np.testing.assert_allclose(overlays[0].extent.world, layer.extent.world)
    assert "not for diagnosis" in desk.message.text()

    desk.table.selectRow(desk.findings.index(found[0]))
    assert (overlays[0].data == 255).all(axis=2).any(), "the selected structure is not edged in white"
    desk.show_tokens.setChecked(True)
    assert "<loc" in desk.tokens.toPlainText()

    desk.edit_mask()
    drawing = desk.viewer.layers.selection.active
    np.testing.assert_array_equal(np.asarray(drawing.data) > 0, found[0].mask)
    desk.viewer.layers.remove(drawing)

    desk.save(tmp_path)
    desk.wait()
    record = json.loads((tmp_path / "predictions.json").read_text())[0]
    assert {entry["structure"] for entry in record["findings"]} == {"lung_left", "lung_right", "heart"}

    desk.identify()
    desk.wait()
    assert desk.message.text().startswith("Likeliest: ")
    desk.draw_box()
    top, left = 20 * radiograph.spacing[0], 20 * radiograph.spacing[1]
    box = desk.viewer.layers.selection.active
    box.add_rectangles(np.array([[20, 20], [20, 60], [90, 60], [90, 20]]))
    np.testing.assert_allclose(box.data_to_world((20, 20)), (top, left))
    desk.identify()
    desk.wait()
    assert desk.message.text().count("%") == 3


def test_typed_names_count_before_ticks(desk, radiograph, add):
    desk.prompt.setText("segment heart ; left clavicle, RUL")
    assert desk.asked() == ["heart", "clavicula_left", "lung_upper_lobe_right"]
    add(desk.viewer, from_radiograph(radiograph))
    desk.prompt.setText("flux capacitor")
    desk.run()
    desk.wait()
    assert "flux capacitor" in desk.message.text()
    assert desk.table.rowCount() == 0


def test_clicking_in_the_wrong_order_is_answered_in_words(desk, radiograph, add, tmp_path):
    desk.run()
    assert "no radiograph" in desk.message.text()
    for action in (desk.identify, desk.draw_box):
        action()
        assert "no radiograph" in desk.message.text()
    desk.edit_mask()
    assert "Select a structure" in desk.message.text()
    desk.save(tmp_path)
    assert "nothing to save" in desk.message.text()
    add(desk.viewer, from_radiograph(radiograph))
    desk.structures.set_checked([])
    desk.run()
    assert "Tick at least one" in desk.message.text()
    desk.identify()
    assert "Draw a box" in desk.message.text()


def test_a_folder_that_is_no_model_is_a_sentence(desk, radiograph, add, tmp_path):
    add(desk.viewer, from_radiograph(radiograph))
    desk.model.use(str(tmp_path))
    desk.run()
    desk.wait()
    assert tmp_path.name in desk.message.text()
    assert "Traceback" not in desk.message.text()


def test_a_radiograph_closed_while_the_model_looks_leaves_no_masks(desk, radiograph, add):
    layer = add(desk.viewer, from_radiograph(radiograph))
    desk.run()
    desk.viewer.layers.remove(layer)
    desk.wait()
    assert "closed" in desk.message.text()
    assert len(desk.viewer.layers) == 0


def test_cancel_ends_a_run_and_the_next_one_works(desk, radiograph, add):
    add(desk.viewer, from_radiograph(radiograph))
    desk.structures.set_checked(desk.structures.structures())
    desk.run()
    desk.cancel_button.click()
    desk.wait()
    assert desk.message.text() == "Stopped."
    assert desk.findings == []
    desk.structures.set_checked(["heart"])
    desk.run()
    desk.wait()
    assert len(desk.findings) == 1
    assert desk.run_button.isEnabled()


def test_every_control_says_what_it_is_for(desk):
    from qtpy.QtWidgets import QComboBox, QLineEdit, QPushButton, QSlider

    for kind in (QPushButton, QSlider, QComboBox, QLineEdit):
        for control in desk.findChildren(kind):
            assert control.toolTip() or control.objectName().startswith("qt_"), control


def test_the_widget_fits_a_small_screen(desk):
    assert desk.minimumSizeHint().height() < 600
    assert desk.minimumSizeHint().width() <= 420
