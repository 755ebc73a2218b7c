"""The training loop learns, is the same after an interruption, and respects reviewers."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.fit.conftest import STRUCTURES
from training.dataset import Dataset
from training.errors import BrokenDataset, BrokenModel, Cancelled, ChexanatomyError
from training.fit import Augmentation, PretrainConfig, Tasks, pretrain
from training.fit.augment import photograph, place, resample, spread
from training.fit.batches import Batch, Plan, batches, make_plan
from training.fit.losses import token_loss
from training.fit.pupils import at_grid
from training.fit.queries import Asker
from training.fit.records import Records
from training.fit.schedule import learning_rate
from training.fit.settings import changed
from training.fit.targets import Moved
from training.model import load
from training.model.packing import Segments
from training.model.special import SpecialTokens
from training.progress import Progress
from training.tokens import read_answer
from training.tokens.boxes import BOX_PADDING
from training.tokens.codebook import MaskCodebook, paste_mask
from training.tokens.tokenizer import build_tokenizer

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


def asker_for(records: Records, config: PretrainConfig, tokens: SpecialTokens, tasks: Tasks | None = None) -> Asker:
    return Asker(records, tokens, tasks or config.tasks)


def questions(
    asker: Asker, config: PretrainConfig, moved: Moved, count: int, seed: int, pixels: torch.Tensor | None = None
) -> tuple[Segments, torch.Tensor]:
    assert config.codebook
    asked = asker.ask(moved, count, np.random.default_rng(seed))
    crops = asked.masks.drawn()[0]
    if pixels is not None:
        asked.mark(pixels, crops)
    return asked.answers(crops, MaskCodebook.load(config.codebook), asker.tokens.seg)


def batch_of(config: PretrainConfig, records: Records, asker: Asker, step: int) -> Batch:
    assert config.codebook
    return make_plan(records, asker, config, step, 0, 1, 64, 16).developed(MaskCodebook.load(config.codebook), asker.tokens.seg)


def test_a_batch_depends_on_seed_and_step_alone(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens)
    first, again, next_one = (batch_of(config, records, asker, step) for step in (7, 7, 8))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.segments.ids, again.segments.ids)
    assert not torch.equal(first.pixels, next_one.pixels)
    assert (first.segments.ids >= 0).all()


@pytest.mark.parametrize("turn", [0.0, 25.0])
def test_boxes_and_masks_follow_the_moved_picture(dataset: Path, records: Records, turn: float) -> None:
    opened = Dataset.open(dataset)
    cases = {c.id: c for c in opened.cases}
    chosen = np.arange(8)
    truth = [opened.masks(cases[str(records.ids[i])], ["lung_left"])["lung_left"] for i in chosen]
    picture = torch.from_numpy(np.stack(truth)[:, None].astype(np.float32))
    placement = place(Augmentation(untouched=0, turn=turn, zoom=0.2, shift=0.3), 8, np.random.default_rng(3))
    moved = Moved(records, chosen, placement)
    wanted = resample(picture, placement.theta, 192)[:, 0].numpy() > 0.5
    drawn = moved.dense(np.array([0]), 192)[:, 0].numpy() > 0.5
    assert moved.cut[:, 0].any()
    assert moved.whole[:, 0].any()
    for image in range(8):
        assert 2 * (wanted[image] & drawn[image]).sum() / (wanted[image].sum() + drawn[image].sum()) > 0.97
        box = moved.box(image, 0)
        assert box is not None
        rows, columns = np.nonzero(wanted[image])
        edges = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]) / 192
        room = np.array([-BOX_PADDING, -BOX_PADDING, BOX_PADDING, BOX_PADDING])
        assert np.allclose(box, (edges + room).clip(0, 1), atol=0.012)
        crop = moved.crops(np.array([image]), np.array([0]), box[None])[0].numpy()
        assert abs(crop.mean() * (box[2] - box[0]) * (box[3] - box[1]) - wanted[image].mean()) < 0.006


def test_nothing_is_asked_about_slivers_at_the_edge(records: Records) -> None:
    still = place(Augmentation.none(), 1, np.random.default_rng(0))
    right = records.boxes[0, 0, 3]
    left = records.boxes[0, 0, 1]
    sliver = Moved(records, np.array([0]), replace(still, offset=np.array([[0.0, 0.995 - left]])))
    assert sliver.cut[0, 0]
    assert sliver.box(0, 0) is None
    away = Moved(records, np.array([0]), replace(still, offset=np.array([[0.0, 1.1 - left]])))
    assert away.gone[0, 0]
    half = Moved(records, np.array([0]), replace(still, offset=np.array([[0.0, 1 - (left + right) / 2]])))
    box = half.box(0, 0)
    assert box is not None
    assert box[3] == 1


def test_marked_structures_are_drawn_where_they_are(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), marked=1.0))
    prompts = set()
    for seed in range(6):
        moved = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
        pixels = torch.zeros(1, 3, 64, 64)
        segments, _ = questions(asker, config, moved, 3, seed, pixels)
        texts = [tokens.text(row[:total].tolist()) for row, total in zip(segments.ids, segments.total, strict=True)]
        (marked,) = [t for t in texts if t.startswith("name the")]
        names = {"left lung": 0, "right lung": 1, "heart": 2}
        box = moved.box(0, names[marked.split("\n")[1].strip()])
        assert box is not None
        rows, columns = np.nonzero((pixels[0].abs().amax(0) > 0.1).numpy())
        assert np.allclose([rows.min(), columns.min(), rows.max(), columns.max()], box * 64, atol=3)
        prompts.add(marked.split("\n")[0])
    assert prompts == {"name the drawn box", "name the overlaid mask"}


def test_answers_about_several_structures_read_back(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), several=1.0))
    moved = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
    segments, _ = questions(asker, config, moved, 6, 0)
    for row, total in zip(segments.ids, segments.total, strict=True):
        prompt, answer = tokens.text(row[: int(total)].tolist()).split("\n")
        read, invalid = read_answer(answer)
        assert invalid == 0
        assert len(read) >= 2
        assert prompt == "segment " + " ; ".join(a.name for a in read)
        assert all(a.codes is not None for a in read)


def test_the_masks_beside_the_questions_are_those_of_their_codes(
    config: PretrainConfig, records: Records, tokens: SpecialTokens
) -> None:
    asker = asker_for(records, config, tokens, Tasks(absent=0.2, detect=0.2, caption_mask=0.2, several=0.3, spoken=0.5))
    assert config.codebook
    codebook = MaskCodebook.load(config.codebook)
    for seed in range(4):
        moved = Moved(records, np.array([0, 0]), place(Augmentation(), 2, np.random.default_rng(seed)))
        segments, crops = questions(asker, config, moved, 12, seed)
        _, _, wanted = segments.targets()
        codes = tokens.code_of[wanted]
        said = codes[codes >= 0].unflatten(0, (len(crops), -1))
        assert torch.equal(said, codebook.encode(crops))


def test_a_wrong_box_is_gone_on_from_with_the_mask_as_it_frames_it(
    config: PretrainConfig, records: Records, tokens: SpecialTokens
) -> None:
    """What is read back from box and codes is the structure where it is, though the box is off; the aim is the right box."""
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), slips=1.0))
    assert config.codebook
    codebook = MaskCodebook.load(config.codebook)
    off, names = [], {"left lung": 0, "right lung": 1, "heart": 2}
    for seed in range(8):
        moved = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
        segments, crops = questions(asker, config, moved, 4, seed)
        _, _, wanted = segments.targets()
        codes = tokens.code_of[wanted]
        assert torch.equal(codes[codes >= 0].unflatten(0, (len(crops), -1)), codebook.encode(crops))
        for row, aim, total, crop in zip(segments.ids, segments.aims, segments.total, crops, strict=True):
            (said, right) = (read_answer(tokens.text(ids[: int(total)].tolist()).split("\n")[1])[0][0] for ids in (row, aim))
            structure = names[said.name]
            assert np.allclose(np.array(right.bins) / 1023, moved.box(0, structure), atol=1 / 1023)
            assert right.codes == said.codes
            off.append(np.abs(np.subtract(said.bins, right.bins)).max())
            top, left, bottom, right_edge = (v / 1023 * 192 for v in said.bins)
            drawn = paste_mask((crop * 2 - 1).numpy(), (top, left, bottom, right_edge), (192, 192))
            there = moved.dense(np.array([structure]), 192)[0, 0].numpy() > 0.5
            inside = np.zeros_like(there)
            inside[int(top) + 1 : int(bottom), int(left) + 1 : int(right_edge)] = True
            assert (drawn & inside & there).sum() * 2 / ((drawn & inside).sum() + (there & inside).sum()) > 0.95
    assert max(off) > 20
    assert min(off) < 20


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


def test_a_detected_box_is_followed_by_the_name_alone(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), detect=1.0, spoken=0.0))
    moved = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
    segments, _ = questions(asker, config, moved, 4, 0)
    for row, total in zip(segments.ids, segments.total, strict=True):
        prompt, answer = tokens.text(row[: int(total)].tolist()).split("\n")
        ((read,), invalid) = read_answer(answer, needs="box")
        assert invalid == 0
        assert read.codes is None
        assert prompt == f"detect {read.name}"
        assert int(row[int(total) - 1]) == tokens.eos


def test_structures_moved_out_of_the_picture_are_answered_none(
    config: PretrainConfig, records: Records, tokens: SpecialTokens
) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), absent=0.5))
    placement = place(Augmentation.none(), 1, np.random.default_rng(0))
    away = Moved(records, np.array([0]), replace(placement, offset=placement.offset + 2))
    asked, _ = questions(asker, config, away, 8, 0)
    assert all("none" in tokens.text(row.tolist()) for row in asked.ids)
    here, _ = questions(asker, config, Moved(records, np.array([0]), placement), 40, 0)
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


def test_words_can_count_more_than_places(tokens: SpecialTokens) -> None:
    targets = torch.tensor([int(tokens.loc[500]), tokens.eos])
    logits = torch.zeros(2, int(tokens.bin_of.numel()))
    alone, place = (float(token_loss(logits[:1], targets[i : i + 1], tokens, 0.0, 0.0)[0]) for i in (1, 0))
    for weight in (1.0, 8.0):
        both, _ = token_loss(logits, targets, tokens, 0.0, 0.0, weight)
        assert float(both) == pytest.approx((weight * alone + place) / 2)


def test_the_learning_rate_warms_up_stays_and_ends_at_nothing(config: PretrainConfig) -> None:
    rates = [learning_rate(config, f) for f in np.linspace(0, 1, 101)]
    assert rates[10:45] == [config.learning_rate] * 35
    assert rates[0] < 0.01 * config.learning_rate
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_settings_are_changed_by_name(config: PretrainConfig) -> None:
    new = changed(config, ["stem=True", "tasks.absent=0.2", "augmentation.turn=5", "cache=here", "dense=1"])
    assert (new.stem, new.tasks.absent, new.augmentation.turn, new.cache, new.dense) == (True, 0.2, 5.0, Path("here"), 1.0)
    assert new.images == config.images
    for wrong in ("colour=3", "stem", "images=many", "tasks.fun=1", "heads.x=1"):
        with pytest.raises(ChexanatomyError):
            changed(config, [wrong])


def test_a_stemmed_tower_learns_and_serves_another_run(config: PretrainConfig, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"stem": True, "stem_depth": 2, "vision_width": 64, "dense_first": 1.0, "max_steps": 6}
    first = pretrain(replace(config, **sizes))
    assert "model.vision_tower.embeddings.patch_embedding.layers.0.down.weight" in load_file(first / "model.safetensors")
    vision = load(first).checkpoint.model.config.vision_config
    assert (vision.stem, vision.stem_depth) == (True, 2)
    second = pretrain(
        replace(config, **{**sizes, "max_steps": 1, "tower": first, "out": tmp_path / "second", "learning_rate": 0.0})
    )
    one, two = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert all(torch.equal(one[n], two[n]) for n in one if "vision_tower" in n)
    assert not all(torch.equal(one[n], two[n]) for n in one)
    third = pretrain(
        replace(config, **{**sizes, "max_steps": 1, "start": first, "out": tmp_path / "whole", "learning_rate": 0.0, "seed": 5})
    )
    three = load_file(third / "model.safetensors")
    assert all(torch.equal(one[n], three[n]) for n in one)
    with pytest.raises(BrokenModel, match="another shape"):
        pretrain(replace(config, tower=first, out=tmp_path / "third"))
    larger = {"max_steps": 1, "start": first, "out": tmp_path / "larger", "learning_rate": 0.0, "image_size": 96}
    four = load_file(pretrain(replace(config, **{**sizes, **larger})) / "model.safetensors")
    places = "model.vision_tower.embeddings.position_embedding.weight"
    assert (len(one[places]), len(four[places])) == (16, 36)
    assert all(torch.equal(one[n], four[n]) for n in one if n != places)


def test_places_keep_their_meaning_on_a_finer_grid() -> None:
    line = (torch.arange(4) + 0.5) / 4
    places = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).flatten(0, 1)
    finer = at_grid(places, 64).view(8, 8, 2)
    wanted = (torch.arange(8) + 0.5) / 8
    assert (finer[2:-2, 4, 0] - wanted[2:-2]).abs().max() < 0.05
    assert (finer[4, 2:-2, 1] - wanted[2:-2]).abs().max() < 0.05
    assert at_grid(places, 16) is places


def test_processes_prepare_the_same_steps_as_the_thread(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens)
    assert config.codebook
    codebook, here = MaskCodebook.load(config.codebook), torch.device("cpu")

    def plan(step: int) -> Plan:
        return make_plan(records, asker, config, step, 0, 1, 64, 16)

    def develop(planned: Plan) -> Batch:
        return planned.developed(codebook, tokens.seg)

    # One after the other: a process that is forked while a thread computes may inherit a lock that nobody opens.
    taken = []
    for loaders in (2, 0):
        steps = batches(plan, develop, 3, loaders, here)
        taken.append(list(islice(steps, 4)))
        steps.close()
    for one, other in zip(*taken, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.segments.ids, other.segments.ids)
        assert torch.equal(one.masks, other.masks)


def test_a_run_fed_by_processes_is_the_same_run(config: PretrainConfig, tmp_path: Path) -> None:
    fed = replace(config, out=tmp_path / "fed", loaders=2, max_steps=3)
    one, two = (load_file(pretrain(c) / "model.safetensors") for c in (replace(config, max_steps=3), fed))
    assert all(torch.equal(one[n], two[n]) for n in one)
