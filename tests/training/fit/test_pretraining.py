"""The training loop learns, is the same after an interruption, and respects reviewers."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from training.dataset import Dataset, Reviews
from training.errors import BrokenDataset, BrokenModel, Cancelled
from training.fit import Augmentation, PretrainConfig, Tasks, pretrain
from training.fit.augment import photograph, place, resample, spread
from training.fit.batches import make_batch
from training.fit.queries import Asker, token_loss
from training.fit.records import ABSENT, PRESENT, UNKNOWN, load_records
from training.fit.schedule import learning_rate
from training.model import load
from training.model.special import SpecialTokens
from training.progress import Progress
from training.tokens.codebook import MaskCodebook
from training.tokens.tokenizer import build_tokenizer

STRUCTURES = ("lung_left", "lung_right", "heart", "humerus_left")
TINY: dict[str, Any] = {
    "structures": STRUCTURES,
    "image_size": 64,
    "vision_width": 32,
    "vision_depth": 2,
    "text_width": 32,
    "text_depth": 2,
    "text_hidden": 64,
    "images": 4,
    "queries": 4,
    "workers": 1,
    "log_steps": 5,
    "validate_images": 2,
    "cache_size": 64,
}


@pytest.fixture
def config(dataset: Path, codebook_file: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig((dataset,), tmp_path / "run", codebook_file, max_steps=8, **TINY)


@pytest.fixture(scope="module")
def tokens() -> SpecialTokens:
    return SpecialTokens(build_tokenizer())


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_loss_falls_and_the_checkpoint_opens(config: PretrainConfig) -> None:
    reports: list[Progress] = []
    folder = pretrain(replace(config, max_steps=40, learning_rate=6e-3, dense_first=0.0), reports.append)
    losses = [r["token_loss"] for r in log_of(config.out) if "token_loss" in r]
    assert losses[-1] < 0.75 * losses[0]
    assert reports[-1].values["box_error"] > 0
    predictor = load(folder)
    assert predictor.checkpoint.packed
    assert predictor.card["structures"] == list(STRUCTURES)
    weights = load_file(folder / "model.safetensors")
    assert not any("head" in name and "lm_head" not in name for name in weights)
    assert all(w.dtype == torch.float16 for w in weights.values())


def test_a_run_goes_on_to_the_bit_after_an_interruption(config: PretrainConfig, tmp_path: Path) -> None:
    whole = replace(config, out=tmp_path / "whole", log_steps=1)
    pretrain(whole)

    def stop(progress: Progress) -> None:
        if progress.text.startswith("Training,") and progress.done == 3:
            raise Cancelled("Stopped.")

    broken = replace(config, out=tmp_path / "broken", log_steps=1)
    with pytest.raises(Cancelled):
        pretrain(broken, stop)
    assert log_of(broken.out)[-1]["step"] == 3
    pretrain(broken)
    first, second = (load_file(run.out / "state.safetensors") for run in (whole, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_of_another_shape_is_not_continued(config: PretrainConfig) -> None:
    pretrain(replace(config, max_steps=1))
    with pytest.raises(BrokenModel, match="another model shape"):
        pretrain(replace(config, max_steps=2, text_hidden=96))


def test_a_run_without_an_end_is_refused(config: PretrainConfig) -> None:
    with pytest.raises(BrokenDataset, match="max_minutes"):
        pretrain(replace(config, max_steps=None))


def test_minutes_end_a_run(config: PretrainConfig) -> None:
    folder = pretrain(replace(config, max_steps=None, max_minutes=0.02))
    assert (folder / "model.safetensors").exists()


def test_records_hold_boxes_codes_and_what_is_absent(dataset: Path, codebook_file: Path, tmp_path: Path) -> None:
    codebook = MaskCodebook.load(codebook_file)
    records = load_records([dataset], "train", STRUCTURES, codebook, 64, tmp_path, workers=1)
    assert (records.state[:, :3] == PRESENT).all()
    assert (records.state[:, 3] == ABSENT).all()
    mask = records.masks(np.array([0]))[0, 2].numpy() > 0.5
    top, _, _, right = records.boxes[0, 2]
    rows, columns = np.nonzero(mask)
    assert abs((rows.min() / 56) - top) < 0.04
    assert abs((columns.max() / 56) - right) < 0.04
    again = load_records([dataset], "train", STRUCTURES, codebook, 64, tmp_path, workers=1)
    assert np.array_equal(again.codes, records.codes)


def test_rejected_masks_are_not_trained_on(dataset: Path, codebook_file: Path, tmp_path: Path) -> None:
    copied = tmp_path / "reviewed"
    shutil.copytree(dataset, copied)
    case = next(c for c in Dataset.open(copied).cases if c.split == "train")
    reviews = Reviews(copied, "reviewer")
    reviews.decide(case.id, "heart", "reject")
    records = load_records([copied], "train", STRUCTURES, MaskCodebook.load(codebook_file), 64, None, workers=1)
    row = list(records.ids).index(case.id)
    assert records.state[row].tolist() == [PRESENT, PRESENT, UNKNOWN, ABSENT]


def test_a_batch_depends_on_seed_and_step_alone(config: PretrainConfig, tokens: SpecialTokens) -> None:
    assert config.codebook
    records = load_records([*config.datasets], "train", STRUCTURES, MaskCodebook.load(config.codebook), 64, None, workers=1)
    asker = Asker(records, tokens, config.tasks)
    first, again, next_one = (make_batch(records, asker, config, step, 0, 1, 16) for step in (7, 7, 8))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.segments.ids, again.segments.ids)
    assert not torch.equal(first.pixels, next_one.pixels)


def test_moved_boxes_follow_the_moved_picture() -> None:
    rng = np.random.default_rng(3)
    picture = torch.zeros(16, 1, 96, 96)
    picture[:, :, 30:60, 36:54] = 1
    box = np.tile(np.array([30, 36, 60, 54]) / 96, (16, 1, 1))
    placement = place(Augmentation(untouched=0), 16, rng)
    moved = resample(picture, placement, 192)
    for image, (top, left, bottom, right) in zip(moved, placement.boxes(box)[:, 0], strict=True):
        rows, columns = np.nonzero(image[0].numpy() > 0.5)
        assert np.allclose([rows.min() / 192, columns.min() / 192], [top, left], atol=0.012)
        assert np.allclose([(rows.max() + 1) / 192, (columns.max() + 1) / 192], [bottom, right], atol=0.012)


def test_each_photometric_change_changes_the_picture_and_none_leaves_it() -> None:
    picture = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(photograph(picture.clone(), Augmentation.none(), np.random.default_rng(0)), picture)
    for name in ("gamma", "curve", "window", "local_contrast", "blur", "noise", "shading", "collimation", "marker", "lines"):
        changed = [
            photograph(picture.clone(), replace(Augmentation.none(), **{name: 1.0}), np.random.default_rng(seed))
            for seed in range(8)
        ]
        assert any(not torch.equal(c, picture) for c in changed), name
        assert all(torch.isfinite(c).all() and c.min() >= 0 and c.max() <= 1 for c in changed), name
    assert spread(picture).max() == 1


def test_structures_moved_out_of_the_picture_are_answered_none(config: PretrainConfig, tokens: SpecialTokens) -> None:
    assert config.codebook
    records = load_records([*config.datasets], "train", STRUCTURES, MaskCodebook.load(config.codebook), 64, None, workers=1)
    asker = Asker(records, tokens, replace(Tasks.segment_only(), absent=0.5))
    placement = place(Augmentation.none(), 1, np.random.default_rng(0))
    away = replace(placement, offset=placement.offset + 2)
    asked = asker.ask(np.array([0]), away, 8, np.random.default_rng(0))
    assert all("none" in tokens.text(row.tolist()) for row in asked.ids)
    here = asker.ask(np.array([0]), placement, 40, np.random.default_rng(0))
    texts = [tokens.text(row.tolist()) for row in here.ids]
    assert all(("none" in t) == ("humerus" in t or "upper arm" in t) for t in texts)
    assert {"none" in t for t in texts} == {True, False}


def test_the_box_loss_prefers_near_misses(tokens: SpecialTokens) -> None:
    size = int(tokens.bin_of.numel())
    target = tokens.loc[[500]]

    def loss(guess: int) -> float:
        logits = torch.zeros(1, size)
        logits[0, tokens.loc[guess]] = 12
        return float(token_loss(logits, target, tokens, sigma=6.0, smoothing=0.05)[0])

    assert loss(500) < loss(505) < loss(600)
    _, watched = token_loss(torch.eye(size)[tokens.loc[[510]]] * 9, target, tokens, 6.0, 0.05)
    assert watched["box_error"] == (10.0, 1)


def test_the_learning_rate_warms_up_and_ends_at_nothing(config: PretrainConfig) -> None:
    rates = [learning_rate(config, f) for f in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(config.learning_rate, rel=1e-2)
    assert rates[0] < 0.01 * config.learning_rate
    assert rates[-1] == pytest.approx(0, abs=1e-9)
