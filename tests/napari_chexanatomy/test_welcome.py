from __future__ import annotations

import pytest

from napari_chexanatomy.layers import core_of, from_ct, from_labels
from napari_chexanatomy.welcome import DONE, WelcomeWidget
from tests.napari_chexanatomy.conftest import WAIT
from training.errors import ChexanatomyError
from training.samples import _WHEEL


@pytest.fixture
def desk(make_napari_viewer, qtbot, model_spec):
    viewer = make_napari_viewer()
    widget = WelcomeWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Welcome")
    return widget


def test_the_four_steps_lead_from_a_ct_to_a_lesson(desk, body, add, qtbot, tmp_path):
    done = lambda: [step.mark.text() == DONE for step in desk.steps]  # noqa: E731
    for step in (desk.project, desk.predict):
        step()
        assert "do step" in desk.message.text()
    desk.teach(tmp_path / "none")
    assert "step 1" in desk.message.text()
    for data in (from_ct(body[0]), from_labels(body[1])):
        add(desk.viewer, data)
    assert done() == [True, False, False, False]
    desk.load_phantom()
    assert "open already" in desk.message.text()
    desk.project()
    qtbot.waitUntil(lambda: done()[1], timeout=WAIT)
    desk.predict()
    qtbot.waitUntil(lambda: done()[2], timeout=WAIT)
    assert core_of(desk._asked.radiograph_chooser.chosen).geometry is not None
    desk.teach(tmp_path / "lesson")
    qtbot.waitUntil(lambda: not desk.busy, timeout=WAIT)
    assert done() == [True] * 4, desk.message.text()
    assert len(list((tmp_path / "lesson/images").iterdir())) == 5
    assert len(list((tmp_path / "lesson/masks").rglob("*.png"))) == 5


def test_a_sample_is_loaded_beside_the_window_and_can_be_cancelled(desk, qtbot):
    desk.load_phantom()
    desk.load_phantom()
    assert "still running" in desk.message.text(), "a second click loads nothing twice"
    desk.cancel_button.click()
    qtbot.waitUntil(lambda: not desk.busy, timeout=WAIT)
    assert desk.message.text() == "Stopped." or len(desk.viewer.layers) == 2
    desk.viewer.layers.clear()
    desk.load_phantom()
    qtbot.waitUntil(lambda: not desk.busy, timeout=WAIT)
    assert "Loaded" in desk.message.text()
    assert core_of(desk.viewer.layers[0]).ct is not None
    assert core_of(desk.viewer.layers[1]).labels is not None


def test_a_sample_that_cannot_be_had_is_said_in_one_sentence(desk, qtbot, tmp_path, monkeypatch):
    monkeypatch.setenv("CHEXANATOMY_CACHE", str(tmp_path))
    (tmp_path / _WHEEL).write_bytes(b"broken off")
    desk.load_real()
    qtbot.waitUntil(lambda: not desk.busy, timeout=WAIT)
    assert "not the file that was expected" in desk.message.text()
    assert all(button.isEnabled() for button in desk._actions)
    with pytest.raises(ChexanatomyError, match="not the file that was expected"):
        desk.viewer.open_sample("napari-chexanatomy", "lidc")
    assert len(desk.viewer.layers) == 0


def test_every_control_says_what_it_is_for(desk):
    from qtpy.QtWidgets import QPushButton

    assert all(button.toolTip() for button in desk.findChildren(QPushButton))
