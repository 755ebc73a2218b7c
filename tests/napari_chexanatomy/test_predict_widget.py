from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_chexanatomy.layers import core_of, from_radiograph
from napari_chexanatomy.model_chooser import limits_text
from napari_chexanatomy.predict import PredictWidget
from napari_chexanatomy.structure_colours import display_name
from tests.napari_chexanatomy.conftest import WAIT
from training.batch import OVERLAP_COLOURS
from training.images import read_mask_png, write_mask_png, write_radiograph_png
from training.images.turning import Turn
from training.model import Finding


@pytest.fixture
def desk(predict_desk):
    return predict_desk


def test_what_is_asked_appears_in_the_table_and_in_one_overlay(desk, radiograph, add, tmp_path):
    layer = add(desk.viewer, from_radiograph(radiograph))
    desk.structures.set_checked(["lung_left", "lung_right", "heart"])
    desk.run_button.click()
    assert desk.busy
    assert not desk.run_button.isEnabled()
    desk.wait()
    assert [f.structure for f in desk.findings] == desk.structures.checked()
    assert desk.table.rowCount() == 3
    found = [f for f in desk.findings if f.present]
    assert found, "the model sees no lung in a thorax"
    assert desk.table.item(desk.findings.index(found[0]), 3).text() != "–"
    overlays = [other for other in desk.viewer.layers if core_of(other).role == "overlay"]
    assert len(overlays) == 1
    assert overlays[0].data[..., 3].any()
    np.testing.assert_allclose(overlays[0].extent.world, layer.extent.world)
    assert "not for diagnosis" in desk.message.text()

    desk.table.selectRow(desk.findings.index(found[0]))
    assert (overlays[0].data == 255).all(axis=2).any(), "the selected structure is not edged in white"
    desk.found.show_tokens.setChecked(True)
    assert "<loc" in desk.found.tokens.toPlainText()

    desk.edit_mask()
    drawing = desk.viewer.layers.selection.active
    np.testing.assert_array_equal(np.asarray(drawing.data) > 0, found[0].mask)
    desk.viewer.layers.remove(drawing)

    (tmp_path / "predictions.json").write_text('[{"image": "other", "folder": "other", "size": [1, 1], "findings": []}]')
    desk.save(tmp_path)
    desk.wait()
    others, record = json.loads((tmp_path / "predictions.json").read_text())
    assert others["folder"] == "other", "saving one image took another image's results away"
    assert {entry["structure"] for entry in record["findings"]} == {"lung_left", "lung_right", "heart"}

    desk.identify()
    desk.wait()
    assert desk.message.text().startswith(f"Likeliest for the mask of {display_name(found[0].structure)}: ")
    desk.draw_box()
    top, left = 20 * radiograph.spacing[0], 20 * radiograph.spacing[1]
    box = desk.viewer.layers.selection.active
    box.add_rectangles(np.array([[20, 20], [20, 60], [90, 60], [90, 20]]))
    np.testing.assert_allclose(box.data_to_world((20, 20)), (top, left))
    desk.identify()
    desk.wait()
    assert desk.message.text().startswith("Likeliest for the box: ")
    assert desk.message.text().count("%") == 3
    assert desk.back.answers.rowCount() == 3
    desk.back.show_answers("the box", [("heart", 0.994), ("liver", 0.006)])
    assert [desk.back.answers.item(row, 1).text() for row in (0, 1)] == ["99%", "<1%"]
    assert desk.message.text().startswith("Likeliest for the box: heart (99%), liver (<1%).")


def test_typed_names_count_before_ticks(desk, radiograph, add):
    desk.prompt.setText("detect heart")
    assert desk.asked() == ["heart"]
    desk.prompt.setText("segment heart ; left clavicle, RUL")
    assert desk.asked() == ["heart", "clavicula_left", "lung_upper_lobe_right"]
    add(desk.viewer, from_radiograph(radiograph))
    desk.prompt.setText("flux capacitor")
    desk.run()
    desk.wait()
    assert "flux capacitor" in desk.message.text()
    assert desk.table.rowCount() == 0


def test_clicking_in_the_wrong_order_is_answered_in_words(desk, radiograph, add, tmp_path):
    desk.run()
    assert "no radiograph" in desk.message.text()
    for action in (desk.identify, desk.draw_box):
        action()
        assert "no radiograph" in desk.message.text()
    desk.edit_mask()
    assert "Select a structure" in desk.message.text()
    desk.save(tmp_path)
    assert "nothing to save" in desk.message.text()
    add(desk.viewer, from_radiograph(radiograph))
    desk.structures.set_checked([])
    desk.run()
    assert "Tick at least one" in desk.message.text()
    desk.identify()
    assert "Draw a box" in desk.message.text()


