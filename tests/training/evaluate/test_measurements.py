"""Cardiothoracic ratio, lung areas and agreement on shapes whose answers are known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from training.errors import ChexanatomyError
from training.evaluate import agree, cardiothoracic, lung_areas, overlap_map, read_references
from training.evaluate.agreement import BOTH, PREDICTION_ONLY, REFERENCE_ONLY
from training.images import write_mask_png

SHAPE = (100, 200)


def box(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def chest() -> dict[str, np.ndarray]:
    """Lungs from column 20 to 179, wider by 10 columns on either side in row 70; a heart 80 columns wide."""
    right, left = box(10, 80, 20, 90), box(10, 80, 110, 180)
    right[70, 10:20] = True
    left[70, 180:190] = True
    return {"lung_outline_right": right, "lung_outline_left": left, "heart": box(40, 70, 70, 150)}


def test_the_ratio_is_heart_over_the_widest_row_of_the_chest(chest):
    measured = cardiothoracic(chest, (0.5, 2.0))
    assert measured.heart_width == pytest.approx(80 * 2.0)
    assert measured.chest_width == pytest.approx(180 * 2.0)
    assert measured.ratio == pytest.approx(80 / 180)
    assert measured.unit == "mm"
    assert measured.chest.start == (70, 10)
    assert measured.chest.end == (70, 189)


def test_the_midline_divides_the_heart_and_does_not_change_its_width(chest):
    through_spine = cardiothoracic({**chest, "spine": box(0, 100, 80, 91)})
    assert through_spine.right.start[1] == 85
    assert through_spine.ratio == pytest.approx(cardiothoracic(chest).ratio)
    aside = cardiothoracic({**chest, "spine": box(0, 100, 190, 199)})
    assert aside.ratio == pytest.approx(80 / 180)


def test_a_stray_pixel_far_from_heart_and_lung_changes_nothing(chest):
    plain = cardiothoracic(chest).ratio
    for name in ("heart", "lung_outline_left"):
        chest[name][5, 199] = True
    assert cardiothoracic(chest).ratio == pytest.approx(plain)


def test_outlines_are_preferred_and_projected_lungs_serve_where_there_is_nothing_else(chest):
    others = {"lung_right": box(10, 95, 30, 90), "lung_left": box(10, 95, 110, 170)}
    assert cardiothoracic({**chest, **others}).lungs == "outline"
    assert cardiothoracic({**others, "heart": chest["heart"]}).lungs == "projected"


@pytest.mark.parametrize(
    ("change", "view", "expected"),
    [
        ({"heart": np.zeros(SHAPE, bool)}, "PA", "no heart"),
        ({"lung_outline_left": np.zeros(SHAPE, bool)}, "PA", "Both lungs"),
        ({"lung_outline_left": box(90, 99, 110, 180)}, "PA", "different heights"),
        ({"lung_outline_right": box(10, 80, 110, 180), "lung_outline_left": box(10, 80, 20, 90)}, "PA", "mirrored"),
        ({}, "LATERAL", "frontal"),
    ],
)
def test_what_cannot_be_measured_is_said(chest, change, view, expected):
    with pytest.raises(ChexanatomyError, match=expected):
        cardiothoracic({**chest, **change}, view=view)


def test_an_ap_view_carries_its_warning(chest):
    assert cardiothoracic(chest, view="AP").note.startswith("An AP view shows the heart larger")
    assert cardiothoracic(chest, view="PA or AP").note.startswith("This may be an AP view")
    assert "not frontal (lateral)" in cardiothoracic(chest, view="PA or AP or LATERAL").note
    with pytest.raises(ChexanatomyError, match="frontal"):
        cardiothoracic(chest, view="LATERAL or OBLIQUE")
    assert cardiothoracic(chest, view="PA").note == ""


def test_lung_areas_have_units(chest):
    areas = lung_areas(chest, (1.0, 2.0))
    assert (areas.right, areas.unit) == (pytest.approx((70 * 70 + 10) * 2 / 100), "cm²")
    assert areas.right_share == pytest.approx(0.5)
    assert lung_areas(chest).unit == "px"


def test_agreement_counts_both_ways_and_the_map_shows_where():
    mask, reference = box(10, 30, 10, 50), box(10, 30, 30, 70)
    result = agree("heart", mask, reference, (2.0, 0.5))
    assert (result.dice, result.iou) == (pytest.approx(0.5), pytest.approx(1 / 3))
    assert (result.hd95, result.unit) == (pytest.approx(10.0), "mm")
    chosen = overlap_map(mask, reference)
    assert [int((chosen == value).sum()) for value in (BOTH, PREDICTION_ONLY, REFERENCE_ONLY)] == [400, 400, 400]


def test_a_structure_that_one_side_lacks_is_told_apart():
    mask = box(10, 30, 10, 50)
    nothing = np.zeros(SHAPE, bool)
    assert (agree("heart", None, mask).dice, agree("heart", None, mask).verdict) == (0.0, "not predicted, and in the reference")
    assert agree("heart", mask, nothing).verdict == "predicted, and not in the reference"
    both = agree("heart", None, nothing)
    assert (both.dice, both.verdict, math.isnan(both.hd95)) == (1.0, "in neither", True)


def test_references_come_from_a_picture_or_from_a_folder_by_structure(tmp_path: Path):
    write_mask_png(box(10, 30, 10, 50), tmp_path / "heart.png")
    write_mask_png(box(10, 30, 10, 90), tmp_path / "left lung.png")
    assert set(read_references(tmp_path, None, SHAPE)) == {"heart", "lung_left"}
    assert set(read_references(tmp_path, "lung_left", SHAPE)) == {"lung_left"}
    assert read_references(tmp_path / "heart.png", "aorta", SHAPE)["aorta"].sum() == 800
    with pytest.raises(ChexanatomyError, match=r"100 x 200.*90 x 200"):
        read_references(tmp_path, None, (90, 200))
    with pytest.raises(ChexanatomyError, match="no mask"):
        read_references(tmp_path, "aorta", SHAPE)
