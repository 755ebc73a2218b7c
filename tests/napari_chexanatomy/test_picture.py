from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QObject
from skimage.transform import resize

from napari_chexanatomy.picture import PREVIEW_PIXELS, Order, PictureTaker, fits, makeable, preview_pose, thin_out
from napari_chexanatomy.preview import Previewer
from tests.napari_chexanatomy.conftest import WAIT
from training.drr import PRESENTATIONS, Geometry
from training.errors import Cancelled, ImpossibleGeometry


@pytest.fixture
def order(body):
    ct, labels = body
    return Order(ct, labels, Geometry.pa(ct, rows=300, columns=300), ("heart", "lung_left"), "fill", None, True)


@pytest.fixture
def previewer(qtbot):
    owner = QObject()
    made = Previewer(owner)
    yield made
    made.close()


def test_a_preview_shows_the_same_field_with_fewer_pixels(previewer, order):
    full, quick = PictureTaker().take(order), previewer.take(replace(order, full=False))
    assert max(quick.radiograph.pixels.shape) == PREVIEW_PIXELS
    assert quick.overlay.shape[:2] == quick.radiograph.pixels.shape
    size = [n * s for n, s in zip(quick.radiograph.pixels.shape, quick.radiograph.spacing, strict=True)]
    assert size == pytest.approx([300 * s for s in full.radiograph.spacing])
    like_full = resize(quick.radiograph.pixels, full.radiograph.pixels.shape)
    assert np.corrcoef(like_full.ravel(), full.radiograph.pixels.ravel())[0, 1] > 0.97
    painted = resize(quick.overlay[..., 3] > 0, full.overlay.shape[:2], order=0), full.overlay[..., 3] > 0
    assert (painted[0] & painted[1]).sum() / (painted[0] | painted[1]).sum() > 0.9


def test_a_full_picture_is_given_up_when_something_newer_waits(order):
    with pytest.raises(Cancelled):
        PictureTaker().take(order, lambda: True)


def test_the_child_process_takes_the_same_previews_and_is_replaced_when_it_dies(previewer, order, qtbot):
    quick = replace(order, full=False)
    assert not previewer.post(quick)
    previewer.start()
    qtbot.waitUntil(lambda: previewer.ready, timeout=WAIT)
    ours = previewer.take(quick)
    with qtbot.waitSignal(previewer.delivered, timeout=WAIT) as answer:
        assert previewer.post(quick)
    theirs = answer.args[0].value
    np.testing.assert_array_equal(ours.radiograph.pixels, theirs.radiograph.pixels)
    np.testing.assert_array_equal(ours.overlay, theirs.overlay)
    assert theirs.order is quick
    with qtbot.waitSignal(previewer.delivered, timeout=WAIT) as answer:
        previewer.post(replace(quick, geometry=replace(order.geometry, sid=100.0)))
    assert "inside the patient" in answer.args[0].error
    previewer._child.kill()
    qtbot.waitUntil(lambda: not previewer.ready, timeout=WAIT)
    assert not previewer.post(quick)
    np.testing.assert_array_equal(previewer.take(quick).radiograph.pixels, ours.radiograph.pixels)


def test_of_many_poses_the_child_takes_the_one_at_hand_and_the_newest(previewer, order, qtbot):
    previewer.start()
    qtbot.waitUntil(lambda: previewer.ready, timeout=WAIT)
    previewer.take(replace(order, full=False))
    seen = []
    previewer.delivered.connect(lambda outcome: seen.append(outcome.value.order.geometry.primary))
    for primary in range(8):
        previewer.post(replace(order, geometry=replace(order.geometry, primary=float(primary)), full=False))
    qtbot.waitUntil(lambda: len(seen) == 2, timeout=WAIT)
    qtbot.wait(100)
    assert seen == [0.0, 7.0]


def test_a_change_of_dose_or_look_keeps_the_paths_through_the_body(order):
    taker = PictureTaker()
    first = taker.take(order)
    raw = taker.take(replace(order, presentation=PRESENTATIONS["raw"]))
    assert raw.exposure is first.exposure
    soft = taker.take(replace(order, physics=replace(order.physics, kvp=60.0)))
    assert soft.exposure is not first.exposure
    assert soft.exposure.attenuation.max() > first.exposure.attenuation.max()


def test_ticking_a_structure_takes_no_new_radiograph(order):
    taker = PictureTaker()
    first = taker.take(order)
    second = taker.take(replace(order, structures=("heart", "lung_left", "spine")))
    assert second.radiograph.pixels is first.radiograph.pixels
    assert set(second.masks) == {"heart", "lung_left", "spine"}
    assert second.masks["heart"] is first.masks["heart"]


def test_an_impossible_pose_leaves_the_taker_usable(order):
    taker = PictureTaker()
    with pytest.raises(ImpossibleGeometry):
        taker.take(replace(order, geometry=replace(order.geometry, sid=100.0)))
    assert taker.take(order).masks["heart"].any()


def test_everything_that_is_offered_can_be_projected(order, body):
    offered = tuple(makeable(body[1]))
    assert {"lung_field_left", "lung_field_right", "lung_left", "ribs_left"} <= set(offered) or "spine" in offered
    assert set(PictureTaker().take(replace(order, structures=offered)).masks) == set(offered)
    assert makeable(None) == []


def test_thinned_out_voxels_keep_their_places(body):
    ct, labels = body
    fine = replace(ct, spacing=(0.5, 0.7, 2.0))
    thin = thin_out(fine)
    assert thin.spacing == (3.5, 3.5, 2.0)
    assert np.allclose(thin.centre, fine.centre, atol=4.0)
    block = fine.hu[4, 25:30, 42:49]
    assert thin.hu[4, 5, 6] == round(float(block.mean()))
    assert thin.origin[0] + 6 * thin.spacing[0] == pytest.approx(fine.origin[0] + 0.5 * (42 + 48) / 2)
    coarse = thin_out(replace(labels, spacing=(0.5, 0.7, 2.0)))
    assert coarse.ids[4, 5, 6] == labels.ids[4, 27, 45]
    assert coarse.origin[0] + 6 * coarse.spacing[0] == pytest.approx(labels.origin[0] + 0.5 * 45)


def test_a_label_map_fits_only_the_ct_whose_grid_it_has(body):
    ct, labels = body
    assert fits(labels, ct)
    assert not fits(None, ct)
    assert not fits(replace(labels, ids=labels.ids[1:]), ct)
    assert not fits(replace(labels, origin=(0.0, 0.0, 5.0)), ct)


def test_a_preview_pose_sees_the_same_field():
    pose = Geometry(rows=1024, columns=512, spacing=(0.4, 0.8))
    quick = preview_pose(pose)
    assert max(quick.rows, quick.columns) == PREVIEW_PIXELS
    assert quick.rows * quick.spacing[0] == pytest.approx(pose.rows * pose.spacing[0])
    assert preview_pose(quick) is quick
