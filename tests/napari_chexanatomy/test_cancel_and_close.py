"""Cancel is answered at once, whatever is going on, and a widget that is closed leaves results and takes away questions."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

import training.model
from napari_chexanatomy import model_chooser
from napari_chexanatomy.fewshot import FewShotWidget
from napari_chexanatomy.layers import core_of, from_ct, from_radiograph
from napari_chexanatomy.picture import PictureTaker
from napari_chexanatomy.radiograph import RadiographWidget
from napari_chexanatomy.structure_colours import display_name
from tests.napari_chexanatomy.conftest import WAIT
from training import batch
from training.images import read_mask_png
from training.model import Finding

AT_ONCE = 2.0
"""Seconds in which Cancel is answered, also on a busy machine; opening a model took longer there."""


@pytest.fixture
def desk(predict_desk):
    return predict_desk


@pytest.fixture
def slow_disk(monkeypatch):
    """Models do not open before this is set; how often one was opened is in its `count`."""
    gate, load = threading.Event(), training.model.load
    gate.count = 0

    def waiting(*arguments, **keywords):
        gate.count += 1
        gate.wait(WAIT / 1000)
        return load(*arguments, **keywords)

    monkeypatch.setattr(training.model, "load", waiting)
    yield gate
    gate.set()


@pytest.mark.parametrize("action", ["run", "identify", "measure", "ask freely", "many"])
def test_cancel_is_answered_while_the_model_is_still_being_opened(desk, radiograph, add, slow_disk, tmp_path, qtbot, action):
    layer = add(desk.viewer, from_radiograph(radiograph))
    if action == "identify":
        desk.draw_box()
        desk.viewer.layers.selection.active.add_rectangles(np.array([[20, 20], [20, 60], [90, 60], [90, 20]]))
    desk.free.setChecked(action == "ask freely")
    desk.prompt.setText("segment heart")
    stack = desk.viewer.add_image(np.stack([radiograph.pixels] * 2), name="stack") if action == "many" else None
    layers = list(desk.viewer.layers)
    start = {
        "run": desk.run,
        "ask freely": desk.run,
        "identify": desk.identify,
        "measure": desk.measure,
        "many": lambda: desk.many.run_stack(stack, tmp_path / "out", ["heart"]),
    }[action]
    start()
    qtbot.waitUntil(lambda: slow_disk.count == 1, timeout=WAIT)
    asked = time.monotonic()
    desk.cancel_button.click()
    desk.wait()
    assert time.monotonic() - asked < AT_ONCE
    assert desk.message.text() == "Stopped."
    assert list(desk.viewer.layers) == layers
    assert desk.run_button.isEnabled()
    if action == "run":  # the next run goes on with the opening that was left
        desk.run()
        slow_disk.set()
        desk.wait()
        assert slow_disk.count == 1
        assert [finding.structure for finding in desk.findings] == ["heart"]
        assert layer in desk.viewer.layers


@pytest.fixture
def slow_model(monkeypatch):
    """The model does not answer before this is set; how often it was asked is in its `count`."""
    gate = threading.Event()
    gate.count = 0

    def slowly(method):
        def waiting(*arguments, **keywords):
            gate.count += 1
            gate.wait(WAIT / 1000)
            return method(*arguments, **keywords)

        return waiting

    for name in ("ask", "identify", "view"):
        monkeypatch.setattr(training.model.Predictor, name, slowly(getattr(training.model.Predictor, name)))
    yield gate
    gate.set()


@pytest.mark.parametrize("action", ["run", "identify", "ask freely"])
def test_cancel_is_answered_while_the_model_answers_at_one_go(desk, radiograph, masks, add, slow_model, qtbot, action):
    radiograph = replace(radiograph, view="")
    layer = add(desk.viewer, from_radiograph(radiograph))
    if action == "identify":
        desk.show_findings(layer, radiograph, [Finding("heart", True, (0.0, 0.0, 9.0, 9.0), masks["heart"], 0.9, ("t",), "t")])
        desk.table.selectRow(0)
    desk.free.setChecked(action == "ask freely")
    desk.prompt.setText("segment heart")
    before = list(desk.findings)
    (desk.identify if action == "identify" else desk.run)()
    qtbot.waitUntil(lambda: slow_model.count == 1, timeout=WAIT)
    asked = time.monotonic()
    desk.cancel_button.click()
    desk.wait()
    assert time.monotonic() - asked < AT_ONCE
    slow_model.set()
    qtbot.wait(200)
    assert desk.message.text() == "Stopped."
    assert (desk.findings, desk.found.free_text, desk.back.answers.rowCount()) == (before, "", 0)


def test_cancel_after_the_last_image_hides_nothing_of_what_was_written(desk, radiograph, tmp_path, monkeypatch):
    answer_all = batch.answer_all

    def then_cancel(*arguments):
        yield from answer_all(*arguments)
        desk._job.cancel()

    monkeypatch.setattr(batch, "answer_all", then_cancel)
    stack = desk.viewer.add_image(np.stack([radiograph.pixels] * 2), name="stack")
    desk.many.run_stack(stack, tmp_path / "out", ["heart"])
    desk.wait()
    assert desk.message.text().startswith("2 images done")


def test_a_radiograph_is_not_saved_after_cancel(make_napari_viewer, body, add, tmp_path, qtbot, monkeypatch):
    viewer = make_napari_viewer()
    desk = RadiographWidget(viewer)
    viewer.window.add_dock_widget(desk, name="Radiograph")
    desk.pose.pixels.setCurrentIndex(0)
    add(viewer, from_ct(body[0]))
    desk.take(0.0)
    qtbot.waitUntil(lambda: desk.settled, timeout=WAIT)
    begun, gate, take = threading.Event(), threading.Event(), PictureTaker.take
    monkeypatch.setattr(PictureTaker, "take", lambda *given: (begun.set(), gate.wait(WAIT / 1000), take(*given))[-1])
    desk.save(tmp_path / "out")
    qtbot.waitUntil(begun.is_set, timeout=WAIT)
    desk.cancel_button.click()
    qtbot.waitUntil(lambda: not desk.busy, timeout=WAIT)
    assert desk.message.text() == "Stopped."
    gate.set()
    qtbot.wait(200)
    assert not (tmp_path / "out").exists()
    desk.save(tmp_path / "out")
    qtbot.waitUntil(lambda: not desk.busy, timeout=WAIT)
    assert (tmp_path / "out" / "radiograph.png").is_file()
    assert desk.message.text() == f"Saved in {tmp_path / 'out'}."


def test_closing_predict_leaves_results_and_takes_the_question_away(desk, radiograph, masks, add):
    viewer = desk.viewer
    layer = add(viewer, from_radiograph(radiograph))
    found = [Finding(name, True, (0.0, 0.0, 9.0, 9.0), mask, 0.9, ("t",), "t") for name, mask in masks.items()]
    desk.show_findings(layer, radiograph, found)
    desk.measuring.show_measured(desk.found.shown, "PA or AP", by_model=True)
    shown = [desk.measuring.table.item(row, 1).text() for row in range(desk.measuring.table.rowCount())]
    assert any("PA or AP" in text and "says the model" in text for text in shown)
    assert "may be an AP view" in desk.measuring.note.text()
    desk.table.selectRow(0)
    desk.edit_mask()
    desk.draw_box()
    viewer.window.remove_dock_widget(desk)
    assert [other.name for other in viewer.layers if core_of(other).role == "box"] == []
    names = [other.name for other in viewer.layers]
    assert set(names) == {layer.name, "predicted structures", "cardiothoracic ratio", display_name(found[0].structure)}
    lines = viewer.layers["cardiothoracic ratio"]
    lines.data = [np.array(line) + 1 for line in lines.data]  # nobody listens any more, and nobody minds
    layer.data = radiograph.pixels[::-1].copy()
    viewer.layers.remove(layer)
    assert any(other.name == "predicted structures" for other in viewer.layers)


def test_closing_few_shot_saves_the_drawing_and_puts_it_away(make_napari_viewer, radiograph, add, tmp_path, monkeypatch):
    monkeypatch.setattr(model_chooser, "_applied", [])
    viewer = make_napari_viewer()
    desk = FewShotWidget(viewer)
    viewer.window.add_dock_widget(desk, name="Few-shot")
    desk.new(tmp_path / "p")
    desk.choose_structure("heart")
    layer = add(viewer, from_radiograph(radiograph))
    desk.layers.choose(layer)
    desk.add_layer()
    desk.drawing.brush.paint((60, 60), 1)
    name = desk.project.items[0].name
    viewer.window.remove_dock_widget(desk)
    assert read_mask_png(tmp_path / "p" / "masks" / "heart" / f"{name}.png")[60, 60]
    assert list(viewer.layers) == [layer], "a drawing that is not saved any more stays"
    viewer.window.add_dock_widget(desk, name="Few-shot")
    desk.images.setCurrentRow(0)
    assert desk.drawing.mask[60, 60]


def test_cancel_is_answered_while_the_next_image_is_looked_for(make_napari_viewer, radiograph, add, tmp_path, qtbot, model_spec):
    viewer = make_napari_viewer()
    desk = FewShotWidget(viewer)
    viewer.window.add_dock_widget(desk, name="Few-shot")
    desk.new(tmp_path / "p")
    desk.choose_structure("heart")
    desk.layers.choose(add(viewer, from_radiograph(radiograph)))
    desk.add_layer()
    desk.model.use(model_spec)
    me = psutil.Process()
    desk.suggest()
    qtbot.waitUntil(lambda: any("training.cli" in " ".join(child.cmdline()) for child in me.children()), timeout=WAIT)
    asked = time.monotonic()
    desk.cancel_button.click()
    qtbot.waitUntil(lambda: not desk.busy, timeout=WAIT)
    assert time.monotonic() - asked < AT_ONCE
    assert desk.message.text() == "Stopped."
    assert not [child for child in me.children() if "training.cli" in " ".join(child.cmdline())]
    assert desk.draw_page.suggest.isEnabled()
