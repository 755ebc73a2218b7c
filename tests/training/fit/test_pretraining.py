"""The training loop learns, is the same after an interruption, and respects reviewers."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.training.fit.conftest import STRUCTURES, asker_for
from training.dataset import Dataset
from training.dataset.reviews import WHOLE_CASE
from training.errors import BrokenDataset, BrokenModel, Cancelled, ChexanatomyError
from training.fit import Augmentation, PretrainConfig, pretrain
from training.fit.augment import photograph, spread
from training.fit.batches import Batch, Plan, batches, make_plan
from training.fit.losses import code_aims, names_alone, token_loss
from training.fit.pupils import TokenPupil, at_grid, starting_point, take_weights
from training.fit.queries import Asker
from training.fit.records import Records
from training.fit.schedule import learning_rate
from training.fit.settings import changed
from training.fit.state import Ema, averaged, check_same_run, load_state
from training.model import decoding, load
from training.model.packing import Segment, Segments, see
from training.model.special import SpecialTokens
from training.progress import Progress
from training.tokens.codebook import MaskCodebook
from training.tokens.grammar import segment_prompt


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


def test_steps_that_were_lost_are_noted_once(config: PretrainConfig) -> None:
    pretrain(replace(config, max_steps=3, log_steps=1))
    log = config.out / "log.jsonl"
    whole = log_of(config.out)
    log.write_text(log.read_text() + '{"step": 4, "loss": 9.0}\n{"step": 5, "val/dice": 0.1}\n\0\n{"step": 3, "lo')
    reports: list[Progress] = []
    pretrain(replace(config, max_steps=5, log_steps=1), reports.append)
    assert log_of(config.out)[: len(whole)] == whole
    assert [row["step"] for row in log_of(config.out) if "loss" in row] == [1, 2, 3, 4, 5]
    assert not any(row.get("loss") == 9.0 for row in log_of(config.out))
    assert [one.text for one in reports if one.text.startswith("Going on")] == ["Going on from step 3"]
    assert not list(config.out.glob(".writing-*"))


def test_a_run_of_other_settings_is_not_continued(config: PretrainConfig, tmp_path: Path) -> None:
    pretrain(replace(config, max_steps=1))
    before = (config.out / "state.safetensors").read_bytes()
    for other, named in (
        ({"text_hidden": 96}, "text_hidden 64, not 96: go on"),
        ({"learning_rate": 0.5, "seed": 99}, "learning_rate 0.0015, not 0.5; seed 0, not 99: go on"),
        ({"limit": 4}, "limit None, not 4: go on"),
        ({"tasks": replace(config.tasks, absent=0.3)}, "tasks.absent 0.1, not 0.3: go on"),
    ):
        with pytest.raises(BrokenModel, match=re.escape(f"was begun with {named}")):
            pretrain(replace(config, max_steps=2, **other))
    assert (config.out / "state.safetensors").read_bytes() == before
    moved = shutil.copytree(config.datasets[0], tmp_path / "moved")
    elsewhere = {"datasets": (moved,), "workers": 0, "max_minutes": 5.0, "learning_rate": 1e-4, "log_steps": 1}
    check_same_run(config.out, asdict(replace(config, bf16=True)))  # other processors have other instructions
    pretrain(replace(config, max_steps=2, **elsewhere))
    assert log_of(config.out)[-1]["step"] == 2


def test_a_run_that_goes_on_with_other_cases_says_so_and_so_does_its_card(config: PretrainConfig, tmp_path: Path) -> None:
    folder = shutil.copytree(config.datasets[0], tmp_path / config.datasets[0].name)
    reports: list[Progress] = []

    def learnt(steps: int) -> dict[str, Any]:
        run = pretrain(replace(config, max_steps=steps, datasets=(folder,)), reports.append)
        return load(run).card["training"]  # type: ignore[no-any-return]

    before = learnt(1)["cases"]
    assert "cases_before" not in learnt(2)
    dataset = Dataset.open(folder)
    left_out = next(case.id for case in dataset.cases if case.split == "train")
    dataset.reviews.decide(left_out, WHOLE_CASE, "reject")
    learnt(3)
    training = learnt(4)
    assert (training["cases"], training["cases_before"]) == (before - 1, [{"from_step": 0, "cases": before}])
    assert [one.text for one in reports if one.text.startswith("Going on")] == [
        "Going on from step 1",
        f"Going on from step 2, with other cases: {before} before, {before - 1} now",
        "Going on from step 3",
    ]


def test_a_state_of_another_shape_is_not_taken_up(config: PretrainConfig) -> None:
    pretrain(replace(config, max_steps=1))
    other = TokenPupil(replace(config, text_hidden=96), STRUCTURES).learner
    with pytest.raises(BrokenModel, match="another model shape"):
        load_state(config.out, other, Ema(other, 0.9), torch.optim.SGD(other.parameters()))


def test_a_run_without_an_end_is_refused(config: PretrainConfig) -> None:
    with pytest.raises(BrokenDataset, match="max_minutes"):
        pretrain(replace(config, max_steps=None))


def test_minutes_end_a_run(config: PretrainConfig) -> None:
    folder = pretrain(replace(config, max_steps=None, max_minutes=0.02))
    assert (folder / "model.safetensors").exists()


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


def test_the_box_loss_prefers_near_misses(tokens: SpecialTokens) -> None:
    size = int(tokens.bin_of.numel())
    target = tokens.loc[[500]]

    def loss(guess: int) -> float:
        logits = torch.zeros(1, size)
        logits[0, tokens.loc[guess]] = 12
        return float(token_loss(logits, target, tokens, sigma=6.0, aims=None)[0])

    assert loss(500) < loss(505) < loss(600)
    _, watched = token_loss(torch.eye(size)[tokens.loc[[510]]] * 9, target, tokens, 6.0, None)
    assert watched["box_error"] == (10.0, 1)


def test_the_code_loss_prefers_codes_that_draw_nearly_the_same(tokens: SpecialTokens) -> None:
    book = MaskCodebook()
    distance = torch.cdist(book.embedding, book.embedding)[7]
    near, far = distance.argsort()[[1, -1]].tolist()

    def loss(guess: int, aims: torch.Tensor | None) -> float:
        logits = torch.zeros(1, int(tokens.bin_of.numel()))
        logits[0, tokens.seg[guess]] = 12
        return float(token_loss(logits, tokens.seg[[7]], tokens, 0.0, aims)[0])

    soft, hard = code_aims(book, 0.05, near=0.5), code_aims(book, 0.05)
    for aims in (soft, hard):
        assert torch.allclose(aims.sum(1), torch.ones(book.size))
        assert torch.equal(aims.argmax(1), torch.arange(book.size))
    assert loss(7, soft) < loss(near, soft) < loss(far, soft)
    assert loss(7, hard) < loss(near, hard) == pytest.approx(loss(far, hard))
    assert loss(near, code_aims(book, 0.0)) == pytest.approx(loss(near, None))


def test_words_can_count_more_than_places(tokens: SpecialTokens) -> None:
    targets = torch.tensor([int(tokens.loc[500]), tokens.eos])
    logits = torch.zeros(2, int(tokens.bin_of.numel()))
    alone, place = (float(token_loss(logits[:1], targets[i : i + 1], tokens, 0.0, None)[0]) for i in (1, 0))
    for weight in (1.0, 8.0):
        both, _ = token_loss(logits, targets, tokens, 0.0, None, torch.full((2,), weight))
        assert float(both) == pytest.approx((weight * alone + place) / 2)


def test_an_answer_is_a_name_alone_or_more(tokens: SpecialTokens) -> None:
    place = (*tokens.loc[[1, 2, 3, 4]].tolist(), *tokens.encode(" heart"))
    answers = (tokens.encode("heart"), tokens.encode("none heart"), place)
    segments = Segments.of([Segment(tokens.prompt("ask"), answer) for answer in answers], tokens.pad)
    assert names_alone(segments, tokens).tolist() == [True, False, False]


def test_the_learning_rate_warms_up_stays_and_ends_at_nothing(config: PretrainConfig) -> None:
    rates = [learning_rate(config, f) for f in np.linspace(0, 1, 101)]
    assert rates[10:45] == [config.learning_rate] * 35
    assert rates[0] < 0.01 * config.learning_rate
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_settings_are_changed_by_name(config: PretrainConfig) -> None:
    new = changed(config, ["stem=True", "tasks.absent=0.2", "augmentation.turn=5", "cache=here", "dense=1"])
    assert (new.stem, new.tasks.absent, new.augmentation.turn, new.cache, new.dense) == (True, 0.2, 5.0, Path("here"), 1.0)
    assert new.images == config.images
    assert changed(config, ["structures=('Heart', 'left lung', 'heart')"]).structures == ("heart", "lung_left")
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


def test_a_run_goes_on_with_the_head_of_one_before(config: PretrainConfig, tmp_path: Path) -> None:
    pretrain(replace(config, max_steps=3))
    still = replace(config, max_steps=1, learning_rate=0.0, seed=5)
    learnt = averaged(config.out, "head")
    pretrain(replace(still, dense_start=config.out, out=tmp_path / "on"))
    assert all(torch.equal(learnt[n], w) for n, w in averaged(tmp_path / "on", "head").items())
    pretrain(replace(still, out=tmp_path / "anew"))
    assert not torch.equal(learnt["linear.weight"], averaged(tmp_path / "anew", "head")["linear.weight"])
    with pytest.raises(BrokenModel, match="no training run"):
        pretrain(replace(still, dense_start=tmp_path / "nowhere", out=tmp_path / "first"))
    one = replace(still, dense_start=config.out, structures=("heart",), out=tmp_path / "one")
    with pytest.raises(BrokenModel, match="another shape"):
        pretrain(one)
    frozen = replace(still, freeze_vision=True, tower=config.out / "checkpoint", out=tmp_path / "frozen")
    pretrain(frozen)
    with pytest.raises(BrokenModel, match="no head"):
        pretrain(replace(still, dense_start=frozen.out, out=tmp_path / "last"))
    with pytest.raises(ChexanatomyError, match="dense_start"):
        replace(frozen, dense_start=config.out)


@torch.inference_mode()
def test_a_deeper_model_begins_as_the_one_it_grew_from(config: PretrainConfig) -> None:
    grown, _ = starting_point(config)
    deeper, _ = starting_point(replace(config, vision_depth=config.vision_depth + 1, text_depth=config.text_depth + 2, seed=7))
    take_weights(deeper.model, grown.model.state_dict(), Path("grown"))
    assert len(deeper.model.state_dict()) > len(grown.model.state_dict())
    tokens = SpecialTokens(grown.tokenizer, grown.model.config.get_text_config().vocab_size)
    pixels = torch.rand(1, 3, grown.image_size, grown.image_size)
    prompts = [tokens.prompt(segment_prompt("heart"))]
    answers = [decoding.write(c.model.eval(), tokens, see(c.model, pixels, packed=True), prompts)[0] for c in (grown, deeper)]
    assert answers[0].codes == answers[1].codes
    assert answers[0].bins == answers[1].bins
    assert answers[1].presence == pytest.approx(answers[0].presence, abs=1e-5)
    with pytest.raises(BrokenModel, match="no fewer layers"):
        take_weights(grown.model, deeper.model.state_dict(), Path("deeper"))


def test_a_frozen_tower_stays_while_the_decoder_learns(config: PretrainConfig, tmp_path: Path) -> None:
    first = pretrain(config)
    frozen = replace(config, freeze_vision=True, tower=first, out=tmp_path / "frozen", max_steps=3)
    second = pretrain(frozen)
    one, two = (load_file(folder / "model.safetensors") for folder in (first, second))
    assert all(torch.equal(one[n], two[n]) for n in one if "vision_tower" in n)
    assert not any(torch.equal(one[n], two[n]) for n in one if "mlp" in n and "language_model" in n)
    assert not any("dense_loss" in row for row in log_of(frozen.out)), "the auxiliary loss is for the tower alone"
    with pytest.raises(BrokenModel, match="start or tower"):
        pretrain(replace(config, freeze_vision=True, out=tmp_path / "random"))


def test_a_loss_that_is_no_number_leaves_the_last_state(config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from training.fit.pupils import Learner

    pretrain(config)
    before = (config.out / "state.safetensors").read_bytes()
    whole = Learner.forward
    monkeypatch.setattr(Learner, "forward", lambda *given, **how: (whole(*given, **how)[0] * float("nan"), {}))
    with pytest.raises(BrokenModel, match="go on from the last state"):
        pretrain(replace(config, max_steps=12))
    assert (config.out / "state.safetensors").read_bytes() == before


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
