"""A radiograph is followed back to the CT and the labels that it was taken from, whatever else is open."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

from napari_chexanatomy.layers import core_of, from_ct, from_labels
from napari_chexanatomy.picture import Order, PictureTaker
from napari_chexanatomy.picture_layers import PictureLayers
from napari_chexanatomy.radiograph import RadiographWidget
from tests.napari_chexanatomy.conftest import TAUGHT, WAIT
from training.model import Finding


@pytest.fixture
def two(body):
    """CT and labels of one patient, and of another on the same grid, of air with the labels upside down."""
    (ct, labels), air = body, np.full_like(body[0].hu, -1000)
    mine = replace(ct), replace(labels, ids=labels.ids.copy())
    return mine, (replace(ct, hu=air, name="other"), replace(labels, ids=labels.ids[::-1].copy(), name="other labels"))


def test_the_labels_of_another_patient_are_no_reference(predict_desk, two, pose, masks, add):
    (mine, other), viewer = two, predict_desk.viewer
    for ct, labels in (other, mine):
        add(viewer, from_ct(ct))
        add(viewer, from_labels(labels))
    layers = PictureLayers(viewer)
    picture = PictureTaker().take(Order(*mine, pose, ("heart",), "fill", None, True))
    layers.show(picture)
    findings = [Finding(name, True, (0.0, 0.0, 9.0, 9.0), masks[name], 0.9, ("t",), "t") for name in TAUGHT]
    predict_desk.show_findings(layers.layer, picture.radiograph, findings)
    predict_desk.compare()
    predict_desk.wait()
    assert {one.structure: one.dice for one in predict_desk.measuring.agreements} == dict.fromkeys(TAUGHT, 1.0)


def test_a_kept_radiograph_is_probed_in_its_own_ct(make_napari_viewer, two, add, qtbot):
    (mine, other), viewer = two, make_napari_viewer()
    desk = RadiographWidget(viewer)
    viewer.window.add_dock_widget(desk, name="Radiograph")
    for ct, labels in (mine, other):
        add(viewer, from_ct(ct))
        add(viewer, from_labels(labels))
    air, bones = viewer.layers[2:4]
    desk.ct_chooser.choose(viewer.layers[0])
    desk.labels_chooser.choose(viewer.layers[1])
    desk.pose.pixels.setCurrentIndex(0)
    desk.take(0.0)
    qtbot.waitUntil(lambda: desk.settled, timeout=WAIT)
    kept = desk.layer
    row, column = (float(v) for v in np.argwhere(core_of(kept).masks["heart"]).mean(axis=0))
    desk.keep()
    desk.ct_chooser.choose(air)
    desk.labels_chooser.choose(bones)
    qtbot.waitUntil(lambda: desk.settled, timeout=WAIT)
    desk.probe(core_of(kept), row, column)
    qtbot.waitUntil(lambda: bool(desk.ray_list.rows()), timeout=WAIT)
    assert "heart" in dict(desk.ray_list.rows())
    assert " 0 mm" not in desk.ray_list.summary.text()


def test_of_a_ct_that_was_closed_only_the_picture_stays(make_napari_viewer, body, pose, qtbot):
    viewer = make_napari_viewer()
    layers = PictureLayers(viewer)
    layers.show(PictureTaker().take(Order(replace(body[0]), replace(body[1]), pose, ("heart",), "fill", None, True)))
    gc.collect()
    core = core_of(layers.layer)
    assert core.sources() == (None, None)
    assert core.masks["heart"].any()
    desk = RadiographWidget(viewer)
    desk.probe(core, 64.0, 64.0)
    assert "is not open" in desk.message.text()
    desk.shut_down()
