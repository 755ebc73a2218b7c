"""Few-shot learning: it learns, measures on what it did not see, keeps the best, and leaves the model as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.errors import Cancelled, ChexanatomyError
from training.fit import Adapter, AdaptSettings, Augmentation, Example, adapt
from training.images import Radiograph
from training.model import Predictor, load, save_checkpoint
from training.model.checkpoint import create
from training.progress import Progress
from training.tokens.codebook import MaskCodebook
from training.tokens.tokenizer import build_tokenizer

NAME = "bright blob as drawn"
MOVED = replace(Augmentation.none(), shift=0.12, untouched=0.1)
QUICK = AdaptSettings(seconds=300, steps=60, views=24, rehearsal=0, learning_rate=1e-2, augmentation=MOVED)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, codebook_file: Path) -> Path:
    """A model that has never seen anything."""
    sizes = {"image_size": 64, "vision_width": 32, "vision_depth": 2, "text_width": 64, "text_depth": 2, "text_hidden": 128}
    checkpoint = create(build_tokenizer(), MaskCodebook.load(codebook_file), seed=1, **sizes)
    return save_checkpoint(checkpoint, tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="module")
def schooled(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Adapter:
    """The same after its decoder was taught a round heart."""
    settings = replace(QUICK, method="decoder", learning_rate=6e-3, steps=160)
    return adapt(base, examples(5), "heart", tmp_path_factory.mktemp("schooled") / "model", settings)


def examples(count: int, row: int = 30) -> list[Example]:
    y, x = np.mgrid[:64, :64]
    mask = (y - row) ** 2 / 400 + (x - 34) ** 2 / 200 < 1
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        pixels = np.clip(0.3 + 0.5 * mask + rng.normal(0, 0.03, mask.shape), 0, 1).astype(np.float32)
        made.append(Example(Radiograph(pixels, name=f"film{i}"), mask))
    return made


def test_the_whole_decoder_can_be_taught(schooled: Adapter) -> None:
    assert (schooled.folder / "model.safetensors").exists()
    assert min(schooled.after.values()) > 0.6
    assert schooled.better
    (finding,) = load(schooled.folder).segment(examples(1)[0].radiograph, ["heart"])
    assert finding.present


def test_a_new_structure_is_learnt_and_its_adapter_opens(schooled: Adapter, tmp_path: Path) -> None:
    model = load(schooled.folder)
    weights = {k: v.clone() for k, v in model.model.state_dict().items()}
    reports: list[Progress] = []
    lower = examples(5, row=40)
    adapter = adapt(model, lower, NAME, tmp_path / "adapter", QUICK, progress=reports.append)
    assert len(adapter.after) == 1
    assert adapter.after.keys() == adapter.before.keys()
    ((label, score),) = adapter.after.items()
    assert score > 0.6
    assert adapter.better
    assert any("loss" in r.values for r in reports)
    assert any("held_out_dice" in r.values for r in reports)
    assert all(torch.equal(v, weights[k]) for k, v in model.model.state_dict().items())
    again = load(adapter.folder)
    assert NAME in again.learned
    (held_out,) = [e for e in lower if e.label == label]
    (finding,) = again.segment(held_out.radiograph, [NAME])
    assert finding.mask is not None
    dice = 2 * (finding.mask & held_out.mask).sum() / (finding.mask.sum() + held_out.mask.sum())
    assert dice == pytest.approx(score, abs=0.01)


def test_the_card_says_what_was_done(base: Path, tmp_path: Path) -> None:
    adapt(base, examples(4), NAME, tmp_path / "adapter", replace(QUICK, steps=2))
    card = json.loads((tmp_path / "adapter" / "chexanatomy.json").read_text())
    assert card["structure"] == NAME
    assert card["learned"] == [NAME]
    assert card["base"] == str(base)
    assert len(card["images"]["held_out"]) == 1
    assert len(card["images"]["learnt_from"]) == 3
    assert set(card["before"]["per_image"]) == set(card["after"]["per_image"]) == set(card["images"]["held_out"])
    assert isinstance(card["better"], bool)


def test_with_two_images_nothing_is_held_out_and_the_card_says_so(base: Path, tmp_path: Path) -> None:
    adapter = adapt(base, examples(2), "heart", tmp_path / "adapter", replace(QUICK, steps=2))
    assert adapter.better is None
    assert "no measure" in adapter.card["note"]
    assert adapter.card["after"]["dice"] is None
    assert adapter.card["learned"] == []


def test_the_callers_choice_of_held_out_images_is_kept(base: Path, tmp_path: Path) -> None:
    chosen = [replace(e, held_out=i in (0, 2), name=f"stem{i}") for i, e in enumerate(examples(4))]
    adapter = adapt(base, chosen, "heart", tmp_path / "adapter", replace(QUICK, steps=2))
    assert set(adapter.before) == {"stem0", "stem2"}


def test_stopping_keeps_what_was_learnt(base: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 3:
            raise Cancelled("Stopped.")

    adapter = adapt(base, examples(3), NAME, tmp_path / "adapter", QUICK, progress=stop)
    assert adapter.card["stopped_early"]
    assert adapter.card["steps"] == 3
    assert load(adapter.folder).learned == (NAME,)


def test_stopping_before_the_first_step_leaves_nothing(base: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        adapt(base, examples(3), NAME, tmp_path / "adapter", QUICK, progress=stop)
    assert not (tmp_path / "adapter").exists()


def test_other_structures_are_rehearsed_with_the_models_own_answers(base: Path, tmp_path: Path) -> None:
    checkpoint = load(base).checkpoint
    willing = replace(checkpoint, card={**checkpoint.card, "structures": ["heart", "lung_left"], "presence_threshold": 0.0})
    adapter = adapt(Predictor(willing, "cpu"), examples(3), NAME, tmp_path / "adapter", replace(QUICK, steps=2, rehearsal=2))
    assert adapter.card["settings"]["rehearsal"] == 2


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ChexanatomyError, match="draw it on that radiograph"):
        Example(Radiograph(np.zeros((8, 8), np.float32)), np.zeros((8, 9), bool))


def test_images_that_show_nothing_cannot_teach(base: Path, tmp_path: Path) -> None:
    empty = [replace(e, mask=np.zeros_like(e.mask)) for e in examples(3)]
    with pytest.raises(ChexanatomyError, match="draw it on at least one"):
        adapt(base, empty, NAME, tmp_path / "adapter", QUICK)


def test_a_folder_with_other_things_is_not_overwritten(base: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "thesis.txt").write_text("mine")
    with pytest.raises(ChexanatomyError, match="choose a new folder"):
        adapt(base, examples(3), NAME, tmp_path / "adapter", QUICK)
    assert (tmp_path / "adapter" / "thesis.txt").read_text() == "mine"


def test_an_adapter_can_be_taught_on_an_adapter(base: Path, tmp_path: Path) -> None:
    first = adapt(base, examples(3), NAME, tmp_path / "first", replace(QUICK, steps=2))
    second = adapt(first.folder, examples(3), "second blob", tmp_path / "second", replace(QUICK, steps=2))
    assert set(load(second.folder).learned) == {NAME, "second blob"}
