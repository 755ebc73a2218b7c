"""Data sets on the command line: imported radiographs, second opinions, and who decides."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.test_cli import Run, body, one_line, picture, run, synthesize, untrained

__all__ = ["body", "run", "untrained"]


def test_imported_radiographs_are_scored_as_drawn_and_it_is_said(run: Run, tmp_path: Path, untrained: Path) -> None:
    folder = picture(tmp_path / "cases/one/ct.png").parent
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(folder / "left lung.png")
    assert run("export", tmp_path / "cases", "--form", "dataset", "--out", tmp_path / "data")[0] == 0
    ask = ("evaluate", "--dataset", tmp_path / "data", "--split", "all", "--model", untrained, "--out", tmp_path / "report")
    status, _, complaint = run(*ask, "--structures", "lung_left")
    assert status == 0
    assert "give --lungs projected if they were" in complaint
    assert "projected" not in run(*ask, "--structures", "lung_left", "--lungs", "projected")[2]
    assert "projected" not in run(*ask, "--structures", "heart")[2]


def test_a_model_that_has_learnt_more_is_asked_again(run: Run, body: Path, tmp_path: Path, untrained: Path) -> None:
    from training.model.checkpoint import save_checkpoint
    from training.model.loading import load_checkpoint

    command = synthesize(body, tmp_path / "data")
    command[command.index("400")] = "1"
    assert run(*command)[0] == 0
    model = tmp_path / "model"
    shutil.copytree(untrained, model)
    ask = ("review", tmp_path / "data", "--model", model, "--model-structures", "heart", "--show", 0, "--workers", 1)
    kept = tmp_path / "data/cache/opinions.jsonl"
    asked = []
    for learnt in (False, False, True):
        if learnt:
            checkpoint = load_checkpoint(model)
            checkpoint.model.get_parameter(next(name for name, _ in checkpoint.model.named_parameters())).data += 0.5
            save_checkpoint(checkpoint, model)
        assert run(*ask)[0] == 0
        asked.append(len(kept.read_text().splitlines()))
    assert asked == [1, 1, 2]


def test_who_decides_is_asked_where_the_system_does_not_know(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = picture(tmp_path / "cases/one/ct.png").parent
    Image.fromarray(np.full((48, 64), 255, np.uint8)).save(folder / "heart.png")
    assert run("export", tmp_path / "cases", "--form", "dataset", "--out", tmp_path / "data")[0] == 0

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    decide = ("review", tmp_path / "data", "--case", "one", "--decide", "accept")
    status, _, complaint = run(*decide)
    assert status == 2
    assert one_line(complaint)
    assert "--reviewer" in complaint
    assert run(*decide, "--reviewer", "anna")[0] == 0
    status, _, complaint = run("review", tmp_path / "data", "--reviewer", "anna")
    assert status == 2
    assert "belong to a decision" in complaint


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("train --steps 0", "steps is a number from 1 on; got 0"),
        ("train --steps -1", "steps is a number from 1 on; got -1"),
        ("train --minutes 0", "minutes is a number above 0"),
        ("train --minutes nan", "minutes is a number above 0; got nan"),
        ("train --images 0", "images is"),
        ("train --queries 0", "queries is"),
        ("train --image-size 0", "image_size is a number from 1 on"),
        ("train --image-size 33", "image_size is a multiple of patch, 16 px; got 33"),
        ("train --learning-rate nan", "learning_rate is"),
        ("train --lora-rank 0", "lora_rank is"),
        ("train --workers -1", "workers is a number from 0 on"),
        ("train --threads 0", "threads is"),
        ("train --limit 0", "limit is"),
        ("train --set max_steps=0", "steps is"),
        ("train --seed -1", "seed is a number from 0 on"),
        ("train --set heads=5", "vision_width is a multiple of heads, 5, and"),
        ("train --set text_width=36", "text_width of twice as many; got 192 and 36"),
        ("train --image-size 64 --set patch=10", "image_size is a multiple of patch, 10 px; got 64"),
        ("train --image-size 60 --set patch=10 stem=True", "patch is a power of two from 2 px on; got 10"),
        ("train --set stem=True vision_width=32", "vision_width is a multiple of 64; got 32"),
        ("train --set vision_depth=0", "vision_depth is a number from 1 on"),
        ("train --set ema=2.0", "ema is a number from 0 to 1; got 2"),
        ("train --set cooldown=1.5", "cooldown is a number from 0 to 1"),
        ("train --set clip=-1", "clip is a number above 0"),
        ("train --set structures=('heart','nonsense')", "No structure is called 'nonsense'"),
        ("train --set structures=heart", "structures=heart does not fit"),
        ("train --unet --set unet_widths=(16,16)", "unet_widths are 6 numbers from 1 on; got (16, 16)"),
        ("train --unet --base b", "leave out unet or base"),
        ("train --unet --freeze-vision", "leave out unet or freeze_vision"),
        ("adapt --steps -1", "steps is"),
        ("adapt --seconds nan", "seconds is a number above 0"),
        ("adapt --rank 0", "rank is"),
        ("adapt --threads -5", "threads is"),
        ("suggest --threads 0", "threads is"),
    ],
)
def test_a_senseless_number_is_refused_before_anything_is_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str
) -> None:
    given = {
        "train": "--dataset nowhere --out y",
        "adapt": "--images nowhere --masks nowhere --structure s --out y",
        "suggest": "nowhere --structure s",
    }
    monkeypatch.chdir(tmp_path)
    command, *rest = arguments.split()
    status, _, complaint = run(command, *given[command].split(), *rest)
    assert status == 2
    assert one_line(complaint)
    assert expected in complaint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ((), "predict IMAGE --structures heart --model {0} --out DIR\n"),
        (("--base", "b", "--codebook", "vae-oid.npz"), "--model {0} --codebook vae-oid.npz --out DIR\n"),
        (("--unet",), "evaluate --dataset DATA --baseline {0} --out DIR\n"),
    ],
)
def test_what_was_trained_can_be_used_as_it_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...], advice: str
) -> None:
    checkpoint = tmp_path / "run/checkpoint"
    monkeypatch.setattr("training.fit.pretrain", lambda *_, **__: checkpoint)
    status, out, _ = run("train", "--dataset", "data", "--out", "run", *given)
    assert status == 0
    assert out.endswith(advice.format(checkpoint))


@pytest.mark.parametrize("name", ["x" * 200, "a\u200fb", "a\ue000b"])
def test_an_image_is_suggested_whatever_it_is_called(run: Run, tmp_path: Path, untrained: Path, name: str) -> None:
    ask = ("suggest", picture(tmp_path / f"{name}.png"), "--structure", "heart", "--model", untrained)
    assert run(*ask, "--out", tmp_path / "list.json")[0] == 0
    status, _, complaint = run(*ask, "--out", tmp_path)
    assert (status, complaint) == (2, f"chexanatomy: {tmp_path} is a folder: name a file for the list.\n")
