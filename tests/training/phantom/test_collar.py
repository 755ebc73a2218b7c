"""Clavicles of bodies from CTs, exchanged for those of one who stands."""

from dataclasses import replace

import numpy as np
import pytest

from training.phantom import thorax
from training.phantom.collar import ROOM, with_other_clavicles, with_room_above
from training.phantom.findings import NONE
from training.phantom.parameters import draw, with_raised_arms

BOTH = ("clavicula_left", "clavicula_right")
LEVEL = ((0.0, 0.0), (0.0, 0.0))


@pytest.fixture(scope="module")
def lying():
    """One who lies on a CT's table with raised arms; the CT ends above the lungs, through the clavicles."""
    ct, labels = thorax(3, 4.0, with_raised_arms(draw(3, NONE), np.random.default_rng(0)))
    top = np.nonzero(labels.mask("lung_upper_lobe_left", "lung_upper_lobe_right"))[0].max() + 3
    return replace(ct, hu=ct.hu[:top]), replace(labels, ids=labels.ids[:top])


def exchanged(body, stray=LEVEL, seed=5):
    return with_other_clavicles(*with_room_above(*body), np.random.default_rng(seed), stray)


def ends(labels, name):
    """Medial and lateral end of a clavicle (x, y, z) [mm]."""
    points = np.argwhere(labels.mask(name))[:, ::-1] * np.array(labels.spacing) + labels.origin
    order = np.argsort(points[:, 0] if name.endswith("left") else -points[:, 0])
    few = max(1, len(order) // 20)
    return points[order[:few]].mean(0), points[order[-few:]].mean(0)


def test_a_body_goes_on_above_its_ct_with_nothing_labelled_there(lying):
    ct, labels = with_room_above(*lying)
    before = len(lying[0].hu)
    assert (len(ct.hu) - before) * ct.spacing[2] >= ROOM
    assert np.array_equal(ct.hu[:before], lying[0].hu)
    assert np.array_equal(labels.ids[:before], lying[1].ids)
    assert not labels.ids[before:].any()
    assert (ct.hu[before:] == ct.hu[before]).all()
    assert (ct.hu[before] > -300).sum() == pytest.approx((lying[0].hu[-1] > -300).sum(), rel=0.1)


def test_clavicles_of_a_standing_person_take_the_place_of_those_in_the_ct(lying):
    ct, labels = exchanged(lying)
    lungs = np.flatnonzero(lying[1].mask("lung_upper_lobe_left", "lung_upper_lobe_right").any((0, 1)))
    width = np.ptp(lungs) * labels.spacing[0]
    for name in BOTH:
        was = lying[1].mask(name)
        medial, lateral = ends(labels, name)
        assert np.abs(medial - ends(lying[1], name)[0]) == pytest.approx([0, 0, 0], abs=7)
        assert 0.25 * width < abs(lateral[0] - medial[0]) < 0.6 * width
        assert 0.0 < lateral[2] - medial[2] < abs(lateral[0] - medial[0])
        assert np.median(ct.hu[labels.mask(name)]) > 250
        gone = was & ~labels.mask(*BOTH)[: len(was)]
        assert gone.sum() > 0.3 * was.sum()
        assert abs(np.median(ct.hu[: len(was)][gone]) - 50) < 40


def test_ends_go_up_each_on_its_own_and_nothing_else_is_named_otherwise(lying):
    level = exchanged(lying)[1]
    astray = exchanged(lying, ((24.0, 0.0), (0.0, -24.0)))[1]
    moved = {name: [b[2] - a[2] for a, b in zip(ends(level, name), ends(astray, name), strict=True)] for name in BOTH}
    assert moved["clavicula_left"] == pytest.approx([24, 0], abs=8)
    assert moved["clavicula_right"] == pytest.approx([0, -24], abs=8)
    for name in set(lying[1].structures) - set(BOTH):
        assert np.array_equal(astray.mask(name)[: len(lying[1].ids)], lying[1].mask(name)), name


def test_a_side_without_a_clavicle_stays_without_one(lying):
    ct, labels = lying
    left = {i: tuple(n for n in names if n != "clavicula_left") for i, names in labels.members.items()}
    without = ct, replace(labels, members=left)
    now = exchanged(without)[1]
    assert "clavicula_left" not in now.structures or not now.mask("clavicula_left").any()
    assert now.mask("clavicula_right").any()


def test_the_same_random_numbers_give_the_same_clavicles(lying):
    one, again, other = (exchanged(lying, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one[0].hu, again[0].hu)
    assert np.array_equal(one[1].ids, again[1].ids)
    assert not np.array_equal(one[1].mask(*BOTH), other[1].mask(*BOTH))