def test_a_folder_that_is_no_model_is_a_sentence(desk, radiograph, add, tmp_path):
    add(desk.viewer, from_radiograph(radiograph))
    desk.model.use(str(tmp_path))
    desk.run()
    desk.wait()
    assert tmp_path.name in desk.message.text()
    assert "Traceback" not in desk.message.text()


def test_a_radiograph_closed_while_the_model_looks_leaves_no_masks(desk, radiograph, add):
    layer = add(desk.viewer, from_radiograph(radiograph))
    desk.run()
    desk.viewer.layers.remove(layer)
    desk.wait()
    assert "closed" in desk.message.text()
    assert len(desk.viewer.layers) == 0


def test_cancel_ends_a_run_and_the_next_one_works(desk, radiograph, add):
    add(desk.viewer, from_radiograph(radiograph))
    desk.structures.set_checked(desk.structures.structures())
    desk.run()
    desk.cancel_button.click()
    desk.wait()
    assert desk.message.text() == "Stopped."
    assert desk.findings == []
    desk.structures.set_checked(["heart"])
    desk.run()
    desk.wait()
    assert len(desk.findings) == 1
    assert desk.run_button.isEnabled()


def test_every_control_says_what_it_is_for(desk):
    from qtpy.QtWidgets import QComboBox, QLineEdit, QPushButton, QSlider

    for kind in (QPushButton, QSlider, QComboBox, QLineEdit):
        for control in desk.findChildren(kind):
            assert control.toolTip() or control.objectName().startswith("qt_"), control


def test_the_widget_fits_a_small_screen(desk):
    assert desk.minimumSizeHint().height() < 600
    assert desk.minimumSizeHint().width() <= 420


def test_a_structure_the_model_was_not_taught_is_listed_and_not_drawn(desk, radiograph, add):
    add(desk.viewer, from_radiograph(radiograph))
    desk.prompt.setText("left kidney ; heart")
    desk.run()
    desk.wait()
    if desk.table.rowCount() != 2 or desk.table.item(1, 1).text() != "not taught":
        assert "kidney_left" in desk.model._open[1].card["structures"], "a mask out of nowhere"
    assert "heart" in [f.structure for f in desk.findings]


def test_doubt_and_absence_are_told_apart_from_a_finding(desk, radiograph, add):
    layer = add(desk.viewer, from_radiograph(radiograph))
    mask = np.zeros(radiograph.pixels.shape, bool)
    mask[20:80, 20:80] = True
    box = (20.0, 20.0, 80.0, 80.0)
    sure, unsure = (Finding("heart", True, box, mask, confidence, ("t",), "t") for confidence in (0.9, 0.3))
    absent = Finding("aorta", False, None, None, 0.8, ("none",), "none aorta")
    pictures = []
    for finding in (sure, unsure):
        desk.show_findings(layer, radiograph, [finding, absent])
        pictures.append(desk.found.overlay.layer.data[..., 3].copy())
    assert (pictures[0][30:70, 30:70] > 0).all()
    assert not pictures[1][30:70, 30:70].any(), "a doubtful structure is filled"
    assert 0 < (pictures[1] > 0).sum() < (pictures[0] == 255).sum() * 2
    assert [desk.table.item(row, 1).text() for row in (0, 1)] == ["doubtful", "not seen"]
    desk.found.boxes.setChecked(True)
    assert desk.found.overlay.layer.data[20, 50, 3] == 255


def test_each_radiograph_keeps_its_own_findings(desk, radiograph, add):
    first, second = (add(desk.viewer, from_radiograph(replace(radiograph, name=name))) for name in ("a", "b"))
    mask = np.zeros(radiograph.pixels.shape, bool)
    mask[20:80, 20:80] = True
    desk.show_findings(first, radiograph, [Finding("heart", True, (20.0, 20.0, 80.0, 80.0), mask, 0.9, ("t",), "t")])
    assert desk.radiograph_chooser.chosen is first
    desk.radiograph_chooser.choose(second)
    assert desk.findings == []
    assert not desk.found.overlay.present
    first.name = "renamed"
    desk.radiograph_chooser.choose(first)
    assert [f.structure for f in desk.findings] == ["heart"]
    assert desk.viewer.layers.index(desk.found.overlay.layer) > desk.viewer.layers.index(first)
    desk.viewer.layers.remove(first)
    assert desk.findings == []
    assert not desk.found.overlay.present


