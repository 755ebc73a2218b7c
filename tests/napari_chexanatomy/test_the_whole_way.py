"""From a CT to an adapter that is used, and back into the project the next day, with the real model and the real widgets."""

from __future__ import annotations

import numpy as np
import psutil

from napari_chexanatomy import model_chooser
from napari_chexanatomy.fewshot import FewShotWidget
from napari_chexanatomy.layers import core_of
from napari_chexanatomy.predict import PredictWidget
from napari_chexanatomy.radiograph import RadiographWidget
from tests.napari_chexanatomy.conftest import WAIT

TAUGHT, KNOWN = "kidney_left", ("heart", "lung_left")


def told(findings):
    return {f.structure: (f.tokens, f.confidence) for f in findings}


def test_from_a_ct_to_an_adapter_in_use_and_back_the_next_day(
    make_napari_viewer, qtbot, monkeypatch, tmp_path, model_spec, body, add
):
    from napari_chexanatomy.layers import from_ct, from_labels

    monkeypatch.setattr(model_chooser, "_applied", [])
    until = lambda done: qtbot.waitUntil(done, timeout=5 * WAIT)  # noqa: E731

    def dock(kind, window):
        widget = kind(window)
        window.window.add_dock_widget(widget, name=kind.__name__)
        return widget

    # Load, and project three views with the shadow of what will be taught.
    viewer = make_napari_viewer()
    for data in (from_ct(body[0]), from_labels(body[1])):
        add(viewer, data)
    turning = dock(RadiographWidget, viewer)
    turning.pose.pixels.setCurrentIndex(0)
    turning.structures.set_checked([TAUGHT])
    views, shadows = [], []
    for angle in (0.0, 8.0, -8.0):
        turning.take(angle)
        until(lambda: turning.settled)
        views.append(turning.layer)
        shadows.append(np.array(core_of(turning.layer).masks[TAUGHT]))
        turning.keep()

    # Predict: what is known is found, what will be taught is not known.
    asking = dock(PredictWidget, viewer)
    asking.model.use(model_spec)
    asking.radiograph_chooser.choose(views[0])
    asking.prompt.setText("heart ; left lung ; left kidney")
    asking.run()
    until(lambda: not asking.busy)
    before = told(asking.findings)
    assert set(before) == set(KNOWN)

    # Draw, learn.
    desk = dock(FewShotWidget, viewer)
    desk.new(tmp_path / "project")
    desk.model.use(model_spec)
    desk.choose_structure(TAUGHT)
    for layer, shadow in zip(views, shadows, strict=True):
        desk.layers.choose(layer)
        desk.add_layer()
        desk.drawing.brush.data_setitem(np.nonzero(shadow), 1)
        desk.flush()
    desk.learning.seconds.setValue(1)
    desk.learn()
    until(lambda: not desk.busy)
    (kept,) = desk.adapters.kept
    assert kept.after > kept.before == 0
    assert not [child for child in psutil.Process().children() if "training.cli" in " ".join(child.cmdline())]

    # Compare, apply: what was taught is answered, the rest as before.
    desk.learning.show_kept(kept, desk.project)
    assert len(desk.learning.comparison.images) == 1
    desk.adapters.table.selectRow(0)
    desk.adapters.apply()
    assert asking.model.spec == str(kept.folder)
    assert TAUGHT in asking.structures.structures()
    asking.radiograph_chooser.choose(views[0])
    asking.run()
    until(lambda: not asking.busy)
    after = told(asking.findings)
    assert {name: after[name] for name in KNOWN} == before
    assert TAUGHT in after, asking.message.text()

    # Save, close.
    asking.save(tmp_path / "found")
    until(lambda: not asking.busy)
    assert (tmp_path / "found" / "predictions.json").is_file()
    drawn = [desk.project.mask(item) for item in desk.project.items]
    for widget in (desk, asking, turning):
        viewer.window.remove_dock_widget(widget)
    viewer.close()

    # The next day.
    desk = dock(FewShotWidget, make_napari_viewer())
    desk.open(tmp_path / "project")
    assert desk.project.structure == TAUGHT
    for row, mask in enumerate(drawn):
        desk.images.setCurrentRow(row)
        np.testing.assert_array_equal(desk.drawing.mask, mask)
    assert [again.folder for again in desk.adapters.kept] == [kept.folder]
    assert desk.adapters.kept[0].after == kept.after
    asking = dock(PredictWidget, desk.viewer)
    assert asking.model.spec == str(kept.folder), "what was applied is used"
    assert TAUGHT in asking.structures.structures()
    assert "left kidney" in asking.model.limits.text()
