"""The mean of runs lies in the middle of their weights, and only of runs of one shape."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from training.fit import PretrainConfig
from training.fit.pupils import starting_point
from training.model.checkpoint import save_checkpoint
from training.model.loading import load_checkpoint


def average(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "average_weights.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def begun(config: PretrainConfig, seed: int, folder: Path) -> Path:
    checkpoint, _ = starting_point(config)
    with torch.no_grad():
        for parameter in checkpoint.model.parameters():
            parameter.fill_(seed)
    checkpoint.card["training"] = {"steps": seed, "settings": {"seed": seed}}
    save_checkpoint(checkpoint, folder)
    return folder


def test_the_mean_of_two_models_lies_between_them(config: PretrainConfig, tmp_path: Path) -> None:
    one, two = (begun(config, seed, tmp_path / str(seed)) for seed in (1, 2))
    ran = average(one, two, "--out", tmp_path / "mean")
    assert ran.returncode == 0, ran.stderr
    mean = load_checkpoint(str(tmp_path / "mean"))
    for name, value in mean.model.state_dict().items():  # the tied embedding under both of its names, too
        assert torch.equal(value, torch.full_like(value, 1.5)), name
    assert mean.card["averaged"] == [{"steps": 1, "seed": 1}, {"steps": 2, "seed": 2}]


def test_models_of_other_shapes_have_no_mean(config: PretrainConfig, tmp_path: Path) -> None:
    one, two = begun(config, 1, tmp_path / "one"), begun(replace(config, text_depth=config.text_depth + 1), 2, tmp_path / "two")
    ran = average(one, two, "--out", tmp_path / "mean")
    assert ran.returncode != 0
    assert "one shape" in ran.stderr
    assert not (tmp_path / "mean").exists()


@pytest.mark.parametrize(
    ("one", "other"), [({}, {"text_reach": 1}), ({}, {"vision_reach": 1}), ({"evened": 1.0}, {"evened": 0.5})]
)
def test_models_that_use_their_weights_in_other_ways_have_no_mean(
    config: PretrainConfig, tmp_path: Path, one: dict[str, float], other: dict[str, float]
) -> None:
    folders = [begun(replace(config, **changes), seed, tmp_path / str(seed)) for seed, changes in ((1, one), (2, other))]
    ran = average(*folders, "--out", tmp_path / "mean")
    assert ran.returncode != 0
    assert "of the same reach" in ran.stderr
    assert not (tmp_path / "mean").exists()
