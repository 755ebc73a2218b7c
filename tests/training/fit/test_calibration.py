"""Where a model's word for "not here" begins is learnt from answers about both."""

import numpy as np
import pytest

from training.fit.validate import presence_threshold


def test_the_threshold_separates_what_is_there_from_what_is_not():
    assert 0.3 < presence_threshold([0.1, 0.2, 0.3, 0.8, 0.9, 0.99], [False, False, False, True, True, True], range(6)) < 0.8


def test_few_absent_structures_count_as_much_as_many_present_ones():
    rng = np.random.default_rng(0)
    present, absent = rng.beta(9, 1, 2000), rng.beta(6, 3, 60)
    cut = presence_threshold([*present, *absent], [True] * 2000 + [False] * 60, range(2060))
    assert cut > 0.7
    assert (absent < cut).mean() > 0.7
    assert (present >= cut).mean() > 0.7


@pytest.mark.parametrize("presence", [[0.5] * 4, [1.0] * 4, [0.0] * 4])
def test_a_model_that_cannot_tell_gets_a_threshold_all_the_same(presence):
    assert 0.05 <= presence_threshold(presence, [True, True, False, False], [0, 1, 0, 1]) <= 0.95


def test_answers_about_one_image_prove_less_than_about_many():
    rng = np.random.default_rng(1)
    present = rng.beta(30, 1, 400)
    absent = np.where(np.arange(400) < 30, rng.uniform(0.5, 0.97, 400), 0.05)  # all of what is wrong in one image
    given = [*present, *absent], [True] * 400 + [False] * 400
    assert 0.5 <= presence_threshold(*given, [i // 40 for i in range(800)]) < presence_threshold(*given, range(800))
