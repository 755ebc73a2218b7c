import numpy as np

from training.dataset import suspicion
from training.images import Radiograph

from .conftest import make_case, make_masks


def plant(dataset, number, masks, **changes):
    case = make_case(number, **changes)
    dataset.add(case, Radiograph(np.zeros((120, 100), np.float32)), masks)
    return case.id


def first(dataset, count=2):
    return {(s.case.id, s.structure): " ".join(s.reasons) for s in suspicion(dataset)[:count]}


def test_ordinary_masks_raise_no_suspicion(dataset):
    assert all(s.score < 0.5 for s in suspicion(dataset))


def test_swapped_sides_come_first(dataset):
    case = plant(dataset, 70, make_masks(np.random.default_rng(2), swapped=True))
    found = first(dataset)
    assert set(found) == {(case, "lung_left"), (case, "lung_right")}
    assert all("swapped" in reason for reason in found.values())


def test_sides_are_not_judged_in_a_lateral_view(dataset):
    plant(dataset, 70, make_masks(np.random.default_rng(2), swapped=True), view="LATERAL")
    assert not any("swapped" in r for s in suspicion(dataset) for r in s.reasons)


def test_a_mask_far_from_its_place_or_of_another_size_or_empty_is_found(dataset):
    shifted = make_masks(np.random.default_rng(3))
    shifted["heart"] = np.roll(shifted["heart"], -45, axis=0)
    large = make_masks(np.random.default_rng(4))
    large["heart"][10:110, 10:90] = True
    empty = make_masks(np.random.default_rng(5)) | {"heart": np.zeros((120, 100), bool)}
    cases = [plant(dataset, 70 + i, masks) for i, masks in enumerate((shifted, large, empty))]
    found = first(dataset, 3)
    assert set(found) == {(c, "heart") for c in cases}
    assert "usual place" in found[cases[0], "heart"]
    assert "times the usual" in found[cases[1], "heart"]
    assert "empty" in found[cases[2], "heart"]


def test_a_lung_in_two_pieces_and_a_listed_structure_without_mask_are_found(dataset):
    broken = make_masks(np.random.default_rng(3))
    broken["lung_left"][50:58] = False
    without = make_masks(np.random.default_rng(3))
    del without["heart"]
    cases = [plant(dataset, 70, broken), plant(dataset, 71, without)]
    found = first(dataset, 2)
    assert "2 pieces" in found[cases[0], "lung_left"]
    assert "no mask" in found[cases[1], "heart"]
