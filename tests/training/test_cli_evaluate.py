"""What `evaluate` refuses, and what it hands on, with models that only say what they were taught."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.evaluate.test_sources import dataset
from tests.training.test_cli import Run, one_line, picture, run
from training.anatomy import find
from training.cli.score import _without_folders
from training.dataset import Dataset
from training.images import Radiograph
from training.model import Finding

__all__ = ["dataset", "run"]


class Model:
    """Draws the whole picture, when it takes its time the upper half; knows the lungs, and the heart unless it is called
    "heartless"."""

    def __init__(self, spec: str) -> None:
        heart = () if spec == "heartless" else ("heart",)
        self.card = {"structures": ["lung_left", "lung_right", *heart]}

    def segment(self, radiograph: Radiograph, structures: Sequence[str], accurate: bool = False) -> list[Finding]:
        whole = np.ones(radiograph.pixels.shape, bool)
        whole[len(whole) // 2 if accurate else len(whole) :] = False
        return [Finding(name, True, (0, 0, 1, 1), whole, 0.9, (), "") for name in structures]

    def untaught(self, names: Sequence[str]) -> list[str]:
        return [key for key in (find(name).key for name in names) if key not in self.card["structures"]]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path | None]]:
    """The models that were opened, each with the codebook that was given for it."""
    asked: list[tuple[str, Path | None]] = []

    def open_model(spec: str, codebook: Path | None = None) -> Model:
        asked.append((spec, codebook))
        return Model(spec)

    monkeypatch.setattr("training.evaluate.opening.open_model", open_model)
    return asked


@pytest.fixture
def drawn(tmp_path: Path) -> tuple[object, ...]:
    """The options for five radiographs with their masks."""
    for n in range(5):
        picture(tmp_path / f"images/{n}.png", seed=n)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(tmp_path / f"masks/{n}.png")
    return "--images", tmp_path / "images", "--masks", tmp_path / "masks"


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("--structures hart", "did you mean heart"),
        ("--structures lung_left,heart", "data (all) says nothing about heart"),
        ("--structures lung_left --limit 0", "A limit of 0"),
        ("--structures lung_left --few-shot x --others y --swept 3", "Only --claims looks at --few-shot, --others, --swept"),
        ("--claims --accurate", "leave --accurate out"),
        ("--claims --limit -5", "A limit of -5"),
        ("--claims --swept -1", "A limit of -1"),
        ("--claims --few-shot x --left-out hart", "did you mean heart"),
        ("--claims --structures lungs", "all three"),
        ("--claims --images x --masks y", "all three"),
    ],
)
def test_what_cannot_be_scored_is_one_line(run: Run, dataset: Dataset, tmp_path: Path, asked: str, expected: str) -> None:
    out = tmp_path / "report"
    status, said, complaint = run("evaluate", "--dataset", dataset.folder, "--split", "all", *asked.split(), "--out", out)
    assert (status, said) == (2, "")
    assert one_line(complaint), complaint
    assert expected in complaint
    assert not out.exists()


@pytest.mark.usefixtures("opened")
def test_a_folder_that_cannot_be_made_is_said_before_the_scoring(
    run: Run, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> list[Finding]:
        raise AssertionError("it was asked")

    monkeypatch.setattr(Model, "segment", asked)
    (tmp_path / "file").touch()
    for out, claims in ((tmp_path / "file", ()), (tmp_path / "file/claims.md", ("--claims",))):
        status, _, complaint = run("evaluate", "--dataset", dataset.folder, "--split", "all", *claims, "--out", out)
        assert status == 2
        assert one_line(complaint)


@pytest.mark.usefixtures("opened")
def test_what_a_model_was_not_taught_is_warned_of_and_left_out_of_the_comparison(
    run: Run, tmp_path: Path, drawn: tuple[object, ...]
) -> None:
    ask = ("evaluate", *drawn, "--structures", "heart", "--out", tmp_path / "report", "--model")
    status, _, complaint = run(*ask, "heartless")
    assert status == 0
    assert complaint == "chexanatomy: heartless was not taught heart: what it draws there means nothing\n"
    status, _, complaint = run(*ask, "embedded", "--baseline", "heartless")
    assert status == 2
    assert "Left out, because not every model was taught it: heart (not heartless)." in complaint
    assert run(*ask, "embedded") == (0, run(*ask, "embedded")[1], "")


@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("lungs", ["drawn", "projected"])
def test_accurate_answers_are_those_of_the_model_alone(run: Run, tmp_path: Path, drawn: tuple[object, ...], lungs: str) -> None:
    ask = ("evaluate", *drawn, "--structures", "heart", "--accurate", "--baseline", "other", "--lungs", lungs)
    status, said, _ = run(*ask, "--out", tmp_path / "report")
    assert status == 0
    assert "embedded (accurate): mean Dice 0.667" in said
    assert "other: mean Dice 1.000" in said


@pytest.mark.usefixtures("opened")
def test_a_data_set_whose_training_cases_were_all_rejected_is_scored_without_the_mean_mask(
    run: Run, dataset: Dataset, tmp_path: Path
) -> None:
    dataset.reviews.decide_all([case.id for case in dataset.cases if case.split == "train"], "", "reject")
    status, out, _ = run("evaluate", "--dataset", dataset.folder, "--out", tmp_path / "report")
    assert status == 0
    assert "embedded: mean Dice" in out
    assert "mean mask" not in out


def test_claims_hand_on_real_radiographs_and_codebook(
    run: Run,
    dataset: Dataset,
    tmp_path: Path,
    drawn: tuple[object, ...],
    opened: list[tuple[str, Path | None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from training.evaluate.claims import Claims, Plan

    given: dict[str, Any] = {}

    def measure(dataset: Dataset, models: object, plan: Plan, scratch: Path, real: Sequence[Any], progress: object) -> Claims:
        given.update(plan=plan, real=[s.id for s in real])
        return Claims("x")

    monkeypatch.setattr("training.evaluate.claims.measure_claims", measure)
    ask = ("evaluate", "--claims", "--dataset", dataset.folder, "--out", tmp_path / "report", *drawn, "--structures")
    status, _, _ = run(*ask, "heart", "--limit", 2, "--baseline", "unet", "--others", "a,b", "--codebook", "book.npz")
    assert status == 0
    assert given["real"] == ["0", "4"]
    assert (given["plan"].test, given["plan"].codebook) == (2, Path("book.npz"))
    assert opened == [("embedded", Path("book.npz")), ("unet", Path("book.npz"))]
    assert "which one the masks show" in run(*ask, "lung_left,lung_right")[2]
    Image.fromarray(np.full((48, 65), 255, np.uint8)).save(tmp_path / "masks/3.png")
    given.clear()
    assert "48 x 65 pixels" in run(*ask, "heart")[2]
    assert not given


def test_the_command_on_the_page_names_no_folder() -> None:
    asked = ["--dataset=/data/phantoms", "--others", "/runs/x/r1,/runs/y/r2", "--model", "embedded+/a/b", "--limit", "3"]
    shown = ["--dataset=phantoms", "--others", "r1,r2", "--model", "embedded+b", "--limit", "3"]
    assert _without_folders(asked) == shown


@pytest.mark.parametrize(("asked", "expected"), [("hart", "did you mean heart"), ("heart", "data says nothing about heart")])
def test_a_second_opinion_on_what_no_case_shows_is_one_line(run: Run, dataset: Dataset, asked: str, expected: str) -> None:
    review = ("review", dataset.folder, "--show", 0, "--workers", 1, "--progress", "none")
    status, _, complaint = run(*review, "--model", "embedded", "--model-structures", asked)
    assert status == 2
    assert one_line(complaint)
    assert expected in complaint
