from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from training.errors import ChexanatomyError
from training.evaluate import MeanMask, Report, Scored, compare, evaluate, write_report
from training.evaluate.comparison import opposite
from training.images import Radiograph
from training.model.predictor import Finding

SIZE = (40, 60)


def patch(top: int, left: int, height: int = 20, width: int = 10) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = True
    return mask


RIGHT, LEFT, NOTHING = patch(10, 10), patch(10, 40), np.zeros(SIZE, bool)


def scored(
    id_: str, subject: str, spacing: tuple[float, float] | None = (0.5, 0.5), view: str = "PA", **references: np.ndarray
) -> Scored:
    radiograph = Radiograph(np.zeros(SIZE, np.float32), spacing=spacing, view=view, name=id_)
    return Scored(id_, subject, radiograph, references or {"lung_right": RIGHT, "lung_left": LEFT})


class Answering:
    """A segmenter whose answers follow from the structure's name alone."""

    def __init__(self, answer: Callable[[str], np.ndarray], text: str = "") -> None:
        self._answer, self._text = answer, text

    def segment(self, radiograph: Radiograph, structures: Sequence[str]) -> list[Finding]:
        findings = []
        for name in structures:
            mask = self._answer(name)
            text = self._text or (f"{'<loc0100>' * 2}{'<loc0200>' * 2}{'<seg001>' * 16} {name}" if mask.any() else f"none {name}")
            findings.append(Finding(name, bool(mask.any()), (0, 0, 1, 1), mask if mask.any() else None, 0.9, (), text))
        return findings


PERFECT = Answering({"lung_right": RIGHT, "lung_left": LEFT, "heart": NOTHING}.__getitem__)
EXCHANGED = Answering({"lung_right": LEFT, "lung_left": RIGHT, "heart": RIGHT}.__getitem__)


def test_a_perfect_model_scores_one_and_a_mirrored_one_is_caught_exchanging_sides() -> None:
    images = [scored("a", "p"), scored("b", "q")]
    report = compare({"perfect": PERFECT, "mirrored": EXCHANGED}, images, "two")
    perfect, mirrored = report.models
    assert [s.dice for s in perfect.structures] == [1.0, 1.0]
    assert [s.exchanged for s in perfect.structures] == [0, 0]
    assert [s.dice for s in mirrored.structures] == [0.0, 0.0]
    assert [s.exchanged for s in mirrored.structures] == [2, 2]
    from_the_side = compare({"mirrored": EXCHANGED}, [scored("a", "p", view="LATERAL")], "lateral").models[0]
    assert [s.exchanged for s in from_the_side.structures] == [0, 0]
    assert (report.n_images, report.n_subjects) == (2, 2)


def test_an_absent_structure_is_counted_and_leaves_dice_alone() -> None:
    images = [scored("a", "p", heart=NOTHING)]
    right = evaluate(PERFECT, images, "one").models[0].structures[0]
    wrong = evaluate(EXCHANGED, images, "one").models[0].structures[0]
    assert (right.n, right.n_absent, right.absent_right) == (0, 1, 1)
    assert (wrong.n, wrong.n_absent, wrong.absent_right) == (0, 1, 0)
    assert np.isnan(right.dice)


def test_a_missed_structure_costs_its_dice() -> None:
    silent = Answering(lambda name: NOTHING)
    score = evaluate(silent, [scored("a", "p")], "one").models[0].structures[0]
    assert (score.dice, score.missed) == (0.0, 1)
    assert np.isnan(score.hd95)


def test_a_union_target_is_scored_as_one_mask() -> None:
    images = [scored("a", "p", **{"lung_right+lung_left": RIGHT | LEFT})]
    score = evaluate(PERFECT, images, "one").models[0].structures[0]
    assert (score.structure, score.dice) == ("lung_right+lung_left", 1.0)


def test_distances_are_millimetres_where_the_pitch_is_known_and_pixels_where_it_never_is() -> None:
    shifted = Answering(lambda name: patch(10, 14) if name == "lung_right" else patch(10, 44))
    known = evaluate(shifted, [scored("a", "p"), scored("b", "q", spacing=None)], "mixed").models[0].structures[0]
    unknown = evaluate(shifted, [scored("b", "q", spacing=None)], "pixels").models[0].structures[0]
    assert (known.hd95, known.hd95_unit) == (2.0, "mm")
    assert (unknown.hd95, unknown.hd95_unit) == (4.0, "px")


def test_unreadable_answers_are_counted() -> None:
    broken = Answering(lambda name: RIGHT, text="<loc0001><loc0002> lung")
    assert evaluate(broken, [scored("a", "p")], "one").models[0].structures[0].invalid == 1


def test_the_interval_draws_subjects_and_not_their_images() -> None:
    good, bad = Answering(lambda name: RIGHT), [scored(f"{s}{i}", s) for s in "pq" for i in range(50)]
    flat = evaluate(good, bad, "two subjects").models[0].structures[0]
    assert flat.dice_interval == (flat.dice, flat.dice)
    alone = evaluate(good, [scored("a", "p")], "one subject").models[0].structures[0]
    assert np.isnan(alone.dice_interval[0])


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(ChexanatomyError, match="no image"):
        evaluate(PERFECT, [], "nothing")


