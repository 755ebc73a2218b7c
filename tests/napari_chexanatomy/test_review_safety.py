"""What a reviewer decides and draws goes to the case and the name it was meant for, however quickly keys follow each other."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_chexanatomy.review import ReviewWidget
from napari_chexanatomy.review_queue import Filter
from tests.napari_chexanatomy.conftest import WAIT
from training.dataset import Case, Dataset, Reviews
from training.images import Radiograph

SAVE_FIRST = "save it (S) or discard it first"


@pytest.fixture
def folder(tmp_path):
    dataset = Dataset.create(tmp_path / "data")
    for number in range(4):
        masks = {name: np.zeros((64, 60), bool) for name in ("heart", "aorta")}
        masks["heart"][20 + number : 40, 20:40] = masks["aorta"][5:10, 5:10] = True
        view = "LATERAL" if number % 2 else "PA"
        case = Case(f"case-{number}", "p0", view, None, f"images/{number}.png", tuple(masks), (), (), "drawn", 0, "0")
        dataset.add(case, Radiograph(0.5 * np.ones((64, 60), np.float32)), masks)
    return dataset.folder


@pytest.fixture
def desk(make_napari_viewer, qtbot, folder):
    viewer = make_napari_viewer(show=True)
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Review")
    widget.reviewer.setText("anna")
    widget.wait = lambda: qtbot.waitUntil(lambda: widget.settled, timeout=WAIT)
    widget.open(folder)
    widget.wait()
    widget.first, widget.second = (case.id for case in widget.queue.cases[:2])
    widget.masks.select("heart")
    return widget


def drawn_on(desk):
    desk.masks.select("heart")
    desk.repair()
    layer = desk.viewer.layers.selection.active
    layer.data[50:60, 50:60] = 1
    return layer


def decided(folder):
    return [(d.case_id, d.structure, d.verdict, d.reviewer) for d in Reviews(folder, "").all()]


@pytest.mark.parametrize("then", ["accept case", "reject case", "accept", "repair"])
def test_a_key_pressed_while_the_next_case_loads_touches_neither_case(desk, folder, then):
    desk.act("accept case")
    desk.comment.setText("about the next")
    desk.act(then)
    assert "not in view yet" in desk.message.text()
    desk.wait()
    assert decided(folder) == [(desk.first, "", "accept", "anna")]
    assert desk.opened.case.id == desk.second
    assert desk.comment.text() == "about the next"
    assert len(desk.viewer.layers) == 2, "a brush is out"
    desk.act("next")
    desk.act("previous")
    desk.wait()
    assert desk.opened.case.id == desk.second, "walking need not wait for the pictures"


def leave_by_filter(desk):
    other = "PA" if desk.opened.case.view == "LATERAL" else "LATERAL"
    desk.panel.filter.view.setCurrentIndex(desk.panel.filter.view.findData(other))


@pytest.mark.parametrize(
    "leave",
    [
        lambda desk: desk.panel.buttons["next"].click(),
        lambda desk: desk.panel.buttons["accept"].click(),
        lambda desk: desk.panel.buttons["reject case"].click(),
        lambda desk: desk.panel.buttons["undo"].click(),
        lambda desk: desk.repair(),
        lambda desk: desk.open(desk.queue.dataset.folder),
        lambda desk: desk.panel.gallery.opened.emit(desk.second),
        leave_by_filter,
    ],
)
def test_a_drawn_repair_stays_until_it_is_saved_or_discarded(desk, folder, leave):
    Reviews(folder, "ben").decide(desk.second, "", "reject")
    layer = drawn_on(desk)
    leave(desk)
    desk.wait()
    assert layer in desk.viewer.layers
    assert decided(folder) == [(desk.second, "", "reject", "ben")]
    if leave is not leave_by_filter:
        assert SAVE_FIRST in desk.message.text()
    desk.save_repair()
    assert list(Reviews(folder, "anna").corrections(desk.first)) == ["heart"]
    assert layer not in desk.viewer.layers


def test_a_data_set_that_opens_while_a_repair_is_drawn_waits_for_it(desk, folder):
    desk.open(folder)
    layer, queue = drawn_on(desk), desk.queue
    desk.wait()
    assert SAVE_FIRST in desk.message.text()
    assert layer in desk.viewer.layers
    assert desk.queue is queue


def test_a_brush_that_was_not_used_or_was_thrown_away_holds_nobody_up(desk):
    desk.repair()
    desk.panel.buttons["next"].click()
    desk.wait()
    assert desk.opened.case.id == desk.second
    desk.viewer.layers.remove(drawn_on(desk))
    desk.panel.buttons["next"].click()
    desk.wait()
    assert desk.opened.case.id not in (desk.first, desk.second)
    drawn_on(desk)
    desk.panel.discard_button.click()
    desk.panel.buttons["next"].click()
    desk.wait()
    assert len(desk.viewer.layers) == 2


def type_name(desk, name):
    desk.reviewer.setFocus()
    desk.reviewer.selectAll()
    QTest.keyClicks(desk.reviewer, name)


def test_a_button_decides_in_the_name_that_stands_in_the_field(desk, folder, qtbot):
    type_name(desk, "ben")
    qtbot.mouseClick(desk.panel.buttons["flag"], Qt.MouseButton.LeftButton)
    assert decided(folder) == [(desk.first, "heart", "flag", "ben")]
    type_name(desk, "anna")
    qtbot.mouseClick(desk.panel.buttons["undo"], Qt.MouseButton.LeftButton)
    assert "nothing to take back" in desk.message.text()
    drawn_on(desk)
    type_name(desk, "eve")
    desk.save_repair()
    assert decided(folder) == [(desk.first, "heart", "flag", "ben"), (desk.first, "heart", "accept", "eve")]


def test_another_data_set_is_shown_whole_and_the_filters_say_so(desk, folder):
    filters = desk.panel.filter
    filters.structure.setCurrentIndex(filters.structure.findData("aorta"))
    filters.decided.setCurrentIndex(filters.decided.findData("undecided"))
    filters.sorting.setCurrentIndex(filters.sorting.findData("id"))
    filters.score.setValue(0.5)
    desk.open(folder)
    desk.wait()
    assert filters.chosen == desk.queue.filter == Filter()
    assert filters.count.text() == "4 of 4 cases"
    filters.sorting.setCurrentIndex(filters.sorting.findData("view"))
    assert desk.queue.filter == Filter(sorting="view")
