"""The claims command with models that were really trained, on the drawn thoraces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.cli import main
from training.fit import PretrainConfig, pretrain


def test_all_four_claims_are_measured_by_one_command(
    dataset: Path, codebook_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lungs = PretrainConfig(
        (dataset,), tmp_path / "lungs", codebook_file, structures=("lung_left", "lung_right"), image_size=64, vision_width=32,
        vision_depth=1, text_width=32, text_depth=1, text_hidden=64, images=2, queries=2, max_steps=2, workers=1, cache_size=64,
        calibrate_images=0, validate_images=1, dense_first=0.0,
    )  # fmt: skip
    pretrain(lungs)
    unet = ["train", "--unet", "--dataset", str(dataset), "--out", str(tmp_path / "unet"), "--codebook", str(codebook_file)]
    unet += ["--steps", "2", "--image-size", "64", "--images", "2", "--workers", "1", "--progress", "none"]
    unet += ["--set", "cache_size=64", "unet_widths=(4,4,8,8,8,4)", "validate_images=1"]
    assert main(unet) == 0
    run = str(tmp_path / "lungs" / "checkpoint")
    page = tmp_path / "claims.md"
    asked = ["evaluate", "--claims", "--dataset", str(dataset), "--model", run, "--baseline", str(tmp_path / "unet")]
    asked += ["--few-shot", run, "--left-out", "heart", "--few-shot-seconds", "0.5", "--others", run, "--limit", "2"]
    asked += ["--split", "val", "--swept", "1", "--out", str(page), "--progress", "none"]
    assert main(asked) == 0
    text = page.read_text(encoding="utf-8")
    assert "Not measured" not in text
    assert "labelled images" in text
    figures = json.loads((tmp_path / "claims_figures" / "claims.json").read_text(encoding="utf-8"))
    assert set(figures["few_shot"]["heart"]) == {"1", "3", "5", "10"}
    assert {row["model"] for row in figures["distribution"]} == {"model", "U-Net", "mean mask"}
    assert main([*asked[:-1], "none", "--left-out", "lung_left"]) == 2
    assert "trained without it" in capsys.readouterr().err
