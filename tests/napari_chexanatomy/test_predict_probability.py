"""Accurate answers in the window: seen as probabilities, saved with the masks."""

from __future__ import annotations

import numpy as np
from PIL import Image

from napari_chexanatomy.layers import from_radiograph


def test_an_accurate_look_can_be_seen_as_probabilities_and_saved(predict_desk, radiograph, add, tmp_path):
    desk = predict_desk
    add(desk.viewer, from_radiograph(radiograph))
    desk.structures.set_checked(["heart", "lung_left"])
    probability = desk.style_combo.findData("probability")
    offered = desk.style_combo.model().item(probability)
    desk.run()
    desk.wait()
    assert not offered.isEnabled(), "there are none"
    desk.accurate.setChecked(True)
    desk.run()
    desk.wait()
    assert offered.isEnabled()
    desk.style_combo.setCurrentIndex(probability)
    desk.table.select("heart")
    painted = desk.found.overlay.layer.data
    heart = next(f for f in desk.findings if f.structure == "heart")
    whole = {f.structure: f.probability for f in desk.found.shown.whole()}
    sure, unsure = whole["heart"] > 0.9, (whole["heart"] > 0.1) & (whole["heart"] < 0.4)
    assert painted[sure][:, 3].mean() > painted[unsure][:, 3].mean() > 0
    assert not painted[whole["heart"] == 0].any(), "of the selected structure alone"
    np.testing.assert_array_equal(whole["heart"] > 0.5, heart.mask)
    desk.save(tmp_path)
    desk.wait()
    saved = np.asarray(Image.open(tmp_path / radiograph.name / "heart.probability.png"))
    np.testing.assert_array_equal(saved, np.round(whole["heart"] * 255))
    desk.accurate.setChecked(False)
    desk.run()
    desk.wait()
    assert desk.style_combo.currentData() == "fill"
    assert not offered.isEnabled()
