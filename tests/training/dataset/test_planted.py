"""Known errors planted into drawn cases: each must come first, with the right reason."""

import itertools
import json

import numpy as np
import pytest

from training.dataset import Dataset, judge
from training.images import to_rle

from .thorax import SHAPE, draw, make

CASES = 70


def swapped(pixels, masks):
    return pixels, masks | {"rib_left_4": masks["rib_right_4"], "rib_right_4": masks["rib_left_4"]}


def shifted(pixels, masks):
    return pixels, masks | {"aorta": np.roll(masks["aorta"], (10, 12), axis=(0, 1))}


def of_another(pixels, masks):
    return pixels, {s: np.roll(m, (-6, 7), axis=(0, 1)) for s, m in draw(500)[1].items()}


def mirrored(pixels, masks):
    return pixels[:, ::-1], masks


def merged(pixels, masks):
    return pixels, {s: m | masks["liver"] if s == "spine" else m for s, m in masks.items() if s != "liver"}


def missing(pixels, masks):
    return pixels, {s: m for s, m in masks.items() if s != "heart"}


def strayed(pixels, masks):
    return pixels, masks | {"rib_left_5": np.roll(masks["rib_left_5"], 9, axis=0)}


def doubled(pixels, masks):
    return pixels, masks | {"spleen": masks["heart"]}


def narrow(pixels, masks):
    """A sound case of which a collimator or a narrow field leaves only the middle: many masks are cut, some are gone."""
    part = slice(18, 78), slice(20, 80)
    left = {s: m[part] for s, m in masks.items()}
    kept = tuple(s for s, m in left.items() if m.any())
    return pixels[part], {s: left[s] for s in kept}, {"present": kept, "absent": tuple(s for s in masks if s not in kept)}


NARROW = (12, 44, 61)
PLANTED = {
    3: (swapped, "rib_left_4", "swapped"),
    9: (shifted, "aorta", "usual place"),
    17: (of_another, None, "fit its picture worse"),
    25: (mirrored, None, "mirrored"),
    33: (merged, "spine", "usual"),
    41: (missing, "heart", "no mask here"),
    49: (strayed, "rib_left_5", "outside the left ribs"),
    57: (doubled, "spleen", "very same mask"),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    errors = {n: error for n, (error, *_) in PLANTED.items()} | dict.fromkeys(NARROW, narrow)
    return make(tmp_path_factory.mktemp("drawn") / "data", CASES, errors)


@pytest.fixture(scope="module")
def queue(planted):
    return judge(planted)


@pytest.mark.parametrize("number", PLANTED)
def test_a_planted_error_is_among_the_first_with_its_reason(queue, number):
    _, structure, words = PLANTED[number]
    case = f"case-{number:03d}"
    first = [c.id for c in queue.cases()[: len(PLANTED) + 2]]
    assert case in first
    found = [s for s in queue.of(case) if structure in (None, s.structure)]
    assert any(words in reason for s in found for reason in s.reasons), [s.reasons for s in found]


def test_sound_cases_come_after_all_of_them(queue):
    bad = {f"case-{number:03d}" for number in PLANTED}  # the narrow ones count as sound
    assert min(queue.score(c) for c in bad) > np.quantile([queue.score(c.id) for c in queue.cases() if c.id not in bad], 0.95)


def test_a_narrow_field_is_no_mistake(queue):
    worst = max(queue.score(f"case-{number:03d}") for number in NARROW)
    assert worst < min(queue.score(f"case-{number:03d}") for number in PLANTED)


def test_every_mask_is_in_the_queue_once_and_scores_fall(queue, planted):
    ranked = queue.most_suspicious()
    assert len({(s.case.id, s.structure) for s in ranked}) == len(ranked) == len(queue)
    assert all(a.score >= b.score for a, b in itertools.pairwise(ranked))
    assert queue.scores_of("heart").keys() == {c.id for c in planted.cases}
    assert all(s.reasons for s in ranked if s.score > 0)


def test_a_kept_queue_is_the_same_and_changes_with_the_data(queue, planted):
    again = judge(Dataset.open(planted.folder))
    assert [(s.case.id, s.structure, s.reasons) for s in again.most_suspicious(50)] == [
        (s.case.id, s.structure, s.reasons) for s in queue.most_suspicious(50)
    ]
    assert again.key == queue.key
    path = planted.folder / "masks" / "case-060.json"
    before = path.read_text()
    masks = json.loads(before)
    masks["heart"] = to_rle(np.zeros(SHAPE, bool))
    path.write_text(json.dumps(masks))
    changed = judge(Dataset.open(planted.folder))
    path.write_text(before)
    assert changed.key != queue.key
    assert "It is empty." in next(s.reasons for s in changed.of("case-060") if s.structure == "heart")


def test_a_lung_that_holds_no_air_is_found_even_in_a_single_case(tmp_path):
    inverted = make(tmp_path / "one", 1, {0: lambda pixels, masks: (1 - pixels, masks)})
    found = {s.structure: " ".join(s.reasons) for s in judge(inverted).of("case-000")}
    assert "a lung holds air" in found["lung_left"]
    assert "air" not in found["liver"]


def test_flaws_of_the_files_are_said(tmp_path):
    made = make(tmp_path / "data", 2)
    path = made.folder / "masks" / "case-001.json"
    masks = json.loads(path.read_text())
    masks["heart"]["counts"] = masks["heart"]["counts"][:-3]
    masks["liver"] = to_rle(np.ones((5, 5), bool))
    masks["spleen"] = {"size": [96, 104]}
    del masks["aorta"]
    path.write_text(json.dumps(masks))
    found = {s.structure: " ".join(s.reasons) for s in judge(made).of("case-001")}
    assert "damaged" in found["heart"]
    assert "damaged" in found["spleen"]
    assert "another size" in found["liver"]
    assert "no mask" in found["aorta"]
