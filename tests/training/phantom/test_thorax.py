"""The procedural thorax: a plausible person, the same for the same seed."""

from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from training.anatomy import DERIVED, resolve, trainable, vocabulary
from training.errors import ChexanatomyError
from training.phantom import ThoraxParameters, thorax
from training.phantom.findings import NONE
from training.phantom.parameters import draw
from training.phantom.scaffold import Scaffold

SEEDS = (1, 2, 3, 4)


@cache
def person(seed):
    return thorax(seed, spacing=4.0, parameters=draw(seed, NONE))


def centre(labels, *names):
    """Middle of structures (x, y, z) [mm]."""
    z, y, x = (values.mean() for values in np.nonzero(labels.mask(*names)))
    return np.array([x, y, z]) * labels.spacing + labels.origin


def extent(labels, name, axis):
    """Lowest and highest coordinate [mm] of a structure along x (0), y (1) or z (2)."""
    at = np.nonzero(labels.mask(name))[2 - axis]
    return at.min() * labels.spacing[axis] + labels.origin[axis], at.max() * labels.spacing[axis] + labels.origin[axis]


def test_same_seed_same_person_another_seed_another():
    first, again, other = thorax(7, 6.0), thorax(7, 6.0), thorax(8, 6.0)
    assert np.array_equal(first[0].hu, again[0].hu)
    assert np.array_equal(first[1].ids, again[1].ids)
    assert first[1].members == again[1].members
    assert first[0].shape != other[0].shape or not np.array_equal(first[1].ids, other[1].ids)


def test_parameters_describe_the_person_and_the_seed_only_the_texture():
    parameters = replace(draw(3, NONE), breast=0.0, sex="male")
    one, two = thorax(1, 6.0, parameters), thorax(2, 6.0, parameters)
    assert one[0].shape == two[0].shape
    lung = one[1].mask("lung_lower_lobe_left"), two[1].mask("lung_lower_lobe_left")
    assert 2 * (lung[0] & lung[1]).sum() / (lung[0].sum() + lung[1].sum()) > 0.85


def test_drawn_people_differ_in_every_parameter():
    people = [draw(seed) for seed in range(40)]
    for field in fields(ThoraxParameters):
        if field.name != "clavicle_stray":  # synthesis draws it, on demand
            assert len({getattr(p, field.name) for p in people}) > 1, field.name


@pytest.mark.parametrize("seed", SEEDS)
def test_ct_and_labels_share_a_grid_and_look_like_tissue(seed):
    ct, labels = person(seed)
    assert ct.hu.shape == labels.ids.shape
    assert (ct.spacing, ct.origin) == (labels.spacing, labels.origin)
    ranges = {"heart": (10, 60), "liver": (40, 80), "lung_lower_lobe_right": (-920, -740), "vertebrae_T8": (100, 500)}
    for name, (low, high) in ranges.items():
        assert low < ct.hu[labels.mask(name)].mean() < high, name
    assert ct.hu[labels.ids == 0].max() <= -950


@pytest.mark.parametrize("seed", SEEDS)
def test_almost_every_trained_structure_is_there(seed):
    _, labels = person(seed)
    assert set(labels.structures) <= set(vocabulary())
    made = resolve(labels.structures)
    missing = set(trainable()) - set(made) - DERIVED
    assert not missing
    for name in labels.structures:
        assert labels.mask(name).any(), name


@pytest.mark.parametrize("seed", [2, 16])
def test_structures_hang_together(seed):
    _, labels = thorax(seed, spacing=3.0, parameters=draw(seed, NONE))
    for name in labels.structures:
        if vocabulary()[name].pieces > 1:
            continue
        mask = labels.mask(name)
        part = mask[ndimage.find_objects(mask.astype(np.uint8))[0]]
        pieces, _ = ndimage.label(part, np.ones((3, 3, 3)))
        largest = np.bincount(pieces.ravel())[1:].max()
        assert largest > 0.97 * part.sum(), f"{name}: the largest piece is {largest / part.sum():.2f} of it"


@pytest.mark.parametrize("seed", SEEDS)
def test_left_is_left_and_right_is_right(seed):
    _, labels = person(seed)
    middle = centre(labels, "vertebrae_T6")[0]
    for name in labels.structures:
        side = vocabulary()[name].side
        if side in ("left", "right") and name != "brachiocephalic_vein_left":
            x = centre(labels, name)[0] - middle
            assert (x > 0) == (side == "left"), f"{name} at {x:.0f} mm"
    heart = extent(labels, "heart", 0)
    assert heart[1] - middle > middle - heart[0], "the heart does not reach further to the left"


