"""What "left lung" means on a radiograph of a person, and on one reckoned from a CT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.anatomy import trainable
from training.dataset import export_folders, import_folders
from training.images import Radiograph, read_radiograph, write_mask_png, write_radiograph_dicom, write_radiograph_png
from training.model import Predictor
from training.model.checkpoint import create
from training.model.convention import OUTLINE, AsDrawn
from training.model.unet import Unet
from training.tokens.codebook import MaskCodebook
from training.tokens.tokenizer import build_tokenizer

ASKED = ["heart", "Left Lung", "lungs", "lung_right"]


@pytest.fixture(scope="module")
def predictor(codebook_file: Path) -> Predictor:
    sizes = {"image_size": 64, "vision_width": 32, "vision_depth": 2, "text_width": 32, "text_depth": 2, "text_hidden": 64}
    checkpoint = create(build_tokenizer(), MaskCodebook.load(codebook_file), seed=5, **sizes)
    checkpoint.card.update({"structures": list(trainable()), "presence_threshold": 0.0})
    return Predictor(checkpoint, "cpu")


def test_lungs_of_a_person_are_answered_with_their_outlines(predictor: Predictor, radiograph: Radiograph) -> None:
    heart, left, both, right = AsDrawn(predictor).segment(radiograph, ASKED)
    drawn = predictor.segment(radiograph, ["lung_outline_left", "lung_outline_right"])
    assert [f.structure for f in (heart, left, both, right)] == ["heart", "lung_left", "lungs", "lung_right"]
    assert [f.convention for f in (heart, left, both, right)] == ["", OUTLINE, OUTLINE, OUTLINE]
    assert heart.tokens == predictor.segment(radiograph, ["heart"])[0].tokens
    assert left.mask is not None
    assert right.mask is not None
    assert both.mask is not None
    assert both.box is not None
    assert np.array_equal(left.mask, drawn[0].mask)
    assert np.array_equal(right.mask, drawn[1].mask)
    assert np.array_equal(both.mask, left.mask | right.mask)
    edges = np.array([left.box, right.box])
    assert np.allclose(both.box, [*edges[:, :2].min(0), *edges[:, 2:].max(0)])


def test_reconstructed_lateral_and_untaught_are_answered_to_the_letter(predictor: Predictor, radiograph: Radiograph) -> None:
    plain = [f.tokens for f in predictor.segment(radiograph, ASKED)]
    unaware = Predictor(replace(predictor.checkpoint, card={**predictor.card, "structures": ["heart", "lung_left"]}), "cpu")
    for model, seen in (
        (predictor, replace(radiograph, reconstructed=True)),
        (predictor, replace(radiograph, view="LATERAL")),
        (unaware, radiograph),
    ):
        found = AsDrawn(model).segment(seen, ASKED)
        assert [f.tokens for f in found] == plain
        assert not any(f.convention for f in found)


@pytest.mark.parametrize("write", [write_radiograph_png, write_radiograph_dicom])
def test_a_file_remembers_that_it_was_reconstructed(write: Any, radiograph: Radiograph, tmp_path: Path) -> None:
    for reconstructed in (False, True):
        write(replace(radiograph, reconstructed=reconstructed), tmp_path / "file")
        assert read_radiograph(tmp_path / "file").reconstructed is reconstructed


def test_imported_radiographs_are_of_people_unless_their_files_say_otherwise(radiograph: Radiograph, tmp_path: Path) -> None:
    for name, reconstructed in (("ct", True), ("person", False)):
        folder = tmp_path / "cases" / name
        folder.mkdir(parents=True)
        write_radiograph_png(replace(radiograph, reconstructed=reconstructed), folder / "ct.png")
        write_mask_png(radiograph.pixels > 0.5, folder / "lung_left.png")
    dataset = import_folders(tmp_path / "cases", tmp_path / "data")
    assert [dataset.image(case).reconstructed for case in dataset.cases] == [True, False]
    assert [read_radiograph(dataset.image_file(case)).reconstructed for case in dataset.cases] == [True, False]
    export_folders(dataset, tmp_path / "again")
    again = import_folders(tmp_path / "again", tmp_path / "more")
    assert [again.image(case).reconstructed for case in again.cases] == [True, False]
    made = replace(dataset.cases[1], id="made", image="images/made.png", provenance="deformed CT")
    dataset.add(made, radiograph, {})
    assert dataset.image(made).reconstructed, "synthetic, though the file was written before files said so"


def test_a_lung_that_was_taught_from_drawings_is_answered_to_the_letter(predictor: Predictor, radiograph: Radiograph) -> None:
    taught = Predictor(replace(predictor.checkpoint, card={**predictor.card, "from_drawings": ["lung_left"]}), "cpu")
    left, right = AsDrawn(taught).segment(radiograph, ["Left Lung", "lung_right"])
    assert (left.structure, left.convention) == ("lung_left", "")
    assert left.tokens == predictor.segment(radiograph, ["lung_left"])[0].tokens
    assert right.convention == OUTLINE


def test_lungs_count_as_taught_where_their_outlines_answer_for_them(predictor: Predictor, radiograph: Radiograph) -> None:
    outlines = Predictor(replace(predictor.checkpoint, card={"structures": ["lung_outline_left", "lung_outline_right"]}), "cpu")
    for model in (outlines, Unet(None, ("lung_outline_left", "lung_outline_right"), 64, (), outlines.card)):
        asked = AsDrawn(model)
        assert asked.untaught(["heart", "Left Lung"]) == asked.untaught(["heart", "Left Lung"], radiograph) == ["heart"]
        assert asked.untaught(["lungs"], replace(radiograph, reconstructed=True)) == ["lungs"]
