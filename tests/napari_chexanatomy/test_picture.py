from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_chexanatomy.picture import PREVIEW_PIXELS, Order, PictureTaker, makeable, preview_pose, thin_out
from training.drr import Geometry
from training.errors import ImpossibleGeometry


@pytest.fixture
def order(body):
    ct, labels = body
    return Order(ct, labels, Geometry.pa(ct, rows=300, columns=300), ("heart", "lung_left"), "fill", None, True)


def test_a_preview_covers_the_same_pixels_as_the_full_picture(order):
    taker = PictureTaker()
    full, quick = taker.take(order), taker.take(replace(order, full=False))
    assert quick.radiograph.pixels.shape == full.radiograph.pixels.shape == (300, 300)
    assert quick.overlay.shape == full.overlay.shape
    assert np.corrcoef(quick.radiograph.pixels.ravel(), full.radiograph.pixels.ravel())[0, 1] > 0.98
    painted = quick.overlay[..., 3] > 0, full.overlay[..., 3] > 0
    assert (painted[0] & painted[1]).sum() / (painted[0] | painted[1]).sum() > 0.9


def test_ticking_a_structure_takes_no_new_radiograph(order):
    taker = PictureTaker()
    first = taker.take(order)
    second = taker.take(replace(order, structures=("heart", "lung_left", "spine")))
    assert second.radiograph is first.radiograph
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
    assert thin.spacing == (1.5, 1.4, 2.0)
    assert thin.origin == fine.origin
    assert thin.hu[4, 5, 6] == fine.hu[4, 10, 18]
    assert thin_out(labels).ids.shape == labels.ids.shape


def test_a_preview_pose_sees_the_same_field():
    pose = Geometry(rows=1024, columns=512, spacing=(0.4, 0.8))
    quick = preview_pose(pose)
    assert max(quick.rows, quick.columns) == PREVIEW_PIXELS
    assert quick.rows * quick.spacing[0] == pytest.approx(pose.rows * pose.spacing[0])
    assert preview_pose(quick) is quick
