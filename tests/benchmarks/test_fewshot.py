import numpy as np
import pytest

from benchmarks.bench_fewshot import TESTS, drawn_by_lot
from training.errors import ChexanatomyError
from training.fit import Example
from training.images import Radiograph


def pictures(count, subjects):
    blank, mask = Radiograph(np.zeros((20, 20), np.float32)), np.ones((20, 20), bool)
    return [(f"s{i % subjects}", Example(blank, mask, name=f"s{i % subjects}-{i}")) for i in range(count)]


@pytest.mark.parametrize(("count", "subjects", "scored"), [(14, 14, 4), (60, 60, TESTS), (60, 14, TESTS)])
def test_nobody_is_learnt_from_and_scored_on(count, subjects, scored):
    lessons, tests = drawn_by_lot(pictures(count, subjects), 10, seed=0)
    assert (len(lessons), len(tests)) == (10, scored)
    assert {e.name.split("-")[0] for e in lessons}.isdisjoint(e.name.split("-")[0] for e in tests)


@pytest.mark.parametrize(("count", "subjects"), [(8, 8), (10, 10), (30, 1)])
def test_too_few_pictures_are_refused(count, subjects):
    with pytest.raises(ChexanatomyError, match="too few"):
        drawn_by_lot(pictures(count, subjects), 10, seed=0)