def test_findings_do_not_outlive_their_picture(desk, radiograph, add):
    layer = add(desk.viewer, from_radiograph(radiograph))
    mask = radiograph.pixels > 0.5
    desk.show_findings(layer, radiograph, [Finding("heart", True, (0.0, 0.0, 9.0, 9.0), mask, 0.9, ("t",), "t")])
    layer.contrast_limits = (0.1, 0.9)
    assert desk.findings
    layer.data = radiograph.pixels[::-1].copy()
    assert desk.findings == []
    assert not desk.found.overlay.present
    assert "changed" in desk.message.text()


def test_words_sent_as_they_are_get_the_answer_as_it_is(desk, radiograph, add):
    add(desk.viewer, from_radiograph(radiograph))
    desk.prompt.setText("segment heart")
    desk.free.setChecked(True)
    desk.run()
    desk.wait()
    assert desk.found.tokens.toPlainText()
    assert desk.findings == []


def test_heart_and_lungs_are_measured_with_lines_that_can_be_moved(desk, radiograph, add):
    layer = add(desk.viewer, from_radiograph(radiograph))
    desk.measure()
    desk.wait()
    assert {"heart", "lung_outline_left", "lung_outline_right"} <= {f.structure for f in desk.findings}
    assert desk.measuring.ratio is not None, desk.message.text()
    ratio = desk.measuring.ratio.ratio
    assert 0.2 < ratio < 0.9
    lines = desk.measuring._lines
    np.testing.assert_allclose(lines.scale, layer.scale)
    moved = [np.array(line) for line in lines.data]
    moved[2][1, 1] += 20
    lines.data = moved
    assert desk.measuring.ratio.ratio < ratio
    assert desk.measuring.table.item(0, 1).text() == f"{desk.measuring.ratio.ratio:.2f}"
    desk.viewer.layers.remove(layer)
    assert lines not in desk.viewer.layers


def test_agreement_with_projected_masks_a_drawing_and_a_file(desk, radiograph, pose, masks, add, tmp_path, monkeypatch):
    layer = add(desk.viewer, from_radiograph(radiograph, pose, masks))
    findings = [Finding(name, True, (0.0, 0.0, 9.0, 9.0), mask, 0.9, ("t",), "t") for name, mask in masks.items()]
    desk.show_findings(layer, radiograph, findings)
    desk.compare()
    desk.wait()
    assert [one.dice for one in desk.measuring.agreements] == [1.0] * 3
    assert desk.measuring._map.present

    desk.table.select("heart")
    half = np.array(masks["heart"])
    half[:, half.any(axis=0).argmax() + 5 :] = False
    write_mask_png(half, tmp_path / "reference.png")
    monkeypatch.setattr(desk.measuring, "_ask_path", lambda kind: tmp_path / "reference.png")
    desk.measuring.kind.setCurrentIndex(2)
    desk.compare()
    desk.wait()
    (one,) = desk.measuring.agreements
    assert one.structure == "heart"
    assert one.dice == pytest.approx(2 * half.sum() / (half.sum() + masks["heart"].sum()))
    assert (one.unit, one.hd95 > 0) == ("mm", True)
    shown = desk.measuring._map.layer.data
    assert {tuple(colour) for colour in np.unique(shown.reshape(-1, 4), axis=0)} == {
        (0, 0, 0, 0), (*OVERLAP_COLOURS[1], 255), (*OVERLAP_COLOURS[2], 255),
    }  # fmt: skip

    top, left, bottom, right = (v * radiograph.spacing[0] for v in (30, 30, 60, 60))
    desk.viewer.add_shapes([np.array([[top, left], [top, right], [bottom, right], [bottom, left]])], name="in millimetres")
    desk.measuring.kind.setCurrentIndex(1)
    desk.compare()
    desk.wait()
    assert desk.measuring.agreements[0].reference == pytest.approx(30 * 30, rel=0.1)


def test_files_of_a_radiograph_that_was_turned_lie_on_its_files_pixels(desk, radiograph, masks, add, tmp_path, monkeypatch):
    turned = replace(radiograph, turn=Turn(mirrored=True))
    layer = add(desk.viewer, from_radiograph(turned))
    desk.show_findings(layer, turned, [Finding("heart", True, (0.0, 0.0, 9.0, 9.0), masks["heart"], 0.9, ("t",), "t")])
    desk.save(tmp_path)
    desk.wait()
    written = tmp_path / turned.name / "heart.png"
    np.testing.assert_array_equal(read_mask_png(written), masks["heart"][:, ::-1])
    desk.table.select("heart")
    monkeypatch.setattr(desk.measuring, "_ask_path", lambda kind: written)
    desk.measuring.kind.setCurrentIndex(2)
    desk.compare()
    desk.wait()
    assert [one.dice for one in desk.measuring.agreements] == [1.0]


