"""The version, what a model was not taught, and what a processor cannot do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.training.test_cli import Run, picture, run, untrained
from training import __version__
from training.fit import PretrainConfig

__all__ = ["run", "untrained"]


def test_the_version_is_told(run: Run) -> None:
    assert run("--version") == (0, f"chexanatomy {__version__}\n", "")


def test_what_a_model_was_not_taught_is_warned_of_and_marked(run: Run, untrained: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(untrained, tmp_path / "model"))
    card = json.loads((model / "chexanatomy.json").read_text())
    (model / "chexanatomy.json").write_text(json.dumps(card | {"structures": ["heart"]}))
    image = picture(tmp_path / "chest.png", (48, 64))
    ask = ("--structures", "left lung,heart", "--model", model, "--out", tmp_path / "found")
    status, _, complaint = run("predict", image, *ask)
    assert status == 0
    assert "was not taught left lung" in complaint
    (record,) = json.loads((tmp_path / "found/predictions.json").read_text())
    assert [f.get("untaught", False) for f in record["findings"]] == [True, False]


@pytest.mark.parametrize("emulated", [True, False])
def test_bfloat16_is_left_out_where_a_processor_imitates_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emulated: bool
) -> None:
    taught = []

    def pretrain(config: PretrainConfig, **_: object) -> Path:
        taught.append(config.bf16)
        return tmp_path

    monkeypatch.setattr("training.fit.pretrain", pretrain)
    monkeypatch.setattr("training.fit.settings.emulates_bfloat16", lambda: emulated)
    status, _, complaint = run("train", "--dataset", "data", "--out", tmp_path, "--bf16")
    assert (status, taught) == (0, [not emulated])
    assert ("learning in float32" in complaint) == emulated
