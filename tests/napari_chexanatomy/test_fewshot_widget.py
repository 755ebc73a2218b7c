from __future__ import annotations

import json
from zipfile import ZipFile

import numpy as np
import psutil
import pytest

from napari_chexanatomy import model_chooser
from napari_chexanatomy.fewshot import ADAPTERS, LEARN, FewShotWidget
from napari_chexanatomy.layers import from_radiograph
from napari_chexanatomy.predict import PredictWidget
from napari_chexanatomy.project_desk import AUTOSAVE_MS
from tests.napari_chexanatomy.conftest import WAIT
from training.drr import Geometry, project_labels, render
from training.images import read_mask_png, write_radiograph_png


@pytest.fixture
def desk(make_napari_viewer, qtbot, monkeypatch):
    monkeypatch.setattr(model_chooser, "_applied", [])
    viewer = make_napari_viewer()
    widget = FewShotWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Few-shot")
    widget.wait = lambda: qtbot.waitUntil(lambda: not widget.busy, timeout=5 * WAIT)
    return widget


@pytest.fixture(scope="session")
def views(body):
    ct, labels = body
    poses = [Geometry.view(ct, angle, rows=128, columns=128) for angle in (0.0, 6.0, -6.0)]
    return [(render(ct, pose), project_labels(labels, pose, ["heart"])["heart"]) for pose in poses]


def fill(desk, views, add, folder):
    desk.new(folder)
    desk.structure.setEditText("heart")
    desk.structure.lineEdit().editingFinished.emit()
    for radiograph, mask in views:
        desk.layers.choose(add(desk.viewer, from_radiograph(radiograph)))
        desk.add_layer()
        desk.drawing.brush.data[mask] = 1
        desk.drawing.brush.refresh()
        desk.flush()


def open_one(desk, views, add, folder, structure="heart"):
    desk.new(folder)
    desk.choose_structure(structure)
    desk.layers.choose(add(desk.viewer, from_radiograph(views[0][0])))
    desk.add_layer()
    return folder / "masks" / structure / f"{desk.project.items[0].name}.png"


def test_a_drawing_is_on_disk_a_moment_after_it_was_made(desk, views, add, tmp_path, qtbot):
    file = open_one(desk, views, add, tmp_path / "p")
    assert not file.exists()
    desk.drawing.brush.paint((60, 60), 1)
    qtbot.waitUntil(file.exists, timeout=4 * AUTOSAVE_MS)
    assert read_mask_png(file)[60, 60]
    desk.drawing.brush.undo()
    qtbot.waitUntil(lambda: not file.exists(), timeout=4 * AUTOSAVE_MS)
    desk.drawing.brush.paint((30, 30), 1)
    desk.hide()
    assert read_mask_png(file)[30, 30], "closing the window saves what was drawn last"


def test_drawings_come_back_when_the_project_is_opened_again(desk, views, add, tmp_path):
    fill(desk, views, add, tmp_path / "p")
    ticked = [item.held_out for item in desk.project.items]
    assert sum(ticked) == 1
    desk.open(tmp_path / "p")
    assert desk.structure.currentText() == "heart"
    assert desk.images.count() == 3
    for row, (_, mask) in enumerate(views):
        desk.images.setCurrentRow(row)
        np.testing.assert_array_equal(desk.drawing.mask, mask)
    assert len([layer for layer in desk.viewer.layers if type(layer).__name__ == "Labels"]) == 1


def test_undo_goes_back_to_before_the_program_was_started(desk, views, add, tmp_path):
    open_one(desk, views, add, tmp_path / "p")
    for row in (20, 40, 60):
        desk.drawing.brush.paint((row, 60), 1)
        desk.flush()
    desk.open(tmp_path / "p")
    assert desk.drawing.mask[60, 60]
    for row in (60, 40):
        desk.undo()
        assert not desk.drawing.mask[row, 60]
        assert desk.drawing.mask[20, 60]
    desk.undo()
    assert not desk.drawing.mask.any()
    desk.undo()
    assert "nothing to take back" in desk.message.text()


def test_a_project_is_drawn_on_in_one_window_only(desk, views, add, tmp_path, make_napari_viewer):
    open_one(desk, views, add, tmp_path / "p")
    desk.drawing.brush.paint((60, 60), 1)
    other = FewShotWidget(make_napari_viewer())
    other.open(tmp_path / "p")
    assert "another window" in other.message.text()
    desk.shut_down()
    other.open(tmp_path / "p")
    assert other.drawing.mask[60, 60], "what was drawn there was saved when it was closed"
    other.shut_down()


@pytest.fixture
def no_disk(tmp_path):
    """Take the masks of project p away as a network folder goes, and bring them back."""
    masks, away = tmp_path / "p" / "masks", tmp_path / "away"

    def switch():
        if away.exists():
            masks.unlink()
            away.rename(masks)
        else:
            masks.rename(away)
            masks.write_text("")

    return switch


