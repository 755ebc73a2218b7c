"""Decoded data go to another machine and come back the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.conftest import ROOT
from training.anatomy import trainable
from training.dataset import Dataset
from training.fit import PretrainConfig
from training.fit.pretraining import held_out_records
from training.fit.records import load_records


def carry(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "carry_records.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def test_what_is_unpacked_is_what_was_packed(dataset: Path, tmp_path: Path) -> None:
    case = Dataset.open(dataset).cases[0]
    size = max(Dataset.open(dataset).image(case).pixels.shape)
    packed = carry("pack", dataset, "--size", size, "--cache", tmp_path / "one", "--out", tmp_path / "packs", "--workers", 1)
    assert packed.returncode == 0, packed.stderr
    unpacked = carry(
        "unpack", tmp_path / "packs" / dataset.name, "--data", tmp_path / "data", "--cache", tmp_path / "two", "--workers", 1
    )
    assert unpacked.returncode == 0, unpacked.stderr
    assert not (tmp_path / "data" / dataset.name / "images").exists()
    one, two = (
        load_records([folder], "train", trainable(), size, tmp_path / cache, workers=1)
        for folder, cache in ((dataset, "one"), (tmp_path / "data" / dataset.name, "two"))
    )
    config = PretrainConfig((tmp_path / "data" / dataset.name,), tmp_path / "run", cache=tmp_path / "two", cache_size=size)
    held_out = held_out_records(config, trainable(), None)
    assert held_out is not None
    assert len(held_out) == sum(c.split == "val" for c in Dataset.open(dataset).cases) > 0
    every = np.arange(len(one))
    assert list(one.ids) == list(two.ids)
    assert np.array_equal(one.state, two.state)
    assert np.array_equal(one.masks[every], two.masks[every])
    assert np.allclose(one.boxes, two.boxes, atol=1e-6)
    assert np.allclose(one.outermost, two.outermost, atol=1e-6)
    assert np.abs(one.images[every].astype(float) - two.images[every]).mean() < 0.02


def test_another_size_is_refused(dataset: Path, tmp_path: Path) -> None:
    wrong = carry("pack", dataset, "--size", 77, "--cache", tmp_path / "one", "--out", tmp_path / "packs", "--workers", 1)
    assert wrong.returncode != 0
    assert "longer edge" in wrong.stderr
