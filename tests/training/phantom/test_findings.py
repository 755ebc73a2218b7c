"""Illness, devices and missing structures, in procedural and in other bodies."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from training.errors import ChexanatomyError
from training.images import CT, LabelMap
from training.phantom import thorax
from training.phantom.attach import add_findings
from training.phantom.findings import NONE, RESECTIONS, Findings, Odds, draw_findings
from training.phantom.parameters import draw, with_raised_arms

SPACING = 4.0
LOBES = tuple(f"lung_{part}_lobe_{side}" for side in ("left", "right") for part in ("upper", "middle", "lower"))


@cache
def healthy():
    return thorax(5, SPACING, draw(5, NONE))


def with_findings(**what):
    return add_findings(*healthy(), Findings(**what), np.random.default_rng(1))


def test_nobody_has_anything_when_the_odds_are_none():
    assert all(draw_findings(np.random.default_rng(s), NONE) == Findings() for s in range(20))


@pytest.mark.parametrize("name", [f.name for f in fields(Odds)])
def test_each_odds_switches_its_own_finding_and_no_other(name):
    for seed in range(6):
        off = draw_findings(np.random.default_rng(seed), NONE)
        on = draw_findings(np.random.default_rng(seed), replace(NONE, **{name: 1.0}))
        changed = {f.name for f in fields(Findings) if getattr(on, f.name) != getattr(off, f.name)}
        assert len(changed) <= 1
    assert any(draw_findings(np.random.default_rng(s), replace(NONE, **{name: 1.0})) != Findings() for s in range(6))


def test_fluid_lies_low_takes_lung_from_the_labels_and_leaves_the_other_side():
    ct, labels = with_findings(effusion=(0.4, 0.0))
    before, after = healthy()[1].mask(*LOBES), labels.mask(*LOBES)
    lost = before & ~after
    assert lost.sum() > 0.1 * before.sum()
    assert np.nonzero(lost)[0].mean() < np.nonzero(after)[0].mean()
    assert abs(np.median(ct.hu[lost]) - 12) < 15
    right = np.nonzero(lost)[2] * SPACING + labels.origin[0]
    assert (right < 20).all()


def renumbered(labels, number_of):
    """The same labels under other ids."""
    table = np.array([number_of(i) if i else 0 for i in range(int(labels.ids.max()) + 1)])
    members = {int(number_of(i)): names for i, names in labels.members.items()}
    return LabelMap(table.astype(np.min_scalar_type(int(table.max())))[labels.ids], members, labels.spacing, labels.origin)


@pytest.mark.parametrize("ids_from", [300, 60_000])
def test_the_numbers_of_the_labels_change_nothing_of_what_is_painted(ids_from):
    what = Findings(nodules=3, effusion=(0.4, 0.4), electrodes=4)
    ct, labels = add_findings(*healthy(), what, np.random.default_rng(1))
    high = renumbered(healthy()[1], lambda i: i + ids_from)
    other, moved = add_findings(healthy()[0], high, what, np.random.default_rng(1))
    assert np.array_equal(other.hu, ct.hu)
    assert np.array_equal(moved.mask(*LOBES), labels.mask(*LOBES))


def test_fluid_needs_a_new_number_where_the_last_small_one_is_taken():
    last = max(healthy()[1].members)
    full = renumbered(healthy()[1], lambda i: i + 255 - last)
    full = replace(
        full, members={i: (*names, "chest") if set(names) & set(LOBES) else names for i, names in full.members.items()}
    )
    assert full.ids.dtype == np.uint8
    _, labels = add_findings(healthy()[0], full, Findings(effusion=(0.4, 0.4)), np.random.default_rng(1))
    assert labels.ids.dtype == np.uint16
    assert 0 < labels.mask(*LOBES).sum() < full.mask(*LOBES).sum()
    assert np.array_equal(labels.ids > 0, full.ids > 0)


@pytest.mark.parametrize("what", [{"opacities": 3}, {"nodules": 3}])
def test_shadows_make_lung_denser_and_leave_the_labels(what):
    ct, labels = with_findings(**what)
    assert np.array_equal(labels.ids, healthy()[1].ids)
    changed = ct.hu != healthy()[0].hu
    assert changed.any()
    assert labels.mask(*LOBES)[changed].mean() > 0.9
    assert ct.hu[changed].mean() > healthy()[0].hu[changed].mean() + 50


@pytest.mark.parametrize(
    "what",
    [
        {"pacemaker": "left"},
        {"central_line": "right"},
        {"chest_tube": "left"},
        {"tracheal_tube": True},
        {"gastric_tube": True},
        {"wires": 5},
        {"electrodes": 4},
        {"clips": 5},
    ],
)
def test_devices_are_dense_and_leave_the_labels(what):
    ct, labels = with_findings(**what)
    assert np.array_equal(labels.ids, healthy()[1].ids)
    gained = ct.hu.astype(int) - healthy()[0].hu
    assert gained.max() > 250


def test_a_device_on_the_left_is_on_the_left():
    ct, labels = with_findings(pacemaker="left")
    x = np.nonzero(ct.hu > 2500)[2]
    assert np.median(x) * SPACING + labels.origin[0] > 10


@pytest.mark.parametrize("operation", RESECTIONS)
def test_what_is_missing_has_no_voxel_but_is_known(operation):
    missing = RESECTIONS[operation]
    person = replace(draw(5, NONE), findings=Findings(missing=missing))
    _, labels = thorax(5, 6.0, person)
    for name in missing:
        assert name in labels.structures
        assert not labels.mask(name).any()
    assert labels.mask("heart", "lung_upper_lobe_left", "lung_upper_lobe_right").any()


def test_other_lobes_fill_the_room_of_a_resected_one():
    person = replace(draw(5, NONE), findings=Findings(missing=("lung_upper_lobe_left",)))
    _, labels = thorax(5, 6.0, person)
    _, whole = thorax(5, 6.0, draw(5, NONE))
    both = ("lung_upper_lobe_left", "lung_lower_lobe_left")
    assert labels.mask("lung_lower_lobe_left").sum() > 0.8 * whole.mask(*both).sum()


def test_raised_arms_leave_the_chest_alone_and_lift_the_humeri():
    hanging = replace(draw(5, NONE), arm_elevation=-60.0)
    raised = with_raised_arms(hanging, np.random.default_rng(0))
    heights = []
    for person in (hanging, raised):
        _, labels = thorax(5, 6.0, person)
        heights.append(np.nonzero(labels.mask("humerus_left"))[0].mean() * 6.0 + labels.origin[2])
    assert heights[1] > heights[0] + 60


def test_findings_need_cubic_voxels():
    ct, labels = healthy()
    flat = CT(ct.hu, (4.0, 4.0, 5.0), ct.origin)
    with pytest.raises(ChexanatomyError, match="cubic"):
        add_findings(flat, labels, Findings(wires=3), np.random.default_rng(0))


def test_an_effusion_leaves_every_lobe_some_air():
    """This person's effusion stands above the whole middle lobe."""
    person = draw(51)
    assert max(person.findings.effusion) > 0.5
    _, labels = thorax(51, 4.0, person)
    assert not [name for name in labels.structures if not labels.mask(name).any()]


@pytest.mark.parametrize(("side", "towards"), [("left", 1), ("right", -1)])
def test_after_a_pneumonectomy_only_a_stump_is_left_and_the_mediastinum_moves_over(side, towards):
    whole = healthy()[1]
    missing = RESECTIONS[f"pneumonectomy {side}"]
    _, labels = thorax(5, SPACING, replace(draw(5, NONE), findings=Findings(missing=missing)))

    def across(labels, name):
        x = np.nonzero(labels.mask(name))[2] * SPACING + labels.origin[0]
        return towards * x.mean(), (towards * x).max()

    for name, least in (("heart", 12), ("trachea", 4), ("aorta", 4)):
        assert across(labels, name)[0] - across(whole, name)[0] > least, name
    assert across(labels, "lung_trachea_bronchia")[1] < across(whole, "lung_trachea_bronchia")[1] - 20
    other = "lung_lower_lobe_right" if side == "left" else "lung_lower_lobe_left"
    assert labels.mask(other).sum() > whole.mask(other).sum()