def test_a_drawing_stays_in_hand_until_it_is_on_disk(desk, views, add, tmp_path, qtbot, no_disk):
    fill(desk, views[:2], add, tmp_path / "p")
    desk.images.setCurrentRow(0)
    first = desk._current
    no_disk()
    desk.drawing.brush.paint((5, 5), 1)
    desk.images.setCurrentRow(1)
    qtbot.wait(20)
    assert desk.message.styleSheet(), "the failure is said"
    assert desk.images.currentRow() == 0
    desk.structure.setEditText("aorta")
    desk.structure.lineEdit().editingFinished.emit()
    qtbot.wait(20)
    assert desk.structure.currentText() == desk.project.structure == "heart"
    desk.new(tmp_path / "q")
    assert desk.project.folder == tmp_path / "p"
    desk.learn()
    assert not desk.busy
    assert desk._current.name == first.name
    assert desk.drawing.mask[5, 5]
    no_disk()
    desk.images.setCurrentRow(1)
    assert desk._current.name != first.name
    assert read_mask_png(tmp_path / "p" / "masks" / "heart" / f"{first.name}.png")[5, 5]


def test_a_drawing_that_cannot_be_saved_outlives_the_widget(desk, views, add, tmp_path, no_disk):
    open_one(desk, views, add, tmp_path / "p")
    no_disk()
    desk.drawing.brush.paint((5, 5), 1)
    brush = desk.drawing.brush
    desk.viewer.window.remove_dock_widget(desk)
    assert brush in desk.viewer.layers
    assert brush.data[5, 5]


def test_structures_of_one_image_may_overlap(desk, views, add, tmp_path):
    heart = open_one(desk, views, add, tmp_path / "p")
    desk.drawing.brush.data[20:60, 20:60] = 1
    desk.choose_structure("my own device")
    assert not desk.drawing.mask.any()
    assert any(layer.name == "other structures" for layer in desk.viewer.layers)
    desk.drawing.brush.data[40:80, 40:80] = 1
    desk.flush()
    own = tmp_path / "p" / "masks" / "my-own-device" / heart.name
    assert (read_mask_png(heart) & read_mask_png(own)).sum() == 400
    desk.rename_structure("pacemaker")
    assert desk.project.structures == ["heart", "pacemaker"]
    desk.choose_structure("heart")
    assert desk.drawing.mask.sum() == 1600


def test_outlines_and_other_peoples_layers_count_as_drawings(desk, views, add, tmp_path):
    file = open_one(desk, views, add, tmp_path / "p")
    desk.draw_outline()
    desk.drawing.outline.add_polygons(np.array([[10, 10], [10, 30], [30, 30], [30, 10]]))
    desk.flush()
    assert read_mask_png(file)[20, 20]
    desk.drawing.outline.data = []
    desk.flush()
    assert not file.exists(), "an outline that was taken away is no drawing any more"
    shapes = desk.viewer.add_shapes(
        [np.array([[50, 50], [50, 90], [90, 90], [90, 50]])], name="mine", scale=desk.drawing.image.scale
    )
    desk.draw_page.drawings.choose(shapes)
    desk.take_over()
    assert read_mask_png(file)[70, 70]
    assert shapes in desk.viewer.layers


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
    actions = (desk.learn, desk.add_layer, desk.remove_image, desk.suggest, desk.undo, desk.take_over, desk.draw_outline)
    for action in actions:
        action()
        assert "project" in desk.message.text()
    for button in ("Apply", "Rename …", "Export …", "Delete"):
        desk.adapters.buttons[button].click()
        assert "Select one" in desk.message.text()
    desk.adapters.buttons["Compare"].click()
    assert "two or more" in desk.message.text()
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
    desk.take_over()
    assert "no other Labels or Shapes" in desk.message.text()
    desk.viewer.layers.clear()
    desk.flush()
    assert "closed" in desk.message.text()
    desk.images.setCurrentRow(0)
    assert desk.drawing.brush in desk.viewer.layers


def test_an_adapter_without_a_name_is_refused_in_words(desk, tmp_path, monkeypatch):
    adapter = tmp_path / "adapters" / "heart-1"
    adapter.mkdir(parents=True)
    (adapter / "chexanatomy.json").write_text('{"structure": "heart"}')
    desk.adapters.show_folder(adapter.parent, adapter)
    monkeypatch.setattr("napari_chexanatomy.adapter_list.QInputDialog.getText", lambda *a, **k: ("", True))
    desk.adapters.table.cellDoubleClicked.emit(0, 0)
    assert "name" in desk.message.text()
    assert desk.adapters.kept[0].name


def test_a_layer_may_be_renamed_or_replaced_while_it_is_drawn_on(desk, views, add, tmp_path):
    file = open_one(desk, views, add, tmp_path / "p")
    desk.drawing.brush.name = "something else"
    desk.drawing.image.name = "picture"
    desk.drawing.brush.paint((60, 60), 1)
    desk.flush()
    assert read_mask_png(file)[60, 60]
    desk.drawing.brush.data = np.ones((5, 5), np.uint8)
    desk.flush()
    assert "draw in a layer that belongs" in desk.message.text()
    assert read_mask_png(file)[60, 60], "what was drawn before is still there"


