"""Undo takes back one change a time, whatever made it and whenever it was saved."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils.key_bindings import KeymapHandler

from napari_chexanatomy.fewshot import FewShotWidget
from napari_chexanatomy.layers import from_radiograph
from training.images import read_mask_png
from training.images.types import Radiograph

SQUARE = np.array([[10, 10], [10, 30], [30, 30], [30, 10]])


@pytest.fixture
def desk(make_napari_viewer, add, tmp_path):
    """A project of one image that the heart is to be drawn on; saved only when a test says so."""
    widget = FewShotWidget(make_napari_viewer())
    widget._autosave.stop()
    widget.new(tmp_path / "p")
    widget.choose_structure("heart")
    pixels = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    widget.layers.choose(add(widget.viewer, from_radiograph(Radiograph(pixels, (0.5, 0.5), "PA", "chest"))))
    widget.add_layer()
    yield widget
    widget.shut_down()


def stroke(desk, row):
    desk.drawing.brush.paint((row, 50), 1)


def rows(desk):
    """Which strokes are there; the same on disk."""
    mask, file = desk.drawing.mask, next((desk.project.folder / "masks").rglob("*.png"), None)
    assert np.array_equal(mask, read_mask_png(file)) if file else not mask.any()
    return [row for row in (10, 30, 50) if mask[row, 50]]


def ctrl_z(desk):
    handler = KeymapHandler()
    handler.keymap_providers = [desk.viewer.layers.selection.active, desk.viewer]
    handler.press_key("Control-Z")


def test_strokes_go_one_by_one_however_they_were_saved(desk):
    stroke(desk, 10)
    desk.flush()
    stroke(desk, 30)
    stroke(desk, 50)  # not saved yet
    for undo, left in ((desk.undo, [10, 30]), (lambda: ctrl_z(desk), [10]), (desk.undo, [])):
        undo()
        desk.flush()
        assert rows(desk) == left
    for undo in (desk.undo, lambda: ctrl_z(desk)):
        undo()
        assert "nothing to take back" in desk.message.text()
        assert rows(desk) == []


def test_what_was_done_again_is_undone_again(desk):
    for row in (10, 30):
        stroke(desk, row)
        desk.flush()
    desk.undo()
    desk.undo()
    for _ in range(2):
        desk.drawing.brush.redo()
        desk.flush()
    assert rows(desk) == [10, 30]
    for left in ([10], [], []):
        desk.undo()
        assert rows(desk) == left
    assert "nothing to take back" in desk.message.text()


def test_an_outline_is_taken_back_and_the_stroke_before_it_stays(desk):
    stroke(desk, 50)
    desk.flush()
    desk.draw_outline()
    desk.drawing.outline.add_polygons(SQUARE)
    ctrl_z(desk)
    assert not desk.drawing.mask[20, 20]
    assert rows(desk) == [50]
    ctrl_z(desk)
    assert rows(desk) == []
    desk.undo()
    assert "nothing to take back" in desk.message.text()


def test_a_stroke_over_an_outline_is_taken_back_without_a_hole(desk):
    desk.draw_outline()
    desk.drawing.outline.add_polygons(SQUARE)
    desk.flush()
    outlined = desk.drawing.mask
    desk.draw_freely()
    desk.drawing.brush.paint((20, 30), 1)
    desk.flush()
    stroke(desk, 50)
    desk.undo()
    desk.undo()
    assert np.array_equal(desk.drawing.mask, outlined)
    desk.undo()
    assert not desk.drawing.mask.any()


def test_what_was_taken_over_is_taken_back_at_once(desk):
    stroke(desk, 10)
    desk.draw_outline()
    desk.drawing.outline.add_polygons(SQUARE)
    before = desk.drawing.mask
    other = desk.viewer.add_labels(np.eye(64, dtype=np.uint8), scale=desk.drawing.image.scale)
    desk.draw_page.drawings.choose(other)
    desk.take_over()
    assert np.array_equal(desk.drawing.mask, np.eye(64, dtype=bool))
    desk.undo()
    assert np.array_equal(desk.drawing.mask, before)