@pytest.mark.parametrize("seed", SEEDS)
def test_order_from_head_to_foot(seed):
    _, labels = person(seed)
    column = ["C5", "C6", "C7", *(f"T{i}" for i in range(1, 13)), "L1", "L2"]
    heights = [centre(labels, f"vertebrae_{level}")[2] for level in column]
    assert all(np.diff(heights) < 0)
    for side in ("left", "right"):
        ribs = [centre(labels, f"rib_{side}_{i}")[2] for i in range(1, 13)]
        assert all(np.diff(ribs) < 0)
        assert extent(labels, f"lung_upper_lobe_{side}", 2)[1] > centre(labels, f"clavicula_{side}")[2] - 25


@pytest.mark.parametrize("seed", SEEDS)
def test_ribs_fall_towards_the_front(seed):
    _, labels = person(seed)
    for side in ("left", "right"):
        for number in range(2, 11):
            z, y, _ = np.nonzero(labels.mask(f"rib_{side}_{number}"))
            front, back = y <= np.percentile(y, 15), y >= np.percentile(y, 85)
            assert z[front].mean() < z[back].mean() - 5


def test_proportions_stay_plausible():
    for seed in (*SEEDS, 5, 6):
        _, labels = person(seed)
        lobes = [n for n in labels.structures if n.startswith("lung_") and "lobe" in n]
        lungs = labels.mask(*lobes)
        litres = lungs.sum() * np.prod(labels.spacing) / 1e6
        assert 2.5 < litres < 7.5, f"seed {seed}: {litres:.1f} l"
        heart = labels.mask("heart").any((0, 1)).nonzero()[0]
        chest = lungs.any((0, 1)).nonzero()[0]
        ratio = np.ptp(heart) / np.ptp(chest)
        assert 0.33 < ratio < 0.58, f"seed {seed}: cardiothoracic ratio {ratio:.2f}"
        scaffold = Scaffold(draw(seed))
        assert scaffold.dome("right") > scaffold.dome("left")


def test_heart_lies_on_the_diaphragm():
    for seed in SEEDS:
        _, labels = person(seed)
        z, y, x = np.nonzero(labels.mask("heart_ventricle_left", "heart_ventricle_right"))
        lowest = int(z.min())
        below = labels.ids[max(lowest - 5, 0) : lowest, int(y[z == lowest].mean()), int(x[z == lowest].mean())]
        lung = [i for i, names in labels.members.items() if any("lobe" in n for n in names)]
        assert not np.isin(below, lung).all()


def test_impossible_voxels_are_refused():
    with pytest.raises(ChexanatomyError, match="are 0"):
        thorax(0, spacing=0.1)


def test_a_stomach_holds_gas_over_fluid_and_nothing_else():
    ct, labels = thorax(23, 3.0, draw(23, NONE))
    stomach = labels.mask("stomach")
    inside = ndimage.binary_erosion(stomach, iterations=3)
    gas, fluid = ct.hu < -800, abs(ct.hu - 15) < 90
    level = np.nonzero(gas & inside)[0].min()
    assert (gas & inside).sum() > 200
    assert np.mean(gas[level + 1 :][inside[level + 1 :]]) > 0.99
    assert np.mean(fluid[: level - 1][inside[: level - 1]]) > 0.99


def test_clavicles_lie_elsewhere_on_demand_and_nothing_else_does():
    ends = ((20.0, -15.0), (-10.0, 25.0))
    usual = thorax(3, 4.0, draw(3, NONE))[1]
    astray = thorax(3, 4.0, replace(draw(3, NONE), clavicle_stray=ends))[1]

    def heights(labels, side):
        """Of the medial and the lateral 20 mm [mm]."""
        z, _, x = np.nonzero(labels.mask(f"clavicula_{side}"))
        along = (x if side == "left" else -x) * labels.spacing[0]
        ends = along < along.min() + 20, along > along.max() - 20
        return np.array([z[end].mean() for end in ends]) * labels.spacing[2]

    for side, moved in zip(("left", "right"), ends, strict=True):
        assert np.allclose(heights(astray, side) - heights(usual, side), moved, atol=7)
    for name in ("lung_upper_lobe_left", "scapula_right", "sternum", "rib_left_1"):
        same = usual.mask(name) & astray.mask(name)
        assert 2 * same.sum() / (usual.mask(name).sum() + astray.mask(name).sum()) > 0.98, name
