"""Few-shot learning: it learns, measures on what it did not see, keeps the best, and leaves the model as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.errors import BrokenModel, Cancelled, ChexanatomyError
from training.evaluate import from_folders, pairs
from training.fit import Adapter, AdaptSettings, Augmentation, Example, adapt
from training.fit.adapters import adapters_in, delete_adapter, export_adapter, rename_adapter
from training.fit.doubt import doubt_of, least_sure
from training.fit.lessons import Lessons
from training.images import Radiograph, write_mask_png, write_radiograph_png
from training.model import Finding, Predictor, load, save_checkpoint
from training.model.checkpoint import create
from training.model.taught import answers_alone, settled
from training.progress import Progress
from training.tokens.codebook import MaskCodebook
from training.tokens.tokenizer import build_tokenizer

NAME = "bright blob as drawn"
MOVED = replace(Augmentation.none(), shift=0.12, untouched=0.1)
QUICK = AdaptSettings(seconds=3000, steps=60, views=24, rehearsal=0, learning_rate=1e-2, augmentation=MOVED)


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
    adapter = adapt(model, lower, NAME, tmp_path / "adapter", replace(QUICK, steps=100), progress=reports.append)
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
    assert answers_alone(card)
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


def test_a_run_whose_starter_was_killed_keeps_its_best(base: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for number, example in enumerate(examples(3)):
        write_radiograph_png(example.radiograph, tmp_path / "images" / f"{number}.png")
        write_mask_png(example.mask, tmp_path / "masks" / f"{number}.png")
    command = ["adapt", "--images", tmp_path / "images", "--masks", tmp_path / "masks", "--structure", NAME, "--model", base]
    command += ["--out", tmp_path / "adapter", "--seconds", "600", "--steps", "100000", "--progress", "json", "--threads", "1"]
    child = subprocess.Popen([sys.executable, "-m", "training.cli", *map(str, command)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if json.loads(line)["done"] >= 25:
            break
    child.stdout.close()
    child.wait(timeout=300)
    card = json.loads((tmp_path / "adapter" / "chexanatomy.json").read_text())
    assert card["stopped_early"]
    assert load(tmp_path / "adapter").learned == (NAME,)


def test_the_vision_tower_learns_only_when_it_is_asked_to(base: Path, tmp_path: Path) -> None:
    before = load(base).model.state_dict()
    for method, learns in (("model", True), ("decoder", False)):
        adapt(base, examples(2), NAME, tmp_path / method, replace(QUICK, steps=2, method=method))
        after = load(tmp_path / method).model.state_dict()
        changed = {name for name, weight in after.items() if not torch.allclose(weight, before[name], atol=1e-4)}
        assert any("vision_tower" in name for name in changed) == learns
        assert any("language_model" in name for name in changed)


def test_masks_go_where_the_image_goes(base: Path) -> None:
    """A look at a bright blob, read back from its answer, covers what is bright in it."""
    model = load(base)
    (example,) = examples(1)
    bright = replace(example, radiograph=Radiograph(example.mask.astype(np.float32)))
    changes = replace(Augmentation.none(), zoom=0.3, shift=0.1, turn=20, untouched=0)
    lessons = Lessons.of(model, [bright], NAME, changes, 0)
    rng = np.random.default_rng(0)
    for _ in range(10):
        look = lessons.look(0, True, rng, features=False)
        assert look.crop is not None
        bins = model.tokens.bin_of[list(look.taught.answer[:4])].tolist()
        top, left, bottom, right = (round(b / 1023 * 64) for b in bins)
        inside = look.seen[0, top:bottom, left:right] > 0
        assert inside.sum() >= 0.98 * (look.seen[0] > 0).sum()
        drawn = torch.nn.functional.interpolate(look.crop[None, None], inside.shape, mode="bilinear")[0, 0] > 0.5
        assert 2 * (drawn & inside).sum() / (drawn.sum() + inside.sum()) > 0.9


def test_images_come_least_sure_first(schooled: Adapter) -> None:
    clear = replace(examples(1)[0].radiograph, name="clear")
    noise = Radiograph(np.random.default_rng(0).random((64, 64), dtype=np.float32), name="noise")
    reports: list[Progress] = []
    order = least_sure(load(schooled.folder), [clear, noise], "heart", reports.append)
    assert {doubt.name for doubt in order} == {"noise", "clear"}
    assert 0 <= order[1].doubt <= order[0].doubt <= 1
    assert reports[-1].done == 2


def test_a_mask_that_jumps_between_looks_is_doubted_and_a_steady_one_is_not() -> None:
    looks = [np.zeros((32, 32), np.float32) for _ in range(5)]
    for i, look in enumerate(looks):
        look[8:24, 4 + 3 * i : 16 + 3 * i] = 1
    jumping, steady = np.mean(looks, axis=0), looks[0]
    there = {
        name: Finding("heart", True, None, p > 0.5, 0.9, (), "heart", p) for name, p in (("jumping", jumping), ("steady", steady))
    }
    assert doubt_of(there["steady"]) == 0
    assert 0.2 < doubt_of(there["jumping"]) < 1
    absent = Finding("heart", False, None, None, 0.7, (), "none heart", np.zeros((32, 32), np.float32))
    assert doubt_of(absent) == pytest.approx(0.3)


def test_adapters_are_listed_renamed_exported_and_moved_away(base: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        adapt(base, examples(3), NAME, tmp_path / "adapters" / name, replace(QUICK, steps=2), name=f"try {name}")
    first, second = adapters_in(tmp_path / "adapters")
    assert [first.name, second.name] == ["try a", "try b"]
    first = rename_adapter(first, "  better  name ")
    assert adapters_in(tmp_path / "adapters")[0].name == "better name"
    assert "better name" in (first.folder / "README.md").read_text()
    with pytest.raises(ChexanatomyError, match="at least one letter"):
        rename_adapter(first, " ")
    shutil.unpack_archive(export_adapter(first, tmp_path / "out"), tmp_path / "unpacked")
    assert load(tmp_path / "unpacked" / "a").learned == (NAME,)
    where = delete_adapter(second)
    assert [kept.folder.name for kept in adapters_in(tmp_path / "adapters")] == ["a"]
    assert load(where).learned == (NAME,)


def test_other_structures_are_rehearsed_with_the_models_own_answers(base: Path, tmp_path: Path) -> None:
    checkpoint = load(base).checkpoint
    willing = replace(checkpoint, card={**checkpoint.card, "structures": ["heart", "lung_left"], "presence_threshold": 0.0})
    settings = replace(QUICK, method="decoder", steps=2, rehearsal=2)
    adapter = adapt(Predictor(willing, "cpu"), examples(3), NAME, tmp_path / "adapter", settings)
    assert not answers_alone(adapter.card)
    assert set(adapter.card["others"]["agreement"]) <= {"heart", "lung_left"}
    assert 0 <= adapter.card["others"]["mean"] <= 1


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
    second = adapt(first.folder, examples(3, row=20), "left kidney", tmp_path / "second", replace(QUICK, steps=2))
    both = load(second.folder)
    assert both.learned == (NAME,)
    assert both.card["from_drawings"] == [NAME, "kidney_left"]
    plain = replace(examples(1)[0].radiograph, pixels=examples(1)[0].radiograph.pixels[::-1].copy())
    asked = ["lung_left", NAME, "heart", "kidney_left"]
    for accurate in (False, True):
        after = both.segment(plain, asked, accurate=accurate)
        before = load(base).segment(plain, ["lung_left", "heart", "kidney_left"], accurate=accurate)
        (blob,) = load(first.folder).segment(plain, [NAME], accurate=accurate)
        assert [said(finding) for finding in after[:3]] == [said(before[0]), said(blob), said(before[1])]
        assert after[3].confidence != before[2].confidence
    names = ["lung_left", "heart"]
    assert both.identify(plain, (5, 5, 50, 50), structures=names) == load(base).identify(plain, (5, 5, 50, 50), structures=names)
    assert both.view(plain) == load(base).view(plain)


def test_an_adapter_of_other_weights_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = adapt(base, examples(3), NAME, tmp_path / "adapter", replace(QUICK, steps=2)).folder
    again = save_checkpoint(load(base).checkpoint, tmp_path / "again")
    assert load(f"{again}+{adapter}").learned == (NAME,), "another folder of the same weights"
    later = load(base).checkpoint
    with torch.no_grad():
        later.model.model.language_model.layers[0].mlp.up_proj.weight.mul_(1.01)
    with pytest.raises(BrokenModel, match="earlier version"):
        load(f"{save_checkpoint(later, tmp_path / 'later')}+{adapter}")
    card = json.loads((adapter / "chexanatomy.json").read_text())
    del card["base_weights"]
    (adapter / "chexanatomy.json").write_text(json.dumps(card))
    assert load(f"{tmp_path / 'later'}+{adapter}").learned == (NAME,), "made before this was kept"


def test_an_adapter_belongs_on_the_adapters_it_was_taught_on(base: Path, tmp_path: Path) -> None:
    first = adapt(base, examples(3), NAME, tmp_path / "first", replace(QUICK, steps=2)).folder
    second = adapt(first, examples(3), "my thing", tmp_path / "second", replace(QUICK, steps=2)).folder
    assert load(second).learned == (NAME, "my thing")
    with pytest.raises(BrokenModel, match="other weights"):
        load(f"{base}+{second}")
    other = adapt(base, examples(3, row=20), NAME, tmp_path / "other", replace(QUICK, steps=3)).folder
    with pytest.raises(BrokenModel, match="other weights"):
        load(f"{base}+{other}+{second}")


def test_an_adapter_without_weights_for_every_layer_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = adapt(base, examples(3), NAME, tmp_path / "adapter", replace(QUICK, steps=2)).folder
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({k: v for k, v in weights.items() if ".layers.1." not in k}, adapter / "adapter_model.safetensors")
    with pytest.raises(BrokenModel, match="lacks"):
        load(adapter)


def test_a_whole_is_compared_with_what_its_parts_were_and_keeps_them(base: Path, tmp_path: Path) -> None:
    checkpoint = load(base).checkpoint
    lobes = ["lung_upper_lobe_left", "lung_lower_lobe_left"]
    checkpoint.card |= {"structures": ["lung_left", *lobes], "in_parts": {"lung_left": lobes}}
    parted = save_checkpoint(checkpoint, tmp_path / "parted")
    film = examples(1)[0].radiograph
    before = load(parted).segment(film, ["lung_left"])[0]
    lobe = load(adapt(parted, examples(3), lobes[0], tmp_path / "lobe", replace(QUICK, steps=3)).folder)
    after = lobe.segment(film, ["lung_left", lobes[0]])
    assert said(after[0]) == said(before), "a whole is answered as it was before one of its parts was taught"
    assert after[1].confidence != load(parted).segment(film, lobes[:1])[0].confidence
    whole = adapt(
        parted,
        [replace(e, held_out=e.label == "film2") for e in examples(3)],
        "lung_left",
        tmp_path / "whole",
        replace(QUICK, steps=2),
    )
    (kept,) = [e for e in examples(3) if e.label == "film2"]
    (united,) = load(parted).segment(kept.radiograph, ["lung_left"])
    drawn = np.zeros_like(kept.mask) if united.mask is None else united.mask
    assert whole.before["film2"] == pytest.approx(2 * (drawn & kept.mask).sum() / (drawn.sum() + kept.mask.sum()), abs=1e-5)


def said(finding: Finding) -> tuple[object, ...]:
    """All of a finding that the model decides."""
    return finding.structure, finding.tokens, finding.confidence, finding.box


def test_an_adapter_is_merged_before_its_model_is_taught_as_a_whole(base: Path, tmp_path: Path) -> None:
    first = load(adapt(base, examples(3), NAME, tmp_path / "first", replace(QUICK, steps=2)).folder)
    whole = settled(first.checkpoint)
    film = examples(1)[0].radiograph
    (apart,) = first.segment(film, [NAME])
    together = Predictor(whole, "cpu").segment(film, [NAME, "heart"])
    assert together[0].confidence == pytest.approx(apart.confidence, abs=1e-5)
    assert together[1].confidence != first.segment(film, ["heart"])[0].confidence, "merged, it answers everything"
    assert whole.model.state_dict().keys() == load(base).model.state_dict().keys()
    second = adapt(first, examples(3), "heart", tmp_path / "second", replace(QUICK, steps=2, method="decoder"))
    assert load(second.folder).learned == (NAME,)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_what_was_learnt_is_kept_whatever_the_files_are_called(base: Path, tmp_path: Path) -> None:
    old = os.fsdecode(b"Andr\xe9")
    drawn = [tmp_path / kind for kind in ("images", "masks")]
    for number, example in enumerate(examples(3)):
        write_radiograph_png(example.radiograph, drawn[0] / f"{old}{number}.png")
        write_mask_png(example.mask, drawn[1] / f"{old}{number}.png")
    shown = [Example(one.radiograph, one.references["heart"], name=one.id) for one in from_folders(pairs(*drawn), "heart")]
    adapter = adapt(base, shown, "heart", tmp_path / "adapter", replace(QUICK, steps=2), name=old)
    assert adapter.card["adapter"] == "Andr\ufffd"
    assert {name for names in adapter.card["images"].values() for name in names} == {f"Andr\ufffd{n}" for n in range(3)}
    with pytest.raises(ChexanatomyError, match="choose another folder"):
        adapt(base, shown, "heart", tmp_path / old)
    assert not (tmp_path / old).exists()
