"""Data sets on the command line: imported radiographs, second opinions, and who decides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.test_cli import Run, body, one_line, picture, run, synthesize, untrained

__all__ = ["body", "run", "untrained"]


def test_imported_radiographs_are_scored_as_drawn_and_it_is_said(run: Run, tmp_path: Path, untrained: Path) -> None:
    folder = picture(tmp_path / "cases/one/ct.png").parent
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(folder / "left lung.png")
    assert run("export", tmp_path / "cases", "--form", "dataset", "--out", tmp_path / "data")[0] == 0
    ask = ("evaluate", "--dataset", tmp_path / "data", "--split", "all", "--model", untrained, "--out", tmp_path / "report")
    status, _, complaint = run(*ask, "--structures", "lung_left")
    assert status == 0
    assert "give --lungs projected if they were" in complaint
    assert "projected" not in run(*ask, "--structures", "lung_left", "--lungs", "projected")[2]
    assert "projected" not in run(*ask, "--structures", "heart")[2]


def test_a_model_that_has_learnt_more_is_asked_again(run: Run, body: Path, tmp_path: Path, untrained: Path) -> None:
    from training.model.checkpoint import save_checkpoint
    from training.model.loading import load_checkpoint

    command = synthesize(body, tmp_path / "data")
    command[command.index("400")] = "1"
    assert run(*command)[0] == 0
    model = tmp_path / "model"
    shutil.copytree(untrained, model)
    ask = ("review", tmp_path / "data", "--model", model, "--model-structures", "heart", "--show", 0, "--workers", 1)
    kept = tmp_path / "data/cache/opinions.jsonl"
    asked = []
    for learnt in (False, False, True):
        if learnt:
            checkpoint = load_checkpoint(model)
            checkpoint.model.get_parameter(next(name for name, _ in checkpoint.model.named_parameters())).data += 0.5
            save_checkpoint(checkpoint, model)
        assert run(*ask)[0] == 0
        asked.append(len(kept.read_text().splitlines()))
    assert asked == [1, 1, 2]


def test_who_decides_is_asked_where_the_system_does_not_know(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = picture(tmp_path / "cases/one/ct.png").parent
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(folder / "heart.png")
    assert run("export", tmp_path / "cases", "--form", "dataset", "--out", tmp_path / "data")[0] == 0

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    decide = ("review", tmp_path / "data", "--case", "one", "--decide", "accept")
    status, _, complaint = run(*decide)
    assert status == 2
    assert one_line(complaint)
    assert "--reviewer" in complaint
    assert run(*decide, "--reviewer", "anna")[0] == 0
    status, _, complaint = run("review", tmp_path / "data", "--reviewer", "anna")
    assert status == 2
    assert "belong to a decision" in complaint
