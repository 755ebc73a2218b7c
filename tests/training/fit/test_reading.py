"""A decoder that reads shares of structures: what it is given, what teaches it, and how a model comes to it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.conftest import ROOT
from tests.training.fit.conftest import asker_for, questions
from training.errors import Cancelled, ChexanatomyError
from training.fit import Augmentation, PretrainConfig, Tasks, pretrain
from training.fit.batches import make_plan
from training.fit.placement import place
from training.fit.pupils import TokenPupil, reading_of, starting_point
from training.fit.records import Records
from training.fit.targets import STRAY, Moved
from training.model import load
from training.model.checkpoint import save_checkpoint
from training.model.packing import see
from training.model.reading import ReadingProjector
from training.model.special import SpecialTokens
from training.progress import Progress
from training.tokens.boxes import BOX_PADDING

GRID, FACTOR, PARTS = 4, 4, 16


def begin_reading(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "begin_reading.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


def reader(channels: int = 3) -> ReadingProjector:
    torch.manual_seed(0)
    return ReadingProjector(nn.Linear(12, 10), GRID**2, channels, FACTOR)


def test_a_structure_is_read_somewhere_else_and_the_others_are_not() -> None:
    projector = reader()
    shares = torch.rand(2, GRID**2, 3 * FACTOR**2)
    still = torch.zeros(2, 2, 2, dtype=torch.long)
    assert torch.equal(projector.moved(shares, still), shares)
    by = still.clone()
    by[1, 0] = torch.tensor([3, -2])

    def picture(shares: torch.Tensor, channel: int) -> torch.Tensor:
        """Row by row of patches, and of parts within them."""
        parts = shares.view(GRID, GRID, 3, FACTOR, FACTOR)[:, :, channel]
        return parts.permute(0, 2, 1, 3).reshape(PARTS, PARTS)

    moved = projector.moved(shares, by)
    assert torch.equal(moved[0], shares[0])
    for other in (1, 2):
        assert torch.equal(picture(moved[1], other), picture(shares[1], other))
    before, after = picture(shares[1], 0), picture(moved[1], 0)
    assert torch.equal(after[3:, :-2], before[:-3, 2:])
    assert not after[:3].any()
    assert not after[:, -2:].any()


def test_shares_take_the_place_of_features_as_far_as_is_said() -> None:
    projector = reader()
    features, by = torch.randn(3, GRID**2, 12), torch.zeros(3, 2, 2, dtype=torch.long)
    by[:, 1, 0] = 2
    nn.init.normal_(projector.place)
    shares = projector.shares(features)
    with torch.no_grad():
        plain, read = projector.linear(features), projector.write(shares) + projector.place
        apart = projector.write(projector.moved(shares, by)) + projector.place
        mixed = projector.written(features, shares, None, torch.tensor([0.0, 0.25, 1.0]))
        strayed = projector.written(features, shares, by, torch.tensor([0.0, 0.25, 1.0]))
        projector.blend = 0.25
        assert torch.allclose(projector(features)[1], mixed[1], atol=1e-6)
    assert torch.allclose(mixed[0], plain[0], atol=1e-6)
    assert torch.allclose(mixed[1], 0.75 * plain[1] + 0.25 * read[1], atol=1e-5)
    assert torch.allclose(mixed[2], read[2], atol=1e-6)
    assert torch.allclose(strayed - mixed, apart - read, atol=1e-5)  # a structure moves as a whole, however much is read


def test_a_fresh_reading_is_close_to_what_the_decoder_was_used_to() -> None:
    projector = reader()
    nn.init.normal_(projector.read.weight, 0, 0.3)
    seen = torch.randn(3, 8, GRID**2, 12)
    with torch.no_grad():
        projector.imitate(seen[:2])
        wanted = projector.linear(seen[2])
        off, spread = (projector(seen[2]) - wanted).square().mean(), (wanted - wanted.mean(0)).square().mean()
    assert off < 0.3 * spread


def test_the_decoder_does_not_change_what_is_read(config: PretrainConfig, records: Records) -> None:
    for dense in (0.0, 0.5):
        config = replace(config, reading=1.0, dense=dense)
        pupil = TokenPupil(config, config.structures or ())
        asker = pupil.asker(records)
        batch = pupil.develop(make_plan(records, asker, config, 0, 0, 1, pupil.image_size, pupil.side))
        loss, _ = pupil.learner(batch)
        loss.backward()
        projector = reading_of(pupil.checkpoint.model)
        assert projector is not None
        assert projector.write.weight.grad is not None
        assert projector.write.weight.grad.any()
        learns = [p.grad is not None and bool(p.grad.any()) for p in pupil.checkpoint.model.model.vision_tower.parameters()]
        assert any(learns) == (dense > 0)
        assert (projector.read.weight.grad is not None and bool(projector.read.weight.grad.any())) == (dense > 0)


def test_boxes_go_where_structures_are_read_and_masks_stay_theirs(
    config: PretrainConfig, records: Records, tokens: SpecialTokens
) -> None:
    assert config.codebook
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), marked=0.5))
    whole = Moved(records, np.arange(8), place(Augmentation.none(), 8, np.random.default_rng(0)))
    moved = whole.parted(0.5, 1 / PARTS, np.random.default_rng(1))
    assert moved.apart is not None
    parts = moved.apart * PARTS
    assert np.array_equal(parts, parts.round())
    assert np.abs(parts).max() <= STRAY
    away = parts.any((1, 2))
    assert 0 < away.sum() < 8
    room = np.array([-BOX_PADDING, -BOX_PADDING, BOX_PADDING, BOX_PADDING])
    marked = set()
    for image in range(8):
        for one in asker._shown(moved, image, 3, np.random.default_rng(2)):
            tight = whole._tight[image, one.index] + np.tile(moved.apart[image, one.index], 2)
            assert np.allclose(one.box, (tight + room).clip(0, 1))
            assert tight.min() > 0
            assert tight.max() < 1
    for seed in range(6):
        asked = asker.ask(moved, 3, np.random.default_rng(seed))
        marked |= {*asked.outlined.images.tolist(), *asked.overlaid.images.tolist()}
        still, _ = questions(asker, config, replace(moved, apart=None), 3, seed)
        apart, crops = questions(asker, config, moved, 3, seed)
        assert len(still.ids) == len(apart.ids)
        assert crops.mean() > 0.3  # cut where the structures are, not where they are read
    assert marked
    assert not marked & set(np.flatnonzero(away).tolist())


def test_what_is_read_elsewhere_is_drawn_there(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    """The masks, moved as the reading is, lie in the boxes that are asked for."""
    changes = replace(Augmentation.none(), apart=1.0)
    config = replace(config, reading=1.0, augmentation=changes, tasks=Tasks.segment_only())
    pupil = TokenPupil(config, config.structures or ())
    batch = pupil.develop(make_plan(records, pupil.asker(records), config, 0, 0, 1, pupil.image_size, pupil.side))
    assert batch.apart is not None
    assert batch.apart.any()
    assert batch.blend is not None
    assert batch.blend.tolist() == [1.0] * len(batch.pixels)
    masks = torch.zeros(len(batch.pixels), 4, PARTS, PARTS)
    masks[:, batch.chosen[batch.chosen < 4]] = batch.masks[:, : int((batch.chosen < 4).sum())]
    projector = reading_of(pupil.checkpoint.model)
    assert projector is not None
    shares = nn.functional.pixel_unshuffle(masks, FACTOR).flatten(2).mT
    read = nn.functional.pixel_shuffle(projector.moved(shares, batch.apart).mT.reshape(-1, 64, GRID, GRID), FACTOR)
    names = {"left lung": 0, "right lung": 1, "heart": 2}
    each = len(batch.segments.ids) // len(batch.pixels)
    for row, ids in enumerate(batch.segments.ids):
        prompt = tokens.text(ids[: batch.segments.prompt[row]].tolist()).strip()
        box = tokens.bin_of[ids][tokens.bin_of[ids] >= 0][:4].float() / 1023 * PARTS
        where = (read[row // each, names[prompt.removeprefix("segment ")]] > 0.5).nonzero()
        assert torch.allclose(torch.cat([where.amin(0), where.amax(0) + 1]).float(), box, atol=1.0)


def test_a_run_that_reads_goes_on_to_the_bit(config: PretrainConfig, tmp_path: Path) -> None:
    config = replace(config, reading=1.0, augmentation=replace(Augmentation(), apart=0.5), log_steps=1)
    whole, broken = replace(config, out=tmp_path / "whole"), replace(config, out=tmp_path / "broken")
    folder = pretrain(whole)

    def stop(progress: Progress) -> None:
        if progress.text.startswith("Training,") and progress.done == 3:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        pretrain(broken, stop)
    pretrain(broken)
    first, second = (load_file(run.out / "state.safetensors") for run in (whole, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    opened = load(folder)
    projector = reading_of(opened.model)
    assert projector is not None
    average = first["average.model.model.multi_modal_projector.read.weight"]
    assert torch.equal(projector.read.weight, average.half().float())


def test_a_model_comes_to_read_and_is_taught_on(dataset: Path, config: PretrainConfig, tmp_path: Path) -> None:
    config = replace(config, image_size=64, dense_first=0.0)
    pretrain(config)
    checkpoint, out = config.out / "checkpoint", tmp_path / "begun"
    ran = begin_reading(checkpoint, "--head", config.out, "--dataset", dataset, "--structures", *(config.structures or ()),
                        "--size", 64, "--images", 8, "--out", out)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    before, after = load(checkpoint), load(out)
    projector = reading_of(after.model)
    assert projector is not None
    assert before.card["structures"] == after.card["structures"]
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        old, new = see(before.model, picture), see(after.model, picture)
        assert torch.equal(old.vision, new.vision)
        assert torch.equal(old.features, projector.linear(new.vision))
        assert (new.features - old.features).square().mean() < old.features.square().mean()
    frozen = replace(config, reading=1.0, start=out, freeze_vision=True, out=tmp_path / "on")
    pretrain(frozen)
    one, two = (load_file(folder / "model.safetensors") for folder in (out, frozen.out / "checkpoint"))
    same = {name for name in one if torch.equal(one[name], two[name])}
    assert {f"model.multi_modal_projector.read.{part}" for part in ("weight", "bias")} <= same
    assert "model.multi_modal_projector.write.weight" not in same
    refused = begin_reading(checkpoint, "--head", config.out, "--factor", 3, "--dataset", dataset, "--out", tmp_path / "no")
    assert refused.returncode != 0
    assert "3 x 3" in refused.stderr


def test_a_model_that_reads_begins_as_one(config: PretrainConfig) -> None:
    checkpoint, _ = starting_point(replace(config, reading=1.0))
    projector = reading_of(checkpoint.model)
    assert projector is not None
    assert projector.read.out_features == 5 * FACTOR**2  # four structures, and what is pointed at
    assert reading_of(starting_point(config)[0].model) is None
    half, _ = starting_point(replace(config, reading=0.5))
    save_checkpoint(half, config.out)
    opened = reading_of(load(config.out).model)
    assert opened is not None
    assert opened.blend == 0.5


def test_settings_that_need_a_reading_decoder_are_refused_without(config: PretrainConfig, records: Records) -> None:
    with pytest.raises(ChexanatomyError, match="leave out apart"):
        replace(config, augmentation=Augmentation(apart=0.5))
    with pytest.raises(ChexanatomyError, match="reading"):
        replace(config, reading=1.0, unet=True)
    spread = replace(config, reading=0.6, reading_spread=0.5)
    plan = make_plan(records, None, spread, 0, 0, 1, 64, PARTS)
    assert plan.blend is not None
    assert 0.1 <= plan.blend.min() < plan.blend.max() <= 1
    assert make_plan(records, None, config, 0, 0, 1, 64, PARTS).blend is None
