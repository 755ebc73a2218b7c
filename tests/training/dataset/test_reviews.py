import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from training.dataset import Dataset, Reviews, judge, reviews
from training.errors import BrokenDataset


def test_the_last_decision_counts_and_undo_brings_back_the_one_before(dataset):
    reviews = dataset.reviews
    reviews.decide("someone-00001", "heart", "accept")
    reviews.decide("someone-00001", "heart", "reject", "too small")
    decision = reviews.decision("someone-00001", "heart")
    assert (decision.verdict, decision.comment) == ("reject", "too small")
    assert reviews.excluded() == {("someone-00001", "heart")}
    assert reviews.undo() == "someone-00001"
    assert reviews.decision("someone-00001", "heart").verdict == "accept"
    assert reviews.undo() == "someone-00001"
    assert reviews.decision("someone-00001", "heart") is None
    assert reviews.undo() is None


def test_decisions_are_there_after_opening_again(dataset):
    dataset.reviews.decide("someone-00002", "", "flag", "odd")
    assert Dataset.open(dataset.folder).reviews.decision("someone-00002").verdict == "flag"


def test_two_reviewers_are_kept_apart_and_either_can_exclude(dataset):
    one, two = Reviews(dataset.folder, "one"), Reviews(dataset.folder, "two")
    one.decide("someone-00001", "heart", "accept")
    two.decide("someone-00001", "heart", "reject")
    assert one.decision("someone-00001", "heart").verdict == "accept"
    assert two.decision("someone-00001", "heart").verdict == "reject"
    assert ("someone-00001", "heart") in one.excluded()
    assert len(one.all()) == 2


def test_a_correction_replaces_the_mask_and_keeps_the_original(dataset):
    case = dataset.cases[0]
    before = (dataset.folder / "masks" / f"{case.id}.json").read_bytes()
    repaired = np.zeros((120, 100), bool)
    repaired[5:9, 5:9] = True
    dataset.reviews.correct(case.id, "heart", repaired)
    np.testing.assert_array_equal(dataset.masks(case)["heart"], repaired)
    assert (dataset.folder / "masks" / f"{case.id}.json").read_bytes() == before
    dataset.reviews.undo()
    assert dataset.masks(case)["heart"].sum() > 100


def test_another_verdict_is_refused(dataset):
    with pytest.raises(BrokenDataset):
        dataset.reviews.decide("someone-00001", "", "perhaps")


def test_looking_without_deciding_makes_no_file(dataset):
    assert dataset.reviews.all() == []
    assert dataset.reviews.excluded() == set()
    assert not (dataset.folder / "reviews.sqlite").exists()


def test_a_damaged_review_file_is_an_error_and_stays_as_it_is(dataset):
    path = dataset.folder / "reviews.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(BrokenDataset, match=r"reviews\.sqlite"):
        dataset.reviews.decide("someone-00001", "", "accept")
    assert path.read_bytes() == b"no database" * 100


def test_decisions_survive_a_kill(dataset):
    program = (
        "import os, signal, sys\nfrom training.dataset import Reviews\nr = Reviews(sys.argv[1], 'x')\n"
        "for i in range(30):\n    r.decide(f'c{i}', '', 'accept')\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(dataset.folder)], check=False)
    assert ended.returncode == -9
    assert len(dataset.reviews.all()) == 30
    with sqlite3.connect(dataset.folder / "reviews.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_repair_settles_rejections_before_it_and_not_those_after_it(dataset):
    one, two = Reviews(dataset.folder, "one"), Reviews(dataset.folder, "two")
    mask = np.ones((120, 100), bool)
    one.decide("someone-00001", "heart", "reject")
    two.correct("someone-00001", "heart", mask)
    assert dataset.reviews.excluded() == set()
    assert two.decision("someone-00001", "heart").verdict == "accept"
    two.undo()
    assert two.decision("someone-00001", "heart") is None
    assert dataset.reviews.excluded() == {("someone-00001", "heart")}
    two.correct("someone-00001", "heart", mask)
    one.decide("someone-00001", "heart", "reject", "still wrong")
    assert dataset.reviews.excluded() == {("someone-00001", "heart")}


def test_a_decision_on_many_cases_is_undone_at_once(dataset):
    dataset.reviews.decide_all([c.id for c in dataset.cases[:5]], "", "reject", "blurred")
    assert len(dataset.reviews.excluded()) == 5
    dataset.reviews.undo()
    assert dataset.reviews.all() == []


def test_what_review_left_in_lists_neither_rejected_masks_nor_cases(dataset):
    dataset.reviews.decide("someone-00000", "", "reject")
    dataset.reviews.decide("someone-00001", "heart", "reject")
    dataset.reviews.decide("someone-00002", "heart", "flag")
    kept = {case.id: case for case in dataset.kept()}
    assert len(kept) == 19
    assert kept["someone-00001"].present == ("lung_left", "lung_right")
    assert kept["someone-00002"] == dataset.case("someone-00002")


def test_a_mask_drawn_for_a_structure_that_was_absent_makes_it_present(dataset):
    mask = np.zeros((120, 100), bool)
    mask[90:110, 20:50] = True
    dataset.reviews.correct("someone-00004", "colon", mask)
    case = Dataset.open(dataset.folder).case("someone-00004")
    assert "colon" in case.present
    assert "colon" not in case.absent
    np.testing.assert_array_equal(dataset.masks(case)["colon"], mask)
    assert "colon" not in dataset.original_masks(case)


def test_a_rejection_after_a_repair_counts_though_its_clock_is_behind(dataset, monkeypatch):
    one, two = Reviews(dataset.folder, "one"), Reviews(dataset.folder, "two")
    monkeypatch.setattr(reviews, "_now", lambda: "2030-01-01T00:01:00.000000+00:00")
    one.decide("someone-00001", "heart", "reject")
    monkeypatch.setattr(reviews, "_now", lambda: "2030-01-01T00:00:30.000000+00:00")
    two.correct("someone-00001", "heart", np.ones((120, 100), bool))
    assert dataset.reviews.excluded() == set()
    monkeypatch.setattr(reviews, "_now", lambda: "2030-01-01T00:00:00.000000+00:00")
    one.decide("someone-00001", "heart", "reject", "still wrong")
    assert dataset.reviews.excluded() == {("someone-00001", "heart")}


def test_a_mask_that_was_wiped_out_is_absent(dataset):
    case = dataset.cases[4]
    dataset.reviews.correct(case.id, "heart", np.zeros((120, 100), bool))
    case = Dataset.open(dataset.folder).case(case.id)
    assert "heart" not in case.present
    assert "heart" in case.absent
    assert set(dataset.masks(case)) == {"lung_left", "lung_right"}
    (found,) = (s for s in judge(Dataset.open(dataset.folder)).of(case.id) if s.structure == "heart")
    assert "comparable" in " ".join(found.reasons), "looked at as what the case lacks, not as a mask"
    mask = np.zeros((120, 100), bool)
    mask[60:88, 40:72] = True
    dataset.reviews.correct(case.id, "heart", mask)
    assert "heart" in Dataset.open(dataset.folder).case(case.id).present
