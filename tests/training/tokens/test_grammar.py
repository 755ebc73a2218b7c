"""Prompts and answers written, read back, and read from what a model might say instead."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.errors import UnknownStructure
from training.tokens.grammar import (
    Answer,
    caption_box_prompt,
    caption_mask_prompt,
    clean_name,
    detect_prompt,
    read_answer,
    read_view,
    segment_prompt,
    write_answer,
    write_view,
)

BOX = (12, 0, 1023, 700)
CODES = tuple(range(16))
BOX_TEXT = "<loc0012><loc0000><loc1023><loc0700>"
MASK_TEXT = "".join(f"<seg{i:03d}>" for i in range(16))


def test_an_answer_is_written_in_paligemmas_format():
    assert write_answer(Answer(BOX, CODES, "heart")) == f"{BOX_TEXT}{MASK_TEXT} heart"
    assert write_answer(Answer(BOX, None, "heart")) == f"{BOX_TEXT} heart"
    assert write_answer(Answer(None, None, "heart", present=False)) == "none heart"
    assert write_answer(Answer(None, None, "heart")) == "heart"


def test_several_answers_survive_writing_and_reading():
    answers = [
        Answer(BOX, CODES, "left lung"),
        Answer(None, None, "liver", present=False),
        Answer((1, 2, 3, 4), None, "fifth right rib"),
    ]
    text = write_answer(answers)
    assert text.count(" ; ") == 2
    assert read_answer(text) == (answers, 0)


def test_prompts_of_all_tasks():
    assert segment_prompt("heart") == "segment heart"
    assert segment_prompt(["heart", " left\tclavicle"]) == "segment heart ; left clavicle"
    assert detect_prompt(("heart", "aorta")) == "detect heart ; aorta"
    assert caption_box_prompt(BOX) == f"caption {BOX_TEXT}"
    assert caption_mask_prompt(CODES) == f"caption {MASK_TEXT}"
    assert caption_mask_prompt(CODES, BOX) == f"caption {BOX_TEXT}{MASK_TEXT}"


@pytest.mark.parametrize("view", ["PA", "AP", "LATERAL", "OBLIQUE"])
def test_views_survive_writing_and_reading(view):
    assert read_view(f"<bos>{write_view(view)}<eos>") == view


def test_other_words_name_no_view():
    assert read_view("posteroanterior") == "PA"
    assert read_view("sideways") is None
    assert read_view("") is None


@pytest.mark.parametrize("name", ["", "  ", "a;b", "<loc0001>", "none", "None of these", "a\ud800"])
def test_names_that_could_not_be_read_back_are_refused(name):
    with pytest.raises(UnknownStructure):
        clean_name(name)
    with pytest.raises(UnknownStructure):
        write_answer(Answer(BOX, CODES, name))


@pytest.mark.parametrize(
    "text",
    [
        f"{BOX_TEXT}{MASK_TEXT} heart<eos>",
        f"<bos> {BOX_TEXT} {MASK_TEXT}heart ;",
        f"\n{BOX_TEXT.replace('><', '> <')}{MASK_TEXT}   heart\n<pad><pad>",
    ],
)
def test_spacing_and_control_tokens_do_not_matter(text):
    assert read_answer(text, needs="mask") == ([Answer(BOX, CODES, "heart")], 0)


def test_a_missing_name_is_accepted():
    assert read_answer(f"{BOX_TEXT}{MASK_TEXT}") == ([Answer(BOX, CODES, "")], 0)
    assert read_answer("none") == ([Answer(None, None, "", present=False)], 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "heart",
        "<loc0012><loc0000><loc1023> heart",
        f"{BOX_TEXT}<loc0001> heart",
        f"{BOX_TEXT}{MASK_TEXT[:-8]} heart",
        f"{BOX_TEXT}{MASK_TEXT}<seg001> heart",
        f"{MASK_TEXT} heart",
        f"{MASK_TEXT}{BOX_TEXT} heart",
        f"{BOX_TEXT} heart {MASK_TEXT}",
        "<loc0500><loc0000><loc0400><loc0700> inverted",
        "<loc0000><loc0100><loc0400><loc0100> no width",
        "<loc0000><loc0000><loc1024><loc0700> out of range",
        f"{BOX_TEXT}{MASK_TEXT.replace('<seg015>', '<seg128>')} heart",
        "<loc001\u0662>" * 4,
    ],
)
def test_what_is_no_answer_is_counted_as_invalid(text):
    assert read_answer(text) == ([], 1)


def test_an_invalid_item_does_not_spoil_its_neighbours():
    answers, invalid = read_answer(f"{BOX_TEXT} heart ; <loc0001> liver ; ; none spleen")
    assert [answer.name for answer in answers] == ["heart", "spleen"]
    assert invalid == 2


def test_what_an_answer_needs_depends_on_the_prompt():
    assert read_answer(f"{BOX_TEXT} heart", needs="mask") == ([], 1)
    assert read_answer("left lung", needs="name") == ([Answer(None, None, "left lung")], 0)


def test_random_text_never_raises():
    rng = random.Random(0)
    pieces = [
        "<loc0001>",
        "<loc1023>",
        "<seg000>",
        "<seg127>",
        "<seg999>",
        " ",
        ";",
        "none",
        "heart",
        "<",
        ">",
        "\n",
        "<eos>",
        "\x00",
        "é",
        "\ud800",
    ]
    for _ in range(2000):
        text = "".join(rng.choices(pieces, k=rng.randrange(40)))
        answers, invalid = read_answer(text, needs=rng.choice(["mask", "box", "name"]))
        assert len(answers) + invalid >= 1
        assert all(answer.codes is None or len(answer.codes) == 16 for answer in answers)


NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="<>;"), min_size=1, max_size=20)


@st.composite
def any_answer(draw: st.DrawFn) -> Answer:
    words = draw(NAMES.map(lambda text: " ".join(text.split())).filter(lambda t: t and t.split()[0].lower() != "none"))
    if draw(st.booleans()):
        return Answer(None, None, words, present=False)
    (top, bottom), (left, right) = (
        sorted(draw(st.lists(st.integers(0, 1023), min_size=2, max_size=2, unique=True))) for _ in "yx"
    )
    codes = draw(st.one_of(st.none(), st.lists(st.integers(0, 127), min_size=16, max_size=16).map(tuple)))
    return Answer((top, left, bottom, right), codes, words)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(any_answer(), min_size=1, max_size=5))
def test_whatever_is_written_is_read_back(answers):
    assert read_answer(write_answer(answers)) == (answers, 0)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.text(max_size=80), st.sampled_from(["mask", "box", "name"]))
def test_any_text_is_read_without_an_error_and_every_item_is_counted(text, needs):
    answers, invalid = read_answer(text, needs)
    assert len(answers) + invalid >= 1
