from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_chexanatomy.layers import core_of, from_ct, from_labels
from napari_chexanatomy.radiograph import RadiographWidget
from tests.napari_chexanatomy.conftest import WAIT
from training.drr import Geometry


@pytest.fixture
def desk(make_napari_viewer, qtbot, body, add):
    viewer = make_napari_viewer()
    widget = RadiographWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Radiograph")
    widget.pose.pixels.setCurrentIndex(0)

    def load():
        for data in (from_ct(body[0]), from_labels(body[1])):
            add(viewer, data)

    def settle():
        qtbot.waitUntil(lambda: widget.settled, timeout=WAIT)

    widget.load, widget.settle = load, settle
    return widget


def test_pa_takes_a_radiograph_with_its_structures(desk):
    desk.load()
    assert "heart" in desk.structures.checked()
    desk.preset_buttons["PA"].click()
    desk.settle()
    assert core_of(desk.layer).radiograph.view == "PA"
    masks = core_of(desk.layer).masks
    assert set(desk.structures.checked()) == set(masks)
    columns = masks["heart"].shape[1]
    assert np.nonzero(masks["lung_right"])[1].mean() < columns / 2 < np.nonzero(masks["lung_left"])[1].mean()
    assert not desk.ct_chooser.chosen.visible
    assert len([layer for layer in desk.viewer.layers if layer.ndim == 2]) == 2

    desk.structures.set_checked(["liver"])
    desk.settle()
    assert set(core_of(desk.layer).masks) == {"liver"}
    assert np.nonzero(core_of(desk.layer).masks["liver"])[1].mean() < columns / 2

    desk.pose.sliders["primary"].setValue(90)
    desk.settle()
    assert core_of(desk.layer).geometry.view_name == "LATERAL"
    assert "LATERAL" in desk.layer.name


def test_an_impossible_pose_is_a_sentence_and_keeps_the_picture(desk, qtbot):
    desk.load()
    desk.take(0.0)
    desk.pose.sliders["y"].setValue(-250)
    desk.settle()
    before = desk.layer.data
    desk.pose.sliders["sid"].setValue(200)
    qtbot.wait(400)
    assert "inside the patient" in desk.message.text()
    assert desk.layer.data is before
    desk.pose.sliders["sid"].setValue(1500)
    desk.settle()
    assert "inside the patient" not in desk.message.text()


def test_clicking_in_the_wrong_order_is_answered_in_words(desk, tmp_path):
    desk.take(0.0)
    assert "No CT yet" in desk.message.text()
    desk.keep()
    assert "press PA" in desk.message.text()
    desk.save(tmp_path)
    assert "press PA" in desk.message.text()
    (tmp_path / "pose.json").write_text("[1]")
    desk.load_pose(tmp_path / "pose.json")
    assert "geometry" in desk.message.text()
    assert len(desk.viewer.layers) == 0


def test_layers_may_be_renamed_and_deleted_while_the_slider_moves(desk):
    desk.load()
    desk.take(0.0)
    desk.settle()
    desk.layer.name = "mine"
    desk.ct_chooser.chosen.name = "renamed CT"
    assert desk.ct_chooser.currentText() == "renamed CT"
    desk.pose.sliders["primary"].setValue(20)
    desk.settle()
    assert desk.layer.name == "mine"
    desk.viewer.layers.remove(desk.layer)
    desk.pose.sliders["primary"].setValue(30)
    desk.settle()
    assert desk.layer is not None
    desk.viewer.layers.clear()
    desk.pose.sliders["primary"].setValue(40)
    assert "No CT yet" in desk.message.text()


def test_a_label_map_of_another_ct_is_refused(desk, body, add, qtbot):
    ct, labels = body
    add(desk.viewer, from_ct(ct))
    add(desk.viewer, from_labels(replace(labels, ids=labels.ids[5:])))
    desk.take(0.0)
    desk.settle()
    assert "another CT" in desk.message.text()
    assert desk.layer is not None
    assert not core_of(desk.layer).masks
    add(desk.viewer, from_labels(labels))
    desk.labels_chooser.choose(desk.viewer.layers[-1])
    desk.settle()
    assert "another CT" not in desk.message.text()


def test_what_is_kept_stays_and_what_is_saved_can_be_taken_again(desk, tmp_path, qtbot):
    desk.load()
    desk.take(0.0)
    desk.settle()
    kept = desk.layer
    desk.keep()
    desk.pose.sliders["primary"].setValue(25)
    desk.settle()
    assert kept in desk.viewer.layers
    assert desk.layer is not kept
    assert core_of(kept).geometry.primary == 0
    desk.save(tmp_path / "out")
    qtbot.waitUntil(lambda: not desk.busy, timeout=WAIT)
    assert (tmp_path / "out" / "radiograph.png").is_file()
    assert {path.stem for path in (tmp_path / "out" / "masks").iterdir()} == set(desk.structures.checked())
    saved = Geometry.load(tmp_path / "out" / "geometry.json")
    assert saved.primary == 25
    desk.take(0.0)
    desk.load_pose(tmp_path / "out" / "geometry.json")
    desk.settle()
    assert core_of(desk.layer).geometry == saved
    assert json.loads((tmp_path / "out" / "geometry.json").read_text())["sdd"] == 1800


