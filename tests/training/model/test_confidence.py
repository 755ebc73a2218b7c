"""The confidence follows the Dice where certainty says something about it."""

from __future__ import annotations

import numpy as np
import pytest

from training.model.confidence import Confidence
from training.model.decoding import Written


def answer(spread: float, presence: float = 0.99, height: int = 200) -> Written:
    return Written(presence, (100, 100, 100 + height, 300), (0,) * 16, (spread,) * 4, (1.0,) * 16)


@pytest.fixture(scope="module")
def learned() -> Confidence:
    rng = np.random.default_rng(0)
    spreads = rng.uniform(1, 60, 400)
    dice = np.clip(1 - spreads / 70 + rng.normal(0, 0.03, 400), 0, 1)
    structures = ["heart" if i % 2 else "rib_left_5" for i in range(400)]
    dice[::2] *= 0.6
    return Confidence.learn(structures, [answer(s) for s in spreads], dice.tolist(), list(range(400)))


def test_a_surer_answer_is_expected_to_be_better(learned: Confidence) -> None:
    guesses = [learned("heart", answer(s)) for s in (2, 10, 30, 60)]
    assert guesses == sorted(guesses, reverse=True)
    assert learned.correlation > 0.9
    assert learned.error < 0.1


def test_a_structure_that_is_drawn_badly_is_trusted_less(learned: Confidence) -> None:
    assert learned("heart", answer(10)) > learned("rib_left_5", answer(10)) + 0.1
    assert learned("rib_left_5", answer(10)) < learned("spleen", answer(10)) < learned("heart", answer(10))


def test_the_same_doubt_weighs_more_on_a_small_box(learned: Confidence) -> None:
    assert learned("heart", answer(20, height=40)) < learned("heart", answer(20, height=400))


def test_a_card_keeps_it_and_one_of_other_features_is_not_used(learned: Confidence) -> None:
    card = {"confidence": learned.to_dict()}
    again = Confidence.from_card(card)
    assert again is not None
    assert again("heart", answer(7)) == pytest.approx(learned("heart", answer(7)))
    assert Confidence.from_card({}) is None
    assert Confidence.from_card({"confidence": {**card["confidence"], "features": ["constant"]}}) is None
