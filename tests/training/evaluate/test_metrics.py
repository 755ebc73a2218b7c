from __future__ import annotations

import math

import numpy as np
import pytest

from training.errors import ChexanatomyError
from training.evaluate import dice, hd95, iou


def disc(size: int, row: float, column: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[:size, :size]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


def square(top: int, left: int, side: int, size: int = 20) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_half_overlapping_squares_have_the_areas_ratio() -> None:
    a, b = square(0, 0, 10), square(0, 5, 10)
    assert dice(a, b) == pytest.approx(0.5)
    assert iou(a, b) == pytest.approx(50 / 150)


def test_two_empty_masks_agree_and_one_empty_mask_does_not() -> None:
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert (dice(empty, empty), iou(empty, empty)) == (1.0, 1.0)
    assert (dice(empty, full), iou(full, empty)) == (0.0, 0.0)


def test_outline_distance_of_a_shifted_square_is_the_shift_in_millimetres() -> None:
    assert hd95(square(2, 2, 10), square(2, 6, 10), spacing=(0.5, 2.0)) == pytest.approx(8.0)
    assert hd95(square(2, 2, 10), square(6, 2, 10), spacing=(0.5, 2.0)) == pytest.approx(2.0)


def test_outline_distance_is_not_defined_without_an_outline() -> None:
    assert math.isnan(hd95(square(2, 2, 5), np.zeros((20, 20), bool)))


@pytest.mark.parametrize("reference", [disc(96, 50, 44, 20), disc(96, 40, 60, 31), disc(96, 90, 90, 12)])
def test_outline_distance_equals_monais(reference: np.ndarray) -> None:
    import torch
    from monai.metrics import compute_hausdorff_distance

    mask = disc(96, 45, 48, 25) | square(80, 3, 6, 96)
    theirs = compute_hausdorff_distance(
        torch.from_numpy(mask)[None, None],
        torch.from_numpy(reference)[None, None],
        include_background=True,
        percentile=95,
        spacing=(2.0, 0.7),
    )
    assert hd95(mask, reference, (2.0, 0.7)) == pytest.approx(float(theirs), rel=1e-5)


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(ChexanatomyError, match="same pixels"):
        dice(np.zeros((4, 4), bool), np.zeros((4, 5), bool))
