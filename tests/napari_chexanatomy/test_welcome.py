from __future__ import annotations

import pytest

from napari_chexanatomy.layers import core_of, from_ct, from_labels
from napari_chexanatomy.welcome import DONE, WelcomeWidget
from tests.napari_chexanatomy.conftest import WAIT


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


def test_every_control_says_what_it_is_for(desk):
    from qtpy.QtWidgets import QPushButton

    assert all(button.toolTip() for button in desk.findChildren(QPushButton))
