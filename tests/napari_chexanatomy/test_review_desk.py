"""The review of more than one case at a time: gallery, filters, two reviewers, large data sets, reports, and a killed window."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from qtpy.QtCore import QItemSelectionModel, Qt
from qtpy.QtTest import QTest

from napari_chexanatomy import review_queue
from napari_chexanatomy.review import ReviewWidget
from napari_chexanatomy.review_canvas import to_paint
from napari_chexanatomy.review_panel import KEYS
from tests.napari_chexanatomy.conftest import WAIT
from training.dataset import Case, Dataset, Reviews
from training.images import Radiograph

STRUCTURES = ("lungs", "lung_left", "lung_right", "heart")
CASES = 6
EMPTY = 4
"""The case whose heart is empty, and so the most suspicious."""


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    dataset = Dataset.create(tmp_path / "data")
    for number in range(CASES):
        masks = {s: np.zeros((64, 60), bool) for s in STRUCTURES}
        masks["lung_right"][10:50, 6:24] = masks["lung_left"][10:50, 36:54] = True
        masks["lungs"] = masks["lung_left"] | masks["lung_right"]
        masks["heart"][34:52, 24:44] = number != EMPTY
        name, view = f"case-{number}", "LATERAL" if number % 3 == 2 else "PA"
        here = STRUCTURES[:3] if number == 0 else STRUCTURES
        case = Case(name, "p0", view, None, f"images/{name}.png", here, (), (), "drawn", 0, "0")
        pixels = 0.6 - 0.3 * masks["lungs"] + 0.02 * rng.random((64, 60))
        dataset.add(case, Radiograph(pixels.astype(np.float32)), {s: masks[s] for s in here})
    return dataset.folder


@pytest.fixture
def desk(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Review")
    widget.reviewer.setText("anna")
    widget.wait = lambda: qtbot.waitUntil(lambda: widget.settled, timeout=WAIT)
    canvas = viewer.window._qt_window._qt_viewer.canvas.native

    def press(key, modifier=Qt.KeyboardModifier.NoModifier, target=canvas):
        qtbot.keyClick(target, getattr(Qt.Key, f"Key_{key}"), modifier)
        widget.wait()

    widget.press = press
    return widget


@pytest.fixture
def opened(desk, folder):
    desk.open(folder)
    desk.wait()
    assert desk.opened is not None
    return desk


def shown(desk):
    return [case.id for case in desk.queue.cases]


def select(gallery, *case_ids):
    gallery.clearSelection()
    for case_id in case_ids:
        index = gallery.cases.index(gallery.cases.queue.place(case_id))
        gallery.selectionModel().select(index, QItemSelectionModel.SelectionFlag.Select)


def test_every_case_has_a_thumbnail_and_a_double_click_opens_it(opened, qtbot):
    gallery = opened.panel.gallery
    opened.panel.tabs.setCurrentWidget(opened.panel.overview)
    assert gallery.cases.rowCount() == CASES
    qtbot.waitUntil(lambda: len(gallery.cases._pictures) == CASES, timeout=WAIT)
    assert all(not picture.isNull() for picture in gallery.cases._pictures.values())
    index = gallery.cases.index(3)
    gallery.scrollTo(index)
    place = gallery.visualRect(index).center()
    QTest.mouseClick(gallery.viewport(), Qt.MouseButton.LeftButton, pos=place)
    QTest.mouseDClick(gallery.viewport(), Qt.MouseButton.LeftButton, pos=place)
    opened.wait()
    assert opened.opened.case.id == shown(opened)[3]
    assert opened.panel.tabs.currentWidget() is opened.panel.case


def test_a_decision_in_the_gallery_is_about_all_selected_cases_and_undone_at_once(opened, folder):
    opened.press("G")
    assert opened.panel.tabs.currentWidget() is opened.panel.overview
    select(opened.panel.gallery, "case-1", "case-3")
    opened.press("R", target=opened.panel.gallery)
    assert Reviews(folder, "anna").excluded() == {("case-1", ""), ("case-3", "")}
    assert "2 whole cases: reject" in opened.message.text()
    opened.press("U", target=opened.panel.gallery)
    assert Reviews(folder, "anna").all() == []


def test_filters_choose_the_cases_and_next_walks_through_them(opened):
    panel = opened.panel
    panel.filter.view.setCurrentIndex(panel.filter.view.findData("LATERAL"))
    opened.wait()
    assert set(shown(opened)) == {"case-2", "case-5"}
    seen = set()
    for _ in range(3):
        seen.add(opened.opened.case.id)
        opened.press("N")
    assert seen == {"case-2", "case-5"}
    panel.filter.view.setCurrentIndex(0)
    panel.filter.structure.setCurrentIndex(panel.filter.structure.findData("heart"))
    opened.wait()
    assert "case-0" not in shown(opened), "it has no heart"
    assert panel.filter.count.text() == "5 of 6 cases"
    panel.filter.score.setValue(1)
    opened.wait()
    assert shown(opened) == [f"case-{EMPTY}"]
    panel.filter.score.setValue(50)
    assert shown(opened) == []
    assert "another filter" in opened.message.text()
    opened.act("next")
    panel.filter.score.setValue(0)
    panel.filter.structure.setCurrentIndex(0)
    panel.filter.sorting.setCurrentIndex(panel.filter.sorting.findData("id"))
    opened.wait()
    assert shown(opened) == [f"case-{n}" for n in range(CASES)]


def test_with_a_structure_chosen_decisions_are_about_that_mask_case_after_case(opened, folder):
    filters = opened.panel.filter
    filters.structure.setCurrentIndex(filters.structure.findData("lung_left"))
    opened.wait()
    for _ in range(3):
        assert opened.masks.structure == "lung_left"
        opened.press("A")
    decided = Reviews(folder, "anna").all()
    assert {d.structure for d in decided} == {"lung_left"}
    assert len({d.case_id for d in decided}) == 3
    filters.decided.setCurrentIndex(filters.decided.findData("undecided"))
    opened.wait()
    assert not {d.case_id for d in decided} & set(shown(opened))
    filters.decided.setCurrentIndex(filters.decided.findData("accept"))
    opened.wait()
    assert {d.case_id for d in decided} == set(shown(opened))


def test_keys_work_where_the_keyboard_is_but_not_while_a_comment_is_written(opened, folder):
    opened.masks.setFocus()
    opened.press("Q", target=opened.masks)
    assert opened.masks.structure is None
    opened.press("W", target=opened.masks)
    assert opened.window().focusWidget() is opened.comment
    QTest.keyClicks(opened.comment, "a far rib")
    assert Reviews(folder, "anna").all() == []
    QTest.keyClick(opened.comment, Qt.Key.Key_Return)
    opened.press("F", target=opened.masks)
    assert [(d.verdict, d.comment) for d in Reviews(folder, "anna").all()] == [("flag", "a far rib")]
    opened.press("A", Qt.KeyboardModifier.ShiftModifier)
    assert Reviews(folder, "anna").all()[-1].structure == ""


def test_keys_step_through_masks_and_change_how_they_are_painted(opened):
    first = opened.masks.structure
    opened.press("J")
    second = opened.masks.structure
    assert second != first
    opened.press("K")
    assert opened.masks.structure == first
    case = opened.opened
    assert [cut.structure for cut in to_paint(case, "lung_left", "selected")] == ["lung_left"]
    assert {cut.structure for cut in to_paint(case, None, "all")} == {"lung_left", "lung_right"}, "lungs are their union"
    assert {cut.structure for cut in to_paint(case, "lungs", "all")} == {"lungs", "lung_left", "lung_right"}
    opened.press("J")
    overlay = opened.viewer.layers["masks of the case"]
    outlined = int((overlay.data[..., 3] > 0).sum())
    opened.press("T")
    assert opened.panel.shown.currentData() == "all"
    assert int((overlay.data[..., 3] > 0).sum()) > outlined
    opened.press("L")
    assert opened.panel.style_box.currentData() == "fill"
    opened.press("H")
    assert not overlay.data[..., 3].any()


def test_every_key_is_shown_and_explained(opened):
    texts = [b.text() for b in (*opened.panel.buttons.values(), opened.panel.repair_button, opened.panel.save_button)]
    tips = " ".join([*(b.toolTip() for b in opened.panel.buttons.values()), opened.panel.comment.placeholderText()])
    for key, action in KEYS.items():
        assert any(f"({key.replace('Shift+', '⇧')})" in text for text in texts) or action.name == "comment"
    assert "(W)" in tips
    assert len({a.name for a in KEYS.values()}) == len(KEYS)


def test_a_repair_can_be_saved_by_key_or_put_away(opened, folder):
    opened.masks.select("lung_left")
    opened.press("E")
    assert opened.viewer.layers.selection.active.name.startswith("repair")
    assert opened.panel.save_button.isEnabled()
    opened.discard_repair()
    assert Reviews(folder, "anna").all() == []
    opened.press("E")
    opened.viewer.layers.selection.active.data[50:60, 40:50] = 1
    case_id = opened.opened.case.id
    opened.press("S")
    assert ("lung_left" in Reviews(folder, "anna").corrections(case_id)) is True
    assert opened.opened.masks["lung_left"][55, 45]
    assert "repaired" in opened.masks.currentItem().text()


def test_two_reviewers_are_compared_and_a_disagreement_opens(opened, folder):
    for reviewer, verdict in (("ben", "reject"), ("anna", "accept")):
        Reviews(folder, reviewer).decide("case-2", "heart", verdict)
        Reviews(folder, reviewer).decide("case-3", "heart", "accept")
    view = opened.panel.agreement
    opened.panel.tabs.setCurrentWidget(view)
    assert "1 of 2 alike" in view.summary.text()
    assert "kappa" in view.summary.text()
    assert view.table.rowCount() == 1
    view.table.itemDoubleClicked.emit(view.table.item(0, 0))
    opened.wait()
    assert (opened.opened.case.id, opened.masks.structure) == ("case-2", "heart")
    filters = opened.panel.filter
    filters.decided.setCurrentIndex(filters.decided.findData("disputed"))
    opened.wait()
    assert shown(opened) == ["case-2"]


def test_a_large_data_set_shows_a_case_before_it_is_judged_and_is_in_order_afterwards(desk, folder, monkeypatch, qtbot):
    monkeypatch.setattr(review_queue, "AT_ONCE", 2)
    desk.open(folder)
    qtbot.waitUntil(lambda: desk.opened is not None, timeout=WAIT)
    assert desk.queue.judged is None
    qtbot.waitUntil(lambda: desk.queue.judged is not None and desk.settled, timeout=WAIT)
    assert desk.opened.case.id == f"case-{EMPTY}"
    assert "It is empty." in desk.opened.reasons["heart"]
    desk.open(folder)
    qtbot.waitUntil(lambda: desk.settled, timeout=WAIT)
    assert desk.opened.case.id == f"case-{EMPTY}", "the second time its scores are kept"


def test_a_case_that_cannot_be_read_is_said_and_the_walk_goes_on(opened, folder):
    following = shown(opened)[3]
    (folder / "images" / f"{following}.png").unlink()
    opened.go_to(following)
    opened.wait()
    assert "missing" in opened.message.text()
    opened.press("N")
    assert opened.opened.case.id == shown(opened)[4]


def test_the_report_is_written_from_the_window(opened, tmp_path):
    opened.press("R")
    opened.report(tmp_path / "review.html")
    opened.wait()
    assert "Rejected: 1" in (tmp_path / "review.html").read_text(encoding="utf-8")
    assert (tmp_path / "review.csv").exists()
    assert "review.html and review.csv are written" in opened.message.text()


KILLED = """
import sys, time
from pathlib import Path
import napari
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from napari_chexanatomy.review import ReviewWidget
if __name__ == "__main__":
    viewer = napari.Viewer()
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget)
    widget.reviewer.setText("anna")
    widget.open(Path(sys.argv[1]))
    canvas = viewer.window._qt_window._qt_viewer.canvas.native
    decided = 0
    while True:
        QApplication.processEvents()
        if widget.opened is not None and widget.settled:
            decided += 1
            QTest.keyClick(canvas, Qt.Key.Key_R, Qt.KeyboardModifier.ShiftModifier)
            print(decided, flush=True)
"""


def test_decisions_survive_a_window_that_is_killed(folder, tmp_path):
    program = tmp_path / "desk.py"
    program.write_text(KILLED)
    window = subprocess.Popen([sys.executable, str(program), str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        for line in window.stdout:
            if int(line) == 4:
                break
    finally:
        os.kill(window.pid, signal.SIGKILL)
        window.wait()
        window.stdout.close()
    assert window.returncode == -signal.SIGKILL
    decided = Reviews(folder, "anna").all()
    assert len(decided) >= 4
    assert {d.verdict for d in decided} == {"reject"}
    with sqlite3.connect(folder / "reviews.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(Dataset.open(folder).kept()) == CASES - len(decided)
