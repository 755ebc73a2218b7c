"""Which model answered, where another is chosen before its answer is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import training.model
from napari_chexanatomy.layers import from_radiograph
from training.images import write_radiograph_png


@pytest.fixture
def desk(predict_desk, radiograph, add):
    add(predict_desk.viewer, from_radiograph(radiograph))
    predict_desk.structures.set_checked(["heart"])
    return predict_desk


@pytest.fixture
def other(model_spec, tmp_path):
    """A second model: a copy of the first in a folder of its own."""
    first = Path(training.model.__file__).parent / "chexanatomy_tiny" if model_spec == "embedded" else Path(model_spec)
    return str(shutil.copytree(first, tmp_path / "other"))


def recorded(desk, folder):
    desk.save(folder)
    desk.wait()
    return json.loads((folder / "predictions.json").read_text())[0]["model"]


def test_a_model_chosen_while_another_answers_is_not_taken_for_it(desk, model_spec, other, tmp_path):
    desk.run()
    desk.model.use(other)
    desk.wait()
    assert recorded(desk, tmp_path / "first") == model_spec
    predictor = desk.model.opener()(lambda report: None)
    assert predictor.checkpoint.source == other, "the next question goes to the model before"
    desk.run()
    desk.wait()
    assert recorded(desk, tmp_path / "second") == other


def test_a_codebook_chosen_while_a_model_answers_goes_with_the_next_question(desk, other):
    desk.model.use(other)
    desk.run()
    desk.model.use_codebook(f"{other}/codebook.safetensors")
    desk.wait()
    assert [f.structure for f in desk.findings] == ["heart"]
    assert desk.model._open is None, "the next question goes to the model without this codebook"


def test_opened_results_name_the_model_that_found_them(desk, radiograph, model_spec, other, tmp_path):
    (tmp_path / "in").mkdir()
    write_radiograph_png(radiograph, tmp_path / "in" / "a.png")
    desk.many.run_folder(tmp_path / "in", tmp_path / "out", ["heart"])
    desk.model.use(other)
    desk.wait()
    desk.many.open_results(tmp_path / "out")
    desk.many.table.selectRow(0)
    assert recorded(desk, tmp_path / "again") == model_spec


def test_findings_of_two_models_name_both(desk, model_spec, other):
    desk.run()
    desk.wait()
    desk.model.use(other)
    for _ in range(2):
        desk.measure()
        desk.wait()
        assert desk.found.shown.model == f"{model_spec}, {other}"
    assert {"heart", "lung_outline_left"} <= {f.structure for f in desk.findings}
