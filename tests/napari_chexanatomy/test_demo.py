from __future__ import annotations

import gc

import pytest

from napari_chexanatomy import demo
from training.model import Finding


@pytest.fixture
def findings(masks):
    seen = [Finding(s, True, (1.0, 1.0, 9.0, 9.0), mask, 0.8, ("<loc0001>",), s) for s, mask in masks.items()]
    return [*seen, Finding("stomach", False, None, None, 0.9, (), "none stomach")]


def test_the_demonstration_shows_projected_and_predicted_masks_side_by_side(
    make_napari_viewer, body, pose, radiograph, masks, findings, tmp_path, monkeypatch
):
    import napari

    made = []
    monkeypatch.setattr(napari, "Viewer", lambda **keywords: made.append(make_napari_viewer(show=False)) or made[0])
    picture = tmp_path / "deep" / "window.png"
    viewer = demo.show(*body, pose, radiograph, masks, findings, screenshot=picture, block=False)
    assert picture.stat().st_size > 10_000
    flat = [layer for layer in viewer.layers if layer.ndim == 2]
    assert len(flat) == 4
    left, right = (layer.extent.world for layer in flat if not layer.rgb)
    assert left[1][1] < right[0][1], "the two radiographs overlap"
    assert all(not layer.visible for layer in viewer.layers if layer.ndim == 3)
    viewer.close()
    gc.collect()