def test_a_radiograph_kept_at_once_has_all_its_pixels_and_masks(desk):
    desk.load()
    desk.pose.pixels.setCurrentIndex(1)
    desk.take(0.0)
    desk.settle()
    desk.pose.sliders["primary"].setValue(25)
    desk.keep()
    assert not desk.settled
    desk.settle()
    (kept,) = (layer for layer in desk.viewer.layers if layer.name.endswith("(kept)") and "structures" not in layer.name)
    geometry = core_of(kept).geometry
    assert geometry.primary == 25
    assert kept.data.shape == (geometry.rows, geometry.columns)
    assert set(core_of(kept).masks) == set(desk.structures.checked())
    assert desk.layer is None, "the next picture starts a new layer, and no other comes of itself"


def test_the_window_may_close_while_a_picture_is_taken(make_napari_viewer, body, add, qtbot):
    viewer = make_napari_viewer()
    widget = RadiographWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Radiograph")
    add(viewer, from_ct(body[0]))
    widget.take(0.0)
    viewer.close()
    qtbot.wait(300)


def test_a_widget_taken_out_of_the_window_stops_its_thread(desk, qtbot):
    desk.load()
    desk.take(0.0)
    desk.settle()
    thread = desk._queue._thread
    desk.viewer.window.remove_dock_widget(desk)
    qtbot.waitUntil(lambda: not thread.is_alive())


def test_the_room_stands_around_the_patient_and_goes_with_napari_s_own_button(desk, qtbot):
    desk.load()
    desk.take(0.0)
    desk.settle()
    flat = desk.layer
    camera = desk.viewer.scene.camera.zoom
    desk.room_view.room_button.click()
    names = {layer.name for layer in desk.viewer.layers}
    assert {"X-ray tube and detector", "patient axes"} <= names
    assert desk.viewer.dims.ndisplay == 3
    assert not flat.visible
    qtbot.waitUntil(lambda: "patient" in desk.viewer.layers, timeout=WAIT)
    before = desk.viewer.layers["X-ray tube and detector"].affine.affine_matrix.copy()
    desk.pose.sliders["primary"].setValue(30)
    desk.settle()
    assert not np.allclose(desk.viewer.layers["X-ray tube and detector"].affine.affine_matrix, before)
    desk.viewer.layers.remove("X-ray tube and detector")
    desk.pose.sliders["sdd"].setValue(1500)
    desk.pose.sliders["sid"].setValue(1600)
    assert "sid" in desk.message.text()
    desk.pose.sliders["sid"].setValue(1300)
    desk.settle()
    desk.viewer.dims.ndisplay = 2
    assert desk.room_view.flat_button.isChecked()
    assert not {"X-ray tube and detector", "patient", "patient axes"} & {layer.name for layer in desk.viewer.layers}
    assert flat.visible
    assert desk.viewer.scene.camera.zoom == pytest.approx(camera)
    desk.viewer.dims.ndisplay = 3
    assert desk.room_view.shown
    desk.viewer.window.remove_dock_widget(desk)
    assert desk.viewer.dims.ndisplay == 2


def test_a_pixel_that_is_clicked_lists_its_structures_and_follows_the_pose(desk, qtbot):
    desk.load()
    desk.take(0.0)
    desk.settle()
    row, column = (float(v) for v in np.argwhere(core_of(desk.layer).masks["heart"]).mean(axis=0))
    desk.probe(core_of(desk.layer), row, column)
    qtbot.waitUntil(lambda: bool(desk.ray_list.rows()), timeout=WAIT)
    listed = dict(desk.ray_list.rows())
    assert listed["heart"].endswith("mm")
    assert "water" in desk.ray_list.summary.text()
    desk.take(90.0)
    desk.settle()
    qtbot.waitUntil(lambda: dict(desk.ray_list.rows()) != listed, timeout=WAIT)


def test_a_pose_is_taken_from_a_kept_layer_exactly(desk):
    desk.load()
    desk.pose_from_layer()
    assert "carries no geometry" in desk.message.text()
    desk.take(-45.0)
    desk.settle()
    kept = desk.layer
    assert Geometry.from_dict(kept.metadata["geometry"]) == core_of(kept).geometry
    assert kept.metadata["exposure"]["physics"]["kvp"] == 125
    desk.keep()
    desk.pose.sliders["roll"].setValue(33)
    desk.settle()
    desk.viewer.layers.selection.active = kept
    desk.pose_from_layer()
    desk.settle()
    assert core_of(desk.layer).geometry == core_of(kept).geometry


def test_of_two_cts_each_gets_its_own_labels(desk, body, add):
    desk.load()
    ct, labels = body
    other = replace(ct, hu=ct.hu[4:], origin=(ct.origin[0], ct.origin[1], ct.origin[2] + 4 * ct.spacing[2]), name="other")
    second = add(desk.viewer, from_ct(other))
    desk.take(0.0)
    desk.ct_chooser.choose(second)
    desk.settle()
    assert "another CT" in desk.message.text()
    add(desk.viewer, from_labels(replace(labels, ids=labels.ids[4:], origin=other.origin, name="its labels")))
    desk.labels_chooser.choose(desk.viewer.layers[-1])
    desk.settle()
    assert core_of(desk.layer).masks
    desk.ct_chooser.choose(desk.viewer.layers[0])
    desk.settle()
    assert desk.labels is labels
    assert "another CT" not in desk.message.text()
