import pytest

from training.dataset import Reviews, agreements


def decide(folder, reviewer, **verdicts):
    reviews = Reviews(folder, reviewer)
    for name, verdict in verdicts.items():
        reviews.decide(name, "heart", verdict)
    return reviews


def test_kappa_is_cohen_s(dataset):
    """The textbook example: 20 both accept, 5 and 10 apart, 15 both reject give kappa 0.4."""
    one, two = {}, {}
    for number in range(50):
        one[f"c{number}"] = "accept" if number < 25 else "reject"
        two[f"c{number}"] = "accept" if number < 20 or number >= 40 else "reject"
    decide(dataset.folder, "one", **one)
    decide(dataset.folder, "two", **two)
    (pair,) = agreements(dataset.reviews.all())
    assert (pair.one, pair.two, pair.shared, pair.agreed) == ("one", "two", 50, 35)
    assert pair.kappa == pytest.approx(0.4)
    assert len(pair.disagreements) == 15


def test_what_only_one_decided_does_not_count(dataset):
    decide(dataset.folder, "one", a="accept", b="reject")
    decide(dataset.folder, "two", b="accept", c="accept")
    (pair,) = agreements(dataset.reviews.all())
    assert (pair.shared, pair.agreed) == (1, 0)
    ((mine, theirs),) = pair.disagreements
    assert (mine.case_id, mine.verdict, theirs.verdict) == ("b", "reject", "accept")


def test_kappa_says_nothing_when_both_always_said_the_same(dataset):
    decide(dataset.folder, "one", a="accept", b="accept")
    decide(dataset.folder, "two", a="accept", b="accept")
    (pair,) = agreements(dataset.reviews.all())
    assert pair.agreed == 2
    assert pair.kappa is None


def test_a_decision_on_the_case_holds_for_its_masks(dataset):
    Reviews(dataset.folder, "one").decide("a", "", "accept")
    decide(dataset.folder, "two", a="reject")
    (pair,) = agreements(dataset.reviews.all())
    assert (pair.shared, pair.agreed) == (1, 0)


def test_one_reviewer_agrees_with_nobody(dataset):
    decide(dataset.folder, "one", a="accept")
    assert agreements(dataset.reviews.all()) == []