def test_the_next_image_is_the_one_the_model_is_least_sure_of(desk, views, add, tmp_path, model_spec):
    fill(desk, views[:1], add, tmp_path / "p")
    for radiograph, _ in views[1:]:
        desk.layers.choose(add(desk.viewer, from_radiograph(radiograph)))
        desk.add_layer()
    desk.images.setCurrentRow(0)
    desk.model.use(model_spec)
    desk.suggest()
    assert not desk.draw_page.suggest.isEnabled()
    desk.wait()
    order = json.loads((tmp_path / "p" / "suggested.json").read_text())
    assert {entry["name"] for entry in order} == {item.name for item in desk.project.items[1:]}
    assert order[0]["doubt"] >= order[1]["doubt"]
    assert desk._current.name == order[0]["name"]
    assert "least sure" in desk.message.text()


def test_learning_ends_with_numbers_and_predict_uses_what_is_better(desk, views, add, tmp_path, model_spec, monkeypatch):
    fill(desk, views, add, tmp_path / "p")
    desk.model.use(model_spec)
    desk.learning.seconds.setValue(4)
    desk.learning.name.setText("first try")
    reports = []
    desk.learn()
    desk._job.progressed.connect(reports.append)
    assert desk.busy
    assert desk.pages.currentIndex() == LEARN
    assert not desk.learning.learn_button.isEnabled()
    desk.wait()
    (kept,) = desk.adapters.kept
    held_out = next(item.name for item in desk.project.items if item.held_out)
    assert kept.name == "first try"
    assert list(kept.per_image) == [held_out]
    assert f"{kept.after:.3f}" in desk.learning.result.text()
    assert "unchanged" in desk.learning.result.text()
    assert any("loss" in report.values and "seconds_left" in report.values for report in reports)
    (shown,) = desk.learning.comparison.images
    np.testing.assert_array_equal(shown.drawn, views[-1][1])
    window = desk.learning.comparison.enlarge()
    assert window.isVisible()
    window.close()
    used = PredictWidget(desk.viewer)
    assert (used.model.spec == str(kept.folder)) == kept.better
    adapters = desk.adapters
    desk.pages.setCurrentIndex(ADAPTERS)
    adapters.table.selectRow(0)
    assert "first try" in adapters.card.toPlainText()
    adapters.apply()
    assert used.model.spec == str(kept.folder)
    monkeypatch.setattr("napari_chexanatomy.adapter_list.QInputDialog.getText", lambda *a, **k: ("second name", True))
    adapters.buttons["Rename …"].click()
    assert adapters.table.item(0, 0).text() == "second name"
    target = tmp_path / "out.zip"
    monkeypatch.setattr("napari_chexanatomy.adapter_list.QFileDialog.getSaveFileName", lambda *a: (str(target), ""))
    adapters.buttons["Export …"].click()
    names = {name.split("/")[-1] for name in ZipFile(target).namelist()}
    assert {"adapter_model.safetensors", "adapter_config.json", "chexanatomy.json", "README.md"} <= names
    assert "held_out.json" not in names, "patients' pictures do not travel with an adapter"
    adapters.buttons["Delete"].click()
    assert adapters.kept == []
    assert used.model.spec == "embedded"
    assert [path.parent.name for path in (tmp_path / "p" / "deleted").rglob("adapter_config.json")], "a slip loses nothing"
    used.deleteLater()


def test_stopping_keeps_the_best_so_far(desk, views, add, tmp_path, qtbot, model_spec):
    fill(desk, views, add, tmp_path / "p")
    desk.model.use(model_spec)
    desk.learning.seconds.setValue(3600)
    desk.learn()
    qtbot.waitUntil(lambda: len(desk.learning._points["loss"][0]) > 2, timeout=5 * WAIT)
    desk.learning.stop_button.click()
    desk.wait()
    (kept,) = desk.adapters.kept
    assert kept.card["stopped_early"]
    assert kept.card["steps"] < kept.card["settings"]["steps"]


def test_cancelling_at_any_time_leaves_no_child_and_no_adapter(desk, views, add, tmp_path, qtbot, model_spec):
    fill(desk, views, add, tmp_path / "p")
    desk.model.use(model_spec)
    me = psutil.Process()
    before = set(me.children(recursive=True))

    def running():
        return any("training.cli" in " ".join(c.cmdline()) for c in me.children())

    def learning():
        return len(desk.learning._points["loss"][0]) > 0

    for moment in (running, learning):
        desk.learn()
        qtbot.waitUntil(moment, timeout=5 * WAIT)
        desk.cancel_button.click()
        desk.wait()
        assert not [c for c in set(me.children(recursive=True)) - before if c.status() != psutil.STATUS_ZOMBIE]
        assert desk.adapters.kept == []
        assert desk.message.text() == "Stopped."
        assert desk.learning.learn_button.isEnabled()
    assert list((tmp_path / "p" / "adapters").iterdir()) == []
