import json

import numpy as np
import pytest

from training.dataset import judge
from training.dataset.second_opinion import OPINIONS, ask, dice, opinions
from training.errors import Cancelled
from training.images import to_rle

from .thorax import draw, make


@pytest.fixture
def asked(tmp_path):
    """A data set, and a model that knows the drawn heart but for some noise; it sees nothing of case 5."""
    made = make(tmp_path / "data", 30)
    calls = []

    def segment(radiograph, structures):
        number = int(radiograph.name.split("-")[1])
        calls.append(number)
        masks = draw(number)[1]
        return {s: None if number == 5 else np.roll(masks[s], number % 3 - 1, axis=1) for s in structures}

    return made, segment, calls


def test_a_mask_that_the_model_does_not_see_is_suspicious(asked):
    made, segment, _ = asked
    before = {s.structure: s.score for s in judge(made).of("case-005")}
    ask(made, made.cases, ["heart", "liver"], segment, "drawn")
    after = {s.structure: s for s in judge(made).of("case-005")}
    assert after["heart"].score > before["heart"] + 2
    assert "The model sees it elsewhere or not at all (Dice 0.00" in " ".join(after["heart"].reasons)
    assert judge(made).cases()[0].id == "case-005"
    assert not any("model" in r for c in made.cases if c.id != "case-005" for s in judge(made).of(c.id) for r in s.reasons)


def test_an_opinion_is_asked_once_and_survives_a_torn_line(asked):
    made, segment, calls = asked

    def stop(report):
        if report.done == 10:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        ask(made, made.cases, ["heart"], segment, "drawn", stop)
    assert len(calls) == 10
    path = made.folder / "cache" / OPINIONS
    path.write_bytes(path.read_bytes() + b'{"model": "dra')
    ask(made, made.cases, ["heart"], segment, "drawn")
    assert sorted(calls) == list(range(30))
    assert len(opinions(made)) == 30


def test_further_structures_are_asked_about_later(asked):
    made, segment, calls = asked
    for structures in (["heart"], ["heart", "liver"], ["liver"]):
        ask(made, made.cases, structures, segment, "drawn")
    assert len(calls) == 60
    assert {structure for _, structure in opinions(made)} == {"heart", "liver"}


def test_masks_that_cannot_be_used_are_passed_over(asked):
    made, segment, calls = asked
    for number, code in ((3, {"size": [4, 4], "counts": "broken"}), (4, to_rle(np.ones((9, 9), bool)))):
        path = made.folder / "masks" / f"case-{number:03d}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "heart": code}))
    ask(made, made.cases, ["heart"], segment, "drawn")
    assert sorted(calls) == [n for n in range(30) if n not in (3, 4)]
    assert len(opinions(made)) == 28


def test_dice_of_nothing_and_of_something():
    some, none = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    assert (dice(some, some), dice(some, none), dice(some, None), dice(none, None)) == (1, 0, 0, 1)
