"""Boxes written as location bins and read back."""

import numpy as np
import pytest

from training.tokens.boxes import LOC_BINS, bins_to_box, box_to_bins, is_box, tight_box


def test_the_whole_image_is_the_first_and_the_last_bin():
    assert box_to_bins((0, 0, 300, 500), (300, 500)) == (0, 0, 1023, 1023)
    assert bins_to_box((0, 0, 1023, 1023), (300, 500)) == (0, 0, 300, 500)


def test_bins_are_ordered_top_left_bottom_right():
    assert box_to_bins((10, 40, 20, 80), (100, 100)) == (102, 409, 205, 818)


@pytest.mark.parametrize("size", [(224, 224), (2048, 1500), (37, 911)])
def test_a_box_survives_within_half_a_bin(size):
    rng = np.random.default_rng(0)
    for _ in range(50):
        top, bottom = sorted(rng.uniform(0, size[0], 2))
        left, right = sorted(rng.uniform(0, size[1], 2))
        back = bins_to_box(box_to_bins((top, left, bottom, right), size), size)
        half = np.array([size[0], size[1], size[0], size[1]]) / (LOC_BINS - 1)
        assert np.all(np.abs(np.subtract(back, (top, left, bottom, right))) <= half + 1e-9)


@pytest.mark.parametrize("box", [(5, 5, 5, 5), (100, 100, 100, 100), (-50, 120, -10, 180), (60, 60, 20, 20)])
def test_an_empty_or_outside_box_still_writes_as_a_box(box):
    bins = box_to_bins(box, (100, 100))
    assert is_box(bins)


def test_inverted_or_out_of_range_bins_are_no_box():
    assert not is_box((500, 0, 100, 100))
    assert not is_box((0, 100, 100, 100))
    assert not is_box((0, 0, 10, 1024))
    assert not is_box((-1, 0, 10, 10))


def test_a_tight_box_is_padded_per_side_and_clipped():
    mask = np.zeros((1000, 2000), bool)
    mask[100:200, 5:1000] = True
    assert tight_box(mask) == pytest.approx((89, 0, 211, 1022))
    assert tight_box(mask, pad=0) == (100, 5, 200, 1000)


def test_one_pixel_has_a_box_and_nothing_has_none():
    mask = np.zeros((50, 50), bool)
    assert tight_box(mask) is None
    mask[49, 49] = True
    assert tight_box(mask, pad=0) == (49, 49, 50, 50)