def test_the_tick_says_which_lung_is_meant_for_one_image_and_for_many(desk, radiograph, add, tmp_path):
    person = replace(radiograph, reconstructed=False)
    add(desk.viewer, from_radiograph(person))
    (tmp_path / "in").mkdir()
    write_radiograph_png(person, tmp_path / "in" / "a.png")
    desk.structures.set_checked(["lung_left"])
    for drawn, convention in ((True, "outline"), (False, "")):
        desk.as_drawn.setChecked(drawn)
        desk.run()
        desk.wait()
        assert [f.convention for f in desk.findings] == [convention]
        assert desk.table.item(0, 0).text() == "left lung" + (" (outline)" if drawn else "")
        out = tmp_path / f"out{drawn}"
        desk.many.run_folder(tmp_path / "in", out, ["lung_left"])
        desk.wait()
        (record,) = json.loads((out / "predictions.json").read_text())
        assert record["findings"][0].get("convention", "") == convention


def test_many_images_become_rows_and_files_and_can_be_looked_at(desk, radiograph, add, tmp_path):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "b"):
        write_radiograph_png(radiograph, folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"nothing")
    desk.many.run_folder(folder, out, ["heart", "lung_left"])
    desk.wait()
    assert [row.title for row in desk.many.rows] == ["a.png", "b.png", "broken.png"]
    assert desk.many.table.item(2, 1).text() == "left out"
    assert "1 left out" in desk.message.text()
    assert (out / "a" / "heart.png").is_file()
    assert (out / "findings.csv").is_file()
    desk.many.table.selectRow(1)
    assert desk.radiograph_chooser.chosen.name == "b.png"
    assert len(desk.findings) == 2
    desk.many.table.selectRow(0)
    assert [layer.name for layer in desk.viewer.layers if layer.name.endswith(".png")] == ["a.png"]
    desk.many.table.selectRow(2)
    assert "broken.png" in desk.message.text()
    desk.many.open_results(out)
    assert len(desk.many.rows) == 2
    assert desk.many.table.item(0, 0).text() == "a.png"


def test_a_stack_is_asked_image_by_image_and_cancel_keeps_what_is_done(desk, radiograph, add, tmp_path, qtbot):
    stack = desk.viewer.add_image(np.stack([radiograph.pixels] * 40), name="stack")
    desk.many.source.choose(stack)
    desk.many.run_stack(stack, tmp_path / "out", ["heart"])
    qtbot.waitUntil(lambda: len(desk.many.rows) >= 2, timeout=WAIT)
    desk.cancel_button.click()
    desk.wait()
    records = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert 2 <= len(records) < 40
    assert len(desk.many.rows) == len(records)
    desk.many.table.selectRow(1)
    assert desk.radiograph_chooser.chosen.name == "stack 01"


def test_two_viewers_do_not_disturb_each_other(desk, radiograph, add, make_napari_viewer):
    other = make_napari_viewer()
    second = PredictWidget(other)
    other.window.add_dock_widget(second, name="Predict")
    layer = add(desk.viewer, from_radiograph(radiograph))
    assert second.radiograph_chooser.chosen is None
    mask = radiograph.pixels > 0.5
    desk.show_findings(layer, radiograph, [Finding("heart", True, (0.0, 0.0, 9.0, 9.0), mask, 0.9, ("t",), "t")])
    assert len(other.layers) == 0
    other.window.remove_dock_widget(second)
    layer.data = radiograph.pixels[::-1].copy()
    assert desk.findings == []


def test_limits_of_the_model_are_in_view_without_a_click(desk):
    assert desk.model.limits.text()
    assert desk.model.limits.text().split(".")[0] in limits_text(desk.model.spec)


def test_structures_can_be_listed_by_side(desk):
    from napari_chexanatomy.structure_colours import side_of

    desk.structures.side.setCurrentIndex(desk.structures.side.findData("left"))
    shown = [key for key, item in desk.structures._items.items() if not item.isHidden()]
    assert "clavicula_left" in shown
    assert "spleen" in shown
    assert {side_of(key) for key in shown} == {"left"}


def test_closing_the_widget_while_the_model_looks_leaves_nothing_behind(desk, radiograph, add, qtbot):
    from qtpy.compat import isalive

    viewer = desk.viewer
    layer = add(viewer, from_radiograph(radiograph))
    desk.run()
    job = desk._job
    viewer.window.remove_dock_widget(desk)
    qtbot.waitUntil(lambda: not isalive(job) or not job.running, timeout=WAIT)
    assert list(viewer.layers) == [layer]
