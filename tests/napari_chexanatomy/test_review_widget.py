from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_chexanatomy.layers import core_of
from napari_chexanatomy.review import ReviewWidget
from tests.napari_chexanatomy.conftest import WAIT
from training.dataset import Case, Dataset, Reviews
from training.drr import Geometry, project_labels, render

SHOWN = ("lung_left", "lung_right", "heart")


@pytest.fixture
def folder(tmp_path, body):
    ct, labels = body
    dataset = Dataset.create(tmp_path / "data")
    for number, angle in enumerate((0.0, 10.0, -10.0)):
        pose = Geometry.view(ct, angle, rows=96, columns=96, spacing=(4.4 + 0.1 * number, 4.4 + 0.1 * number))
        masks = project_labels(labels, pose, SHOWN)
        if number == 1:
            masks["heart"] = np.zeros_like(masks["heart"])
            masks["heart"][0, 0] = masks["heart"][90, 90] = True
        case = Case(f"case-{number}", "p0", "PA", pose.to_dict(), f"images/case-{number}.png", SHOWN, (), (), "phantom", 0, "0")
        dataset.add(case, render(ct, pose), masks)
    return dataset.folder


@pytest.fixture
def desk(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Review")
    widget.reviewer.setText("anna")
    widget.wait = lambda: qtbot.waitUntil(lambda: widget.settled, timeout=WAIT)

    def press(key):
        qtbot.keyClick(viewer.window._qt_window._qt_viewer.canvas.native, key)
        widget.wait()

    widget.press = press
    return widget


def opened(desk, folder):
    desk.open(folder)
    desk.wait()
    assert desk.opened is not None
    return desk


def test_the_most_suspicious_case_comes_first_with_its_reason(desk, folder):
    opened(desk, folder)
    assert desk.opened.case.id == "case-1"
    assert desk.masks.structure == "heart"
    assert desk.opened.reasons["heart"]
    assert desk.opened.reasons["heart"][0] in desk.message.text()
    assert [core_of(layer).role for layer in desk.viewer.layers] == ["", "overlay"]


def test_keys_decide_and_every_decision_is_on_disk_at_once(desk, folder):
    opened(desk, folder)
    desk.comment.setText("two pixels")
    desk.press(Qt.Key.Key_R)
    decision = Reviews(folder, "anna").decision("case-1", "heart")
    assert (decision.verdict, decision.comment) == ("reject", "two pixels")
    assert desk.done_bar.value() == 1
    desk.masks.clearSelection()
    desk.press(Qt.Key.Key_A)
    assert Reviews(folder, "anna").decision("case-1").verdict == "accept"
    assert desk.opened.case.id != "case-1", "a decision on the whole case leads to the next"
    desk.press(Qt.Key.Key_U)
    assert Reviews(folder, "anna").decision("case-1") is None
    assert desk.opened.case.id == "case-1"
    seen = {desk.opened.case.id}
    for _ in range(2):
        desk.press(Qt.Key.Key_N)
        seen.add(desk.opened.case.id)
    assert len(seen) == 3
    desk.press(Qt.Key.Key_B)
    assert len(desk.viewer.layers) == 2


def test_another_reviewer_starts_with_a_clean_slate(desk, folder):
    opened(desk, folder)
    desk.act("reject")
    desk.reviewer.setText("ben")
    desk.reviewer.editingFinished.emit()
    assert desk.done_bar.value() == 0
    assert Reviews(folder, "anna").decision("case-1", "heart") is not None


def test_a_repaired_mask_is_a_correction_beside_the_original(desk, folder):
    opened(desk, folder)
    desk.repair()
    drawing = desk.viewer.layers.selection.active
    drawing.data[40:50, 40:50] = 1
    desk.press(Qt.Key.Key_F)
    assert Reviews(folder, "anna").all() == [], "while a mask is repaired the keys belong to the brush"
    desk.save_repair()
    assert drawing not in desk.viewer.layers
    dataset = Dataset.open(folder)
    assert dataset.masks(dataset.case("case-1"))["heart"].sum() == 102
    assert '"heart"' in (folder / "masks" / "case-1.json").read_text()
    desk.press(Qt.Key.Key_U)
    assert dataset.masks(dataset.case("case-1"))["heart"].sum() == 2


def test_wrong_folders_and_wrong_orders_are_answered_in_words(desk, folder, tmp_path):
    desk.act("accept")
    assert "Open a data set first" in desk.message.text()
    desk.repair()
    assert "Open a data set first" in desk.message.text()
    desk.open(tmp_path / "nothing")
    desk.wait()
    assert "no data set" in desk.message.text()
    Dataset.create(tmp_path / "empty")
    desk.open(tmp_path / "empty")
    desk.wait()
    assert "holds no case yet" in desk.message.text()
    opened(desk, folder)
    desk.save_repair()
    assert "no repair to save" in desk.message.text()
    desk.act("undo")
    assert "nothing to take back" in desk.message.text()
    desk.viewer.layers.clear()
    desk.repair()
    assert "closed" in desk.message.text()
    desk.act("next")
    desk.wait()
    assert len(desk.viewer.layers) == 2


def test_a_case_is_seen_alone_in_millimetres_and_what_was_there_comes_back(desk, folder):
    viewer = desk.viewer
    above = viewer.add_image(np.ones((400, 400), np.float32), scale=(1.0, 1.0), units=("mm", "mm"))
    hidden = viewer.add_image(np.ones((4, 4), np.float32), visible=False, units=("mm", "mm"))
    opened(desk, folder)
    case = desk._canvas.layer
    assert [layer for layer in viewer.layers if layer.visible] == [case, desk._canvas._overlay.layer]
    assert [str(unit) for unit in case.units] == ["millimeter", "millimeter"]
    assert tuple(case.scale) == pytest.approx(desk.opened.radiograph.spacing)
    case.visible = True
    viewer.scene.camera.zoom *= 3
    viewer.scene.camera.center = (0, *(case.data_to_world((20, 30))))
    before = tuple(case.scale)
    desk.press("N")
    assert tuple(case.scale) != before
    assert case.world_to_data(viewer.scene.camera.center[-2:]) == pytest.approx((20, 30))
    viewer.window.remove_dock_widget("all")
    assert above.visible
    assert not hidden.visible


def test_the_keys_are_napari_s_again_when_the_widget_is_gone(desk, folder, qtbot):
    opened(desk, folder)
    viewer = desk.viewer
    assert viewer.keymap
    viewer.window.remove_dock_widget(desk)
    assert not viewer.keymap
