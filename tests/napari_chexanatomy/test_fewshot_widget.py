from __future__ import annotations

import json

import numpy as np
import psutil
import pytest

from napari_chexanatomy import model_chooser
from napari_chexanatomy.fewshot import AUTOSAVE_MS, FewShotWidget
from napari_chexanatomy.layers import from_radiograph
from napari_chexanatomy.predict import PredictWidget
from tests.napari_chexanatomy.conftest import WAIT
from training.drr import Geometry, project_labels, render
from training.images import read_mask_png, write_radiograph_png


@pytest.fixture
def desk(make_napari_viewer, qtbot, monkeypatch):
    monkeypatch.setattr(model_chooser, "_applied", [])
    viewer = make_napari_viewer()
    widget = FewShotWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Few-shot")
    widget.wait = lambda: qtbot.waitUntil(lambda: not widget.busy, timeout=3 * WAIT)
    return widget


@pytest.fixture(scope="session")
def views(body):
    ct, labels = body
    poses = [Geometry.view(ct, angle, rows=128, columns=128) for angle in (0.0, 6.0, -6.0)]
    return [(render(ct, pose), project_labels(labels, pose, ["heart"])["heart"]) for pose in poses]


def fill(desk, views, add, folder):
    desk.new(folder)
    desk.structure.setText("heart")
    desk.structure.editingFinished.emit()
    for radiograph, mask in views:
        desk.layers.choose(add(desk.viewer, from_radiograph(radiograph)))
        desk.add_layer()
        desk._drawing.data[mask] = 1
        desk._drawing.refresh()
        desk.flush()


def test_a_drawing_is_on_disk_a_moment_after_it_was_made(desk, views, add, tmp_path, qtbot):
    desk.new(tmp_path / "p")
    radiograph = views[0][0]
    desk.layers.choose(add(desk.viewer, from_radiograph(radiograph)))
    desk.add_layer()
    file = tmp_path / "p" / "masks" / f"{desk.project.items[0].name}.png"
    assert not file.exists()
    desk._drawing.paint((60, 60), 1)
    qtbot.waitUntil(file.exists, timeout=4 * AUTOSAVE_MS)
    assert read_mask_png(file)[60, 60]
    desk._drawing.undo()
    qtbot.waitUntil(lambda: not file.exists(), timeout=4 * AUTOSAVE_MS)
    desk._drawing.paint((30, 30), 1)
    desk.hide()
    assert read_mask_png(file)[30, 30], "closing the window saves what was drawn last"


def test_drawings_come_back_when_the_project_is_opened_again(desk, views, add, tmp_path):
    fill(desk, views, add, tmp_path / "p")
    ticked = [item.held_out for item in desk.project.items]
    assert sum(ticked) == 1
    desk.open(tmp_path / "p")
    assert desk.structure.text() == "heart"
    assert desk.images.count() == 3
    for row, (_, mask) in enumerate(views):
        desk.images.setCurrentRow(row)
        np.testing.assert_array_equal(np.asarray(desk._drawing.data) > 0, mask)
    assert len([layer for layer in desk.viewer.layers if type(layer).__name__ == "Labels"]) == 1


def test_the_held_out_image_cannot_be_taken_back_alone(desk, views, add, tmp_path, qtbot):
    from qtpy.QtCore import Qt

    fill(desk, views, add, tmp_path / "p")
    row = next(i for i, item in enumerate(desk.project.items) if item.held_out)
    desk.images.item(row).setCheckState(Qt.CheckState.Unchecked)
    assert "hold out another" in desk.message.text()
    qtbot.wait(20)
    assert desk.images.item(row).checkState() == Qt.CheckState.Checked


def test_files_are_added_and_bad_ones_are_named(desk, views, tmp_path):
    write_radiograph_png(views[0][0], tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    desk.new(tmp_path / "p")
    desk.add_files([tmp_path / "bad.png", tmp_path / "good.png"])
    desk.wait()
    assert desk.images.count() == 1
    assert "bad.png" in desk.message.text()


def test_clicking_in_the_wrong_order_is_answered_in_words(desk, views, add, tmp_path):
    for action in (desk.learn, desk.add_layer, desk.remove_image):
        action()
        assert "project" in desk.message.text()
    desk.learning.apply()
    assert "Select one" in desk.message.text()
    desk.new(tmp_path / "p")
    desk.learn()
    assert "Name the structure" in desk.message.text()
    desk.add_layer()
    assert "no radiograph" in desk.message.text()
    desk.remove_image()
    assert "Select an image" in desk.message.text()
    fill_one = add(desk.viewer, from_radiograph(views[0][0]))
    desk.layers.choose(fill_one)
    desk.add_layer()
    desk.viewer.layers.clear()
    desk.flush()
    assert "closed" in desk.message.text()
    desk.images.setCurrentRow(0)
    assert desk._drawing in desk.viewer.layers


def test_learning_ends_with_numbers_and_predict_uses_what_is_better(desk, views, add, tmp_path, qtbot, model_spec):
    fill(desk, views, add, tmp_path / "p")
    if model_spec != "embedded":
        desk.model.use(model_spec)
    desk.learning.seconds.setValue(4)
    reports = []
    desk.learn()
    desk._job.progressed.connect(reports.append)
    assert desk.busy
    assert not desk.learning.learn_button.isEnabled()
    desk.wait()
    (adapter,) = desk.project.adapters()
    card = json.loads((adapter / "chexanatomy.json").read_text())
    held_out = next(item.name for item in desk.project.items if item.held_out)
    assert list(card["after"]["per_image"]) == [held_out]
    assert f"{card['after']['dice']:.3f}" in desk.learning.result.text()
    assert any("loss" in report.values for report in reports)
    used = PredictWidget(desk.viewer)
    assert (used.model.spec == str(adapter)) == card["better"]
    desk.learning.refresh(adapter)
    desk.learning.apply()
    assert used.model.spec == str(adapter)
    used.deleteLater()


def test_cancelling_the_learning_leaves_no_child_and_no_adapter(desk, views, add, tmp_path, qtbot, model_spec):
    fill(desk, views, add, tmp_path / "p")
    if model_spec != "embedded":
        desk.model.use(model_spec)
    me = psutil.Process()
    before = set(me.children(recursive=True))
    desk.learn()
    qtbot.waitUntil(lambda: any("training.cli" in " ".join(c.cmdline()) for c in me.children()), timeout=WAIT)
    desk.cancel_button.click()
    desk.wait()
    assert not [c for c in set(me.children(recursive=True)) - before if c.status() != psutil.STATUS_ZOMBIE]
    assert desk.project.adapters() == []
    assert desk.message.text() == "Stopped."
    assert desk.learning.learn_button.isEnabled()