class Taught(Answering):
    """One that says what it was not taught."""

    def __init__(self, *not_taught: str) -> None:
        super().__init__({"lung_right": RIGHT, "lung_left": LEFT, "heart": NOTHING}.__getitem__)
        self._not_taught = not_taught

    def untaught(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self._not_taught]


def test_models_are_compared_on_what_all_of_them_were_taught() -> None:
    images = [scored("a", "p", lung_left=LEFT, lung_right=RIGHT, heart=NOTHING, **{"lung_left+lung_right": LEFT | RIGHT})]
    report = compare({"knowing": Taught(), "other": Taught("lung_right"), "third": Taught("heart")}, images, "one")
    assert [[s.structure for s in model.structures] for model in report.models] == [["lung_left"]] * 3
    (note,) = report.notes
    assert note == (
        "Left out, because not every model was taught it: lung_right, lung_left+lung_right (not other); heart (not third)."
    )
    alone = compare({"other": Taught("lung_right")}, images, "one")
    assert len(alone.models[0].structures) == 4
    with pytest.raises(ChexanatomyError, match="not every model was taught it: lung_left"):
        compare({"knowing": Taught(), "other": Taught("lung_left")}, [scored("a", "p", lung_left=LEFT)], "one")


def test_images_that_say_nothing_about_what_was_asked_for_are_an_error() -> None:
    image = scored("a", "p")
    with pytest.raises(ChexanatomyError, match="No image of one says anything"):
        evaluate(PERFECT, [Scored("a", "p", image.radiograph, {})], "one")


def test_the_mean_mask_is_the_training_images_majority_at_any_size() -> None:
    training = [scored(str(i), str(i), lung_left=LEFT) for i in range(3)] + [scored("x", "x", lung_left=RIGHT)]
    mean = MeanMask(training)
    small = Radiograph(np.zeros((20, 30), np.float32), view="PA")
    answer = mean.answer(small, ["lung_left", "heart"])
    assert answer["lung_left"].shape == (20, 30)
    assert answer["lung_left"][10, 22]
    assert not answer["lung_left"][10, 7]
    assert not answer["heart"].any()


def test_the_mean_mask_keeps_views_apart_and_falls_back_on_all() -> None:
    mean = MeanMask([scored("a", "a", lung_left=LEFT), scored("b", "b", view="LATERAL", lung_left=RIGHT)])
    views = {
        v: mean.answer(Radiograph(np.zeros(SIZE, np.float32), view=v), ["lung_left"])["lung_left"] for v in ("PA", "LATERAL", "")
    }
    assert views["PA"][20, 44]
    assert not views["PA"][20, 14]
    assert views["LATERAL"][20, 14]
    assert views[""].any()


def test_leaving_one_out_takes_its_mask_out_of_the_mean() -> None:
    images = [scored("a", "a", lung_left=LEFT), scored("b", "b", lung_left=LEFT), scored("c", "c", lung_left=RIGHT)]
    mean = MeanMask(images)
    assert compare({"m": PERFECT}, images[2:], "c", mean, leave_one_out=True).models[1].structures[0].dice == 0.0
    only = MeanMask(images[:1])
    assert not only.answer(images[0].radiograph, ["lung_left"], leave_out="a")["lung_left"].any()


def test_any_image_can_be_left_out_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.evaluate.baseline.LOOKED_AT", 1)
    mean = MeanMask([scored("first", "a", lung_left=RIGHT), scored("later", "b", lung_left=LEFT)])
    everything = mean.answer(scored("x", "x").radiograph, ["lung_left"])["lung_left"]
    without = mean.answer(scored("x", "x").radiograph, ["lung_left"], leave_out="later")["lung_left"]
    assert everything[20, 44]
    assert without[20, 14]
    assert not without[20, 44]


def test_oblique_pictures_have_a_mean_of_their_own() -> None:
    oblique = Radiograph(np.zeros(SIZE, np.float32), reconstructed=True)
    mean = MeanMask([*(scored(n, n, lung_left=LEFT) for n in "abc"), Scored("o", "o", oblique, {"lung_left": RIGHT})])
    unknown = Radiograph(np.zeros(SIZE, np.float32))
    answers = [mean.answer(radiograph, ["lung_left"])["lung_left"] for radiograph in (oblique, unknown)]
    assert [bool(a[20, 14]) for a in answers] == [True, False]
    assert [bool(a[20, 44]) for a in answers] == [False, True]


def report_of_two() -> Report:
    images = [scored("a", "p"), scored("b", "q", heart=NOTHING)]
    return compare({"perfect": PERFECT, "mirrored": EXCHANGED}, images, "two images", MeanMask(images), leave_one_out=True)


def test_the_report_is_written_for_people_and_for_programs(tmp_path: Path) -> None:
    report = report_of_two()
    write_report(report, tmp_path / "report")
    record = json.loads((tmp_path / "report/report.json").read_text())
    assert record["models"][0]["mean_dice"] == 1.0
    assert record["models"][0]["structures"][2]["dice"] is None
    page = (tmp_path / "report/report.md").read_text()
    assert "not for diagnosis" in page
    assert "| lung_right | 1 | 1.000 |" in page
    assert "Dice of mirrored" in page
    assert "Dice of mean mask" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("lung_left", "lung_right"),
        ("rib_right_5", "rib_left_5"),
        ("heart", None),
        ("lung_middle_lobe_right", None),
        ("spine", None),
    ],
)
def test_the_other_side_of_a_structure(name: str, other: str | None) -> None:
    assert opposite(name) == other
