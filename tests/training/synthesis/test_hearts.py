"""Hearts without the vessels that some label maps have in them."""

import numpy as np
import pytest

from tests.conftest import shared_data
from training.images import LabelMap, read_labels
from training.synthesis.hearts import without_vessels

SPACING = (2.0, 3.0, 2.5)


def ball_with_a_tube(names):
    """A heart of 70 mm with a vessel of 16 mm out of its top towards both sides; one half of the vessel is of a second id."""
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip((60, 40, 80), SPACING[::-1], strict=True)), indexing="ij")
    ball = (x - 80) ** 2 + (y - 60) ** 2 + (z - 50) ** 2 < 35**2
    tube = ((z - 100) ** 2 + (y - 60) ** 2 < 8**2) & (abs(x - 80) < 60)
    stalk = ((x - 80) ** 2 + (y - 60) ** 2 < 8**2) & (z > 50) & (z < 100)
    ids = (ball | tube | stalk).astype(np.uint8)
    ids[tube & (x > 80)] = 2
    return LabelMap(ids, names, SPACING, (0.0, 0.0, 0.0)), ball, tube


def test_what_is_narrow_from_the_front_is_heart_no_more_and_keeps_its_other_names():
    labels, ball, tube = ball_with_a_tube({1: ("heart",), 2: ("heart", "left half")})
    bare = without_vessels(labels, 44.0)
    heart = bare.mask("heart")
    assert not (heart & tube).any()
    assert (heart & ball).sum() > 0.98 * ball.sum()
    assert np.array_equal(bare.mask("left half"), labels.mask("left half"))
    assert np.array_equal(without_vessels(bare, 44.0).mask("heart"), heart)
    assert labels.mask("heart").sum() > heart.sum()


@pytest.mark.parametrize("width", [10.0, 90.0])
def test_a_heart_stays_whose_vessels_are_wider_or_that_is_narrower_altogether(width):
    labels, _, _ = ball_with_a_tube({1: ("heart",), 2: ("heart",)})
    kept = without_vessels(labels, width).mask("heart").sum() / labels.mask("heart").sum()
    assert kept > 0.98


def test_labels_without_a_heart_stay():
    labels, _, _ = ball_with_a_tube({1: ("aorta",), 2: ("liver",)})
    assert without_vessels(labels, 44.0) is labels


def test_a_heart_of_totalsegmentator_loses_its_arteries_above_and_nothing_below():
    labels = read_labels(shared_data("masks_totalseg_s0011"), None)
    before, after = labels.mask("heart"), without_vessels(labels, 44.0).mask("heart")
    rows = [np.flatnonzero(mask.any(axis=(1, 2))) * labels.spacing[2] for mask in (before, after)]
    assert rows[1][0] - rows[0][0] < 4
    assert 25 < rows[0][-1] - rows[1][-1] < 45
    assert 0.8 < after.sum() / before.sum() < 0.95
    sides = [np.flatnonzero(mask.any(axis=(0, 1))) for mask in (before, after)]
    assert abs(sides[0][-1] - sides[1][-1]) * labels.spacing[0] < 4
