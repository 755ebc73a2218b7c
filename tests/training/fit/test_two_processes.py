"""The loop in two processes over gloo, as `accelerate launch` and torchrun start it: they learn one model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from training.model import load

SETTINGS = (
    "vision_width=32", "vision_depth=1", "text_width=32", "text_depth=1", "text_hidden=64", "log_steps=1", "validate_images=1",
    "cache_size=64", "calibrate_images=0", "dense_first=0.4", "dense_structures=4",
)  # fmt: skip


def test_two_processes_learn_one_model(dataset: Path, codebook_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch += ["-m", "training.cli", "train"]
    given = ["--dataset", str(dataset), "--out", str(run), "--codebook", str(codebook_file), "--steps", "4", "--threads", "1"]
    given += ["--workers", "1", "--image-size", "64", "--images", "2", "--queries", "2", "--progress", "none", "--set", *SETTINGS]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*launch, *given], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log if "loss" in r] == [1, 2, 3, 4]
    assert load(run / "checkpoint").card["training"]["processes"] == 2
