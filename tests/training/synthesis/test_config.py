"""Distributions by name: switched off one by one, stored, read again."""

import json
from dataclasses import replace

import numpy as np
import pytest

from training.errors import ChexanatomyError
from training.images import CT
from training.images.radiograph import FEWEST_PIXELS
from training.synthesis import Marks, Range, SynthesisConfig, Views
from training.synthesis.config import read_distributions
from training.synthesis.marks import draw_overlay
from training.synthesis.poses import draw_geometry, draw_preset

BLANK = Marks(collimation=0.0, marker=0.0, text=0.0)


def test_a_stored_configuration_is_read_as_it_was(tmp_path):
    config = SynthesisConfig(out="x", phantoms=3, views=Views(pa=1.0, roll=Range(0.0, 0.0)), marks=BLANK, seed=5)
    path = tmp_path / "synthesis.json"
    path.write_text(config.to_json())
    assert SynthesisConfig(out="x", **read_distributions(path)) == config


def test_a_part_of_a_configuration_leaves_the_rest_at_its_default(tmp_path):
    path = tmp_path / "some.json"
    path.write_text(json.dumps({"phantoms": 2, "marks": {"text": 0.0}}))
    config = SynthesisConfig(out="x", **read_distributions(path))
    assert config.marks == replace(Marks(), text=0.0)
    assert config.views == Views()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ('{"marx": {}}', "marx"),
        ('{"out": "elsewhere"}', "out"),
        ('{"marks": {"text": "often"}}', "number"),
        ('{"views": {"roll": {"low": 0}}}', "incomplete"),
        ('{"views": {"roll": {"low": 0, "high": 1, "scale": "cubic"}}}', "linear"),
        ('{"phantoms": 1.5}', "int"),
        ("[]", "object"),
        ('{"seed": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"views": {"pa": NaN}}', "views.*weights"),
        ('{"views": {"roll": {"low": 2, "high": 1}}}', "roll.*low"),
        ('{"views": {"roll": {"low": 0, "high": Infinity}}}', "roll.*low"),
        ('{"views": {"field": {"low": 0, "high": 1}}}', "field lies above 0"),
        ('{"views": {"gap": {"low": 100, "high": 1500}}}', "views.*source"),
        ('{"views": {"secondary": {"low": -100, "high": 0}}}', "secondary"),
        ('{"views": {"cropped": {"low": 0.5, "high": 2}}}', "cropped.*up to 1"),
        ('{"views": {"crop": 7}}', "crop is a probability"),
        ('{"variation": {"scale": {"low": 0, "high": 0}}}', "scale lies above 0"),
        ('{"exposure": {"kvp": {"low": 70, "high": 170}}}', "tube voltage"),
        ('{"exposure": {"exposure_index": {"low": 0, "high": 100, "scale": "log"}}}', "logarithmic"),
        ('{"film": {"darkest": {"low": 0, "high": 98}}}', "percentiles"),
        ('{"marks": {"margin": {"low": 0.1, "high": 0.5}}}', "margin"),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_entry(content, said, tmp_path):
    path = tmp_path / "wrong.json"
    path.write_text(content)
    with pytest.raises(ChexanatomyError, match=said):
        read_distributions(path)


def test_a_logarithmic_range_halves_at_its_geometric_mean():
    values = [Range(100.0, 10_000.0, "log").draw(np.random.default_rng(s)) for s in range(400)]
    assert 100 <= min(values) <= max(values) <= 10_000
    assert 0.4 < np.mean(np.array(values) < 1000) < 0.6


def test_marks_switched_off_leave_the_picture():
    pixels = np.random.default_rng(0).random((60, 50)).astype(np.float32)
    for seed in range(5):
        overlay = draw_overlay(BLANK, pixels.shape, "PA", np.random.default_rng(seed))
        assert overlay.open_field.all()
        assert np.array_equal(overlay.over(pixels), pixels)


def test_collimation_darkens_the_edges_and_says_where_the_picture_is():
    pixels = np.full((100, 80), 0.6, np.float32)
    marks = Marks(collimation=1.0, margin=Range(0.1, 0.1), marker=0.0, text=0.0)
    overlay = draw_overlay(marks, pixels.shape, "PA", np.random.default_rng(3))
    picture = overlay.over(pixels)
    assert 0.5 < overlay.open_field.mean() < 1
    assert (picture[overlay.open_field] == np.float32(0.6)).all()
    assert (picture[~overlay.open_field] < 0.2).all()


def test_a_side_marker_of_a_frontal_view_stands_on_its_side():
    marks = Marks(collimation=0.0, marker=1.0, text=0.0)
    sides = set()
    for seed in range(12):
        letters = draw_overlay(marks, (200, 200), "PA", np.random.default_rng(seed)).lettering
        assert letters.max() > 0.9
        sides.add(np.nonzero(letters > 0.5)[1].mean() < 100)
    assert sides == {True, False}


def test_views_switched_off_give_the_preset_itself():
    still, sdd = Range(0.0, 0.0), Range(1800.0, 1800.0)
    views = Views(0.0, 1.0, 0.0, still, still, still, sdd, Range(200.0, 200.0), Range(300.0, 300.0), Range(1, 1), still, 0.0)
    ct = CT(np.zeros((100, 80, 90), np.int16), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    rng = np.random.default_rng(0)
    assert draw_preset(views, rng) == "AP"
    geometry = draw_geometry(ct, None, "AP", views, 64, rng)
    assert (geometry.primary, geometry.secondary, geometry.roll, geometry.sdd) == (180.0, 0.0, 0.0, 1800.0)
    np.testing.assert_allclose(geometry.isocentre, ct.centre)
    assert geometry.rows == geometry.columns == 64


def test_a_flat_volume_still_makes_a_picture_that_can_be_read():
    still = Range(0.0, 0.0)
    sdd, gap, field = Range(1800.0, 1800.0), Range(200.0, 200.0), Range(300.0, 300.0)
    views = Views(0.0, 1.0, 0.0, still, still, still, sdd, gap, field, Range(1, 1), still, 0.0)
    flat = CT(np.zeros((10, 80, 90), np.int16), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    geometry = draw_geometry(flat, None, "AP", views, 64, np.random.default_rng(0))
    assert (geometry.rows, geometry.columns) == (FEWEST_PIXELS, 64)
    assert geometry.spacing[0] * geometry.rows < 50
