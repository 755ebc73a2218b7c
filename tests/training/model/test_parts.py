"""Structures that are put together from their parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.anatomy import trainable, vocabulary
from training.errors import BrokenModel
from training.images import Radiograph
from training.model import Finding, Predictor, load, save_checkpoint
from training.model.checkpoint import create
from training.model.parts import answered_by, parts_of, united
from training.tokens import read_answer
from training.tokens.codebook import MaskCodebook
from training.tokens.tokenizer import build_tokenizer

RIBS = vocabulary()["ribs_left"].labels


@pytest.fixture(scope="module")
def predictor(codebook_file: Path) -> Predictor:
    sizes = {"image_size": 64, "vision_width": 32, "vision_depth": 2, "text_width": 32, "text_depth": 2, "text_hidden": 64}
    checkpoint = create(build_tokenizer(), MaskCodebook.load(codebook_file), seed=5, **sizes)
    checkpoint.card.update({"structures": list(trainable()), "presence_threshold": 0.0, "in_parts": {"ribs_left": list(RIBS)}})
    return Predictor(checkpoint, "cpu")


def with_card(predictor: Predictor, **entries: object) -> Predictor:
    return Predictor(replace(predictor.checkpoint, card={**predictor.card, **entries}), "cpu")


def test_what_the_card_lists_is_the_union_of_its_parts(predictor: Predictor, radiograph: Radiograph) -> None:
    left, heart, again = predictor.segment(radiograph, ["left ribs", "heart", "ribs_left"])
    ribs = predictor.segment(radiograph, RIBS)
    assert (left.structure, heart.structure) == ("ribs_left", "heart")
    assert np.array_equal(left.mask, np.logical_or.reduce([rib.mask for rib in ribs if rib.mask is not None]))
    assert np.array_equal(left.mask, again.mask)
    assert left.confidence == pytest.approx(np.mean([rib.confidence for rib in ribs if rib.present]))
    edges = np.array([rib.box for rib in ribs if rib.box is not None])
    assert np.allclose(left.box, [*edges[:, :2].min(0), *edges[:, 2:].max(0)])
    answers, unread = read_answer(left.text)
    assert (len(answers), unread) == (len(RIBS), 0)
    (whole,) = with_card(predictor, in_parts={}).segment(radiograph, ["ribs_left"])
    assert len(read_answer(whole.text)[0]) == 1
    looks = predictor.segment(radiograph, ["ribs_left"], accurate=True)
    assert looks[0].probability is not None
    assert looks[0].probability.shape == radiograph.pixels.shape


def test_nothing_is_there_where_no_part_is(predictor: Predictor, radiograph: Radiograph) -> None:
    (none,) = with_card(predictor, presence_threshold=1.01).segment(radiograph, ["ribs_left"])
    assert (none.present, none.box, none.mask) == (False, None, None)
    assert 0 <= none.confidence <= 1
    assert not any(answer.present for answer in read_answer(none.text)[0])


def test_parts_are_what_the_model_was_taught(predictor: Predictor) -> None:
    card = predictor.card
    assert parts_of("ribs_left", trainable()) == RIBS
    assert parts_of("heart", ["heart", "heart_atrium_left"]) == ()
    assert parts_of("my own", trainable()) == ()
    assert answered_by("spine", card) == ("spine",)
    assert answered_by("ribs_left", card) == RIBS
    assert answered_by("ribs_left", {**card, "from_drawings": ["ribs_left"]}) == ("ribs_left",)
    assert answered_by("ribs_left", {}) == ("ribs_left",)


@pytest.mark.parametrize(
    "wrong", ["ribs", ["ribs"], {"ribs": "rib_left_1"}, {"ribs": ["rib"]}, {"ribs": [3]}, {"ribs": [["rib_left_1"]]}]
)
def test_parts_of_another_form_are_refused(predictor: Predictor, tmp_path: Path, wrong: object) -> None:
    save_checkpoint(replace(predictor.checkpoint, card={**predictor.card, "in_parts": wrong}), tmp_path)
    with pytest.raises(BrokenModel, match="in_parts"):
        load(tmp_path)


def test_the_answers_of_parts_that_are_absent_count_for_nothing() -> None:
    mask, chance = np.array([[True, False]]), np.array([[0.9, 0.2]], np.float32)
    there = Finding("rib_left_1", True, (0.0, 0.0, 1.0, 1.0), mask, 0.7, (), "", chance)
    denied = Finding("rib_left_2", False, None, None, 0.6, (), "", chance[:, ::-1])
    both = united("ribs_left", [there, denied])
    assert (both.present, both.confidence) == (True, 0.7)
    assert both.probability is not None
    assert np.array_equal(both.probability > 0.5, mask)
    assert united("ribs_left", [denied, replace(denied, confidence=0.9)]).confidence == 0.6
