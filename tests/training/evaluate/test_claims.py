"""The four claims, measured with models whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.training.evaluate.test_comparison import LEFT, PERFECT, RIGHT, Answering, patch, scored
from tests.training.evaluate.test_sources import dataset
from training.dataset import Dataset
from training.errors import ChexanatomyError
from training.evaluate.ablations import fourth
from training.evaluate.charts import Line, chart
from training.evaluate.claims import BASELINE, MODEL, Claims, Plan, measure_claims
from training.evaluate.claims_page import write_claims
from training.evaluate.fewshot import FewShot, few_shot, lessons_and_tests
from training.evaluate.shifts import SWEEPS, Sweep, shifted
from training.evaluate.tables import Row, difference, distances, estimate, measure
from training.images import Radiograph
from training.model import Finding

WORSE = Answering({"lung_right": patch(10, 14), "lung_left": patch(10, 44), "heart": patch(0, 0)}.__getitem__)
__all__ = ["dataset"]
IMAGES = [scored(f"i{n}", f"s{n // 2}") for n in range(8)]


class Everything:
    """Draws the whole picture, whatever it is asked for."""

    def __init__(self, *not_taught: str) -> None:
        self._not_taught = not_taught

    def segment(self, radiograph: Radiograph, structures: Sequence[str]) -> list[Finding]:
        whole = np.ones(radiograph.pixels.shape, bool)
        return [Finding(name, True, (0, 0, 1, 1), whole, 0.9, (), "") for name in structures]

    def untaught(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name in self._not_taught]


def test_differences_are_paired_and_have_intervals() -> None:
    rows = measure({MODEL: PERFECT, BASELINE: WORSE}, IMAGES, "")
    assert estimate([r for r in rows if r.model == MODEL]).mean == 1
    gap = difference(rows, MODEL, BASELINE)
    assert gap.mean == pytest.approx(0.4)
    assert gap.low <= gap.mean <= gap.high
    assert gap.n == 8
    far = estimate([r for r in rows if r.model == BASELINE], "hd95").mean
    assert far == pytest.approx(2.0)


def test_what_differs_between_runs_is_named_whole() -> None:
    """A card of an older version lacks settings that came since; what was learnt from, and begun with, differs too."""
    rows = measure({MODEL: PERFECT}, IMAGES, "")
    old = {"steps": 9, "cases": 3, "settings": {"vision_depth": 4, "images": 8, "tower": False}}
    own = {"steps": 9, "cases": 5, "settings": {"vision_depth": 4, "images": 8, "naming": 20.0, "start": True, "tower": False}}
    lines = fourth(Claims("d", rows, others={"older": (old, rows)}), {"training": own})
    (line,) = [line for line in lines if line.startswith("| older |")]
    assert line.split(" | ")[4] == "start unknown, not True; naming 1.0, not 20.0; cases 3, not 5"


@pytest.mark.parametrize("sweep", SWEEPS, ids=lambda s: s.name)
def test_the_still_level_changes_nothing_and_the_others_something(sweep: Sweep) -> None:
    image = scored("a", "s")
    pixels = np.random.default_rng(0).random(image.radiograph.pixels.shape, dtype=np.float32)
    image = type(image)("a", "s", type(image.radiograph)(pixels, spacing=(0.5, 0.5)), image.references)
    for level in sweep.levels:
        moved = shifted(image, sweep.name, level)
        same = moved.radiograph.pixels.shape == pixels.shape and np.allclose(moved.radiograph.pixels, pixels, atol=1e-5)
        assert same == (level == sweep.still)
        assert all(m.shape == moved.radiograph.pixels.shape for m in moved.references.values())
        assert moved.radiograph.pixels.min() >= 0
        assert moved.radiograph.pixels.max() <= 1


def test_masks_go_where_the_picture_goes() -> None:
    image = scored("a", "s")
    bright = type(image.radiograph)(RIGHT.astype(np.float32), spacing=(0.5, 0.5))
    image = type(image)("a", "s", bright, {"lung_right": RIGHT})
    for kind, level in (("rotation", 15.0), ("magnification", 1.25), ("magnification", 0.6), ("crop", 0.1)):
        moved = shifted(image, kind, level)
        drawn, mask = moved.radiograph.pixels > 0.5, moved.references["lung_right"]
        assert 2 * (drawn & mask).sum() / (drawn.sum() + mask.sum()) > 0.93
    assert shifted(image, "magnification", 2.0).radiograph.spacing == (0.25, 0.25)


def test_the_page_says_what_holds_and_what_was_not_measured(tmp_path: Path) -> None:
    rows = measure({MODEL: PERFECT, BASELINE: WORSE}, IMAGES, "")
    sweeps = {s.name: dict.fromkeys(s.levels, rows) for s in SWEEPS}
    claims = Claims("drawn", distribution=rows, sweeps=sweeps)
    page = tmp_path / "claims.md"
    write_claims(claims, page, {}, "chexanatomy evaluate --claims")
    text = page.read_text()
    assert "The claim holds at this scale." in text
    assert "Not measured: it needs a run trained without a structure" in text
    assert (tmp_path / "claims_figures" / "rotation.svg").read_text().startswith("<svg")
    record = json.loads((tmp_path / "claims_figures" / "claims.json").read_text())
    assert len(record["distribution"]) == len(rows)
    other_way = measure({MODEL: WORSE, BASELINE: PERFECT}, IMAGES, "")
    write_claims(Claims("drawn", distribution=other_way), page, {}, "x")
    assert "The claim does not hold at this scale." in page.read_text()


def test_one_subject_decides_no_claim(tmp_path: Path) -> None:
    page = tmp_path / "claims.md"
    for models in ({MODEL: PERFECT, BASELINE: WORSE}, {MODEL: WORSE, BASELINE: PERFECT}):
        rows = measure(models, IMAGES[:2], "")
        sweeps = {s.name: dict.fromkeys(s.levels, rows) for s in SWEEPS}
        write_claims(Claims("drawn", distribution=rows, sweeps=sweeps), page, {}, "x")
        assert page.read_text().count("These data do not decide it.") == 2
        assert "claim holds" not in page.read_text()
        assert "does not hold" not in page.read_text()


def test_distances_are_compared_where_every_model_drew_something() -> None:
    nan = float("nan")
    rows = [
        *(Row(MODEL, image, image, "heart", 0.9, far) for image, far in (("easy", 2.0), ("hard", nan))),
        *(Row(BASELINE, image, image, "heart", 0.9, far) for image, far in (("easy", 3.0), ("hard", 60.0))),
    ]
    assert distances(rows, [MODEL, BASELINE]) == ["2.0 mm", "3.0 mm"]
    assert distances(rows, [BASELINE]) == ["31.5 mm"]
    assert distances(rows[1:3], [MODEL, BASELINE]) == ["–", "–"]
    plain = measure({MODEL: WORSE}, [scored("a", "s", spacing=None, lung_left=LEFT)], "")
    assert distances(plain, [MODEL]) == ["4.0 px"]


def test_claims_are_measured_on_what_every_model_was_taught(dataset: Dataset, tmp_path: Path) -> None:
    models = {MODEL: Everything(), BASELINE: Everything("lung_right")}
    claims = measure_claims(dataset, models, Plan(swept=1), tmp_path, [scored("a", "s", lung_right=RIGHT)])
    assert {row.structure for row in claims.distribution} == {"lung_left"}
    assert {row.structure for row in claims.sweeps["crop"][0.0]} == {"lung_left"}
    assert claims.real == []
    write_claims(claims, tmp_path / "claims.md", {}, "x")
    assert "not every model was taught it: lung_right (not U-Net)" in (tmp_path / "claims.md").read_text()


def test_the_model_stands_beside_other_runs_on_what_all_of_them_were_taught(tmp_path: Path) -> None:
    both = measure({MODEL: WORSE}, [scored("a", "s", lung_left=LEFT, lung_right=LEFT)], "")
    claims = Claims("drawn", distribution=both, others={"run": ({}, [r for r in both if r.structure == "lung_left"])})
    write_claims(claims, tmp_path / "claims.md", {}, "x")
    line = next(line for line in (tmp_path / "claims.md").read_text().splitlines() if line.startswith("| run | –"))
    assert line.endswith("| 0.000 |")


def test_nobody_is_learnt_from_and_scored_on(dataset: Dataset) -> None:
    plan = FewShot("x", "lung_left")
    lessons, tests = lessons_and_tests(dataset, plan, "all")
    assert {case.subject for case in lessons}.isdisjoint(case.subject for case in tests)
    assert (len(lessons), len(tests)) == (4, 2)
    with pytest.raises(ChexanatomyError, match="Too few subjects show the whole of lung_left"):
        lessons_and_tests(dataset, plan, "train")


def test_a_case_without_the_mask_that_it_lists_teaches_nothing(dataset: Dataset) -> None:
    listed = replace(dataset.cases[0], id="torn", image="images/torn.png", present=("heart",))
    dataset.add(listed, Radiograph(np.zeros((20, 30), np.float32)), {})
    dataset.reviews.decide("train-1", "lung_left", "reject")
    assert len(lessons_and_tests(dataset, FewShot("x", "lung_left"), "test")[0]) == 3
    with pytest.raises(ChexanatomyError, match="heart"):
        lessons_and_tests(dataset, FewShot("x", "heart"), "test")


def test_fewer_images_than_wished_for_are_called_by_their_number(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[int] = []
    vision = SimpleNamespace(patch_size=16, hidden_size=32, num_hidden_layers=1)
    book = SimpleNamespace(save=lambda path: None)
    base = SimpleNamespace(
        checkpoint=SimpleNamespace(codebook=book, image_size=64),
        model=SimpleNamespace(config=SimpleNamespace(vision_config=vision)),
    )
    knows = Everything()

    def adapt(base: object, examples: list[object], *_: object) -> SimpleNamespace:
        learnt.append(len(examples))
        return SimpleNamespace(folder=tmp_path)

    monkeypatch.setattr("training.evaluate.fewshot.ignorant", lambda plan: base)
    monkeypatch.setattr("training.fit.adapt", adapt)
    monkeypatch.setattr("training.fit.pretrain", lambda config: tmp_path)
    monkeypatch.setattr("training.model.load", lambda spec: knows)
    monkeypatch.setattr("training.model.unet.load_unet", lambda folder: knows)
    results = few_shot(dataset, FewShot("x", "lung_left"), tmp_path / "scratch")
    assert list(results) == learnt == [1, 3, 4]


def test_a_run_stands_beside_the_one_most_like_it(tmp_path: Path) -> None:
    good, bad = measure({MODEL: PERFECT}, IMAGES, ""), measure({MODEL: WORSE}, IMAGES, "")
    tiny = {"image_size": 160, "vision_width": 128, "freeze_vision": False, "tasks": {"absent": 0.1}, "max_steps": 5, "seed": 1}
    others = {
        "runs/tiny/checkpoint": ({"steps": 5, "settings": tiny}, bad),
        "frozen": ({"steps": 7, "settings": tiny | {"freeze_vision": True, "max_steps": 7}}, bad),
        "wider": ({"steps": 5, "settings": tiny | {"vision_width": 192, "seed": 2}}, good),
        "absent": ({"steps": 5, "settings": tiny | {"vision_width": 192, "tasks": {"absent": 0.5}}}, good),
    }
    own = {"training": {"steps": 9, "settings": tiny | {"image_size": 288, "vision_width": 256}}}
    page = tmp_path / "claims.md"
    write_claims(Claims("drawn", distribution=good, others=others), page, own, "x")
    rows = [line for line in page.read_text().split("## 4")[1].splitlines() if line.startswith("|")]
    cells = {row.split(" | ")[0].strip("| "): [c.strip("| ") for c in row.split(" | ")] for row in rows[2:]}
    assert cells["model"][1] == "9"
    assert cells["tiny"][3:5] == ["model", "image_size 160, not 288; vision_width 128, not 256"]
    assert cells["frozen"][3:] == ["tiny", "freeze_vision True, not False", cells["frozen"][5]]
    assert cells["frozen"][5].startswith("0.000")
    assert cells["wider"][3:5] == ["tiny", "vision_width 192, not 128"]
    assert float(cells["wider"][5].split()[0]) > 0.1
    assert cells["absent"][3:5] == ["wider", "tasks.absent 0.5, not 0.1"]


def test_a_chart_leaves_out_what_is_not_defined() -> None:
    nan = float("nan")
    drawn = chart("t", "x", "y", [Line("a", [(0, 0.5, nan, nan), (1, nan, nan, nan), (2, 0.7, 0.6, 0.8)])])
    assert "nan" not in drawn
    assert drawn.count("<circle") == 2
    assert "nan" not in chart("t", "x", "y", [])


def test_structures_that_are_not_shown_do_not_count() -> None:
    rows = measure({MODEL: PERFECT}, [scored("a", "s", lung_left=LEFT, heart=np.zeros_like(LEFT))], "")
    assert [r.structure for r in rows] == ["lung_left"]


def test_few_shot_refuses_a_model_that_knows_the_structure(tmp_path: Path) -> None:
    with pytest.raises(ChexanatomyError, match="trained on heart"):
        few_shot(Dataset.create(tmp_path / "d"), FewShot("embedded", "heart"), tmp_path)


def test_what_cannot_be_opened_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    class Untouched:
        def segment(self, *_: object, **__: object) -> list[object]:
            raise AssertionError("it was asked")

    dataset = Dataset.create(tmp_path / "d")
    for plan in (Plan(few_shot=(FewShot("embedded", "heart"),)), Plan(others=(str(tmp_path / "nothing"),))):
        with pytest.raises(ChexanatomyError, match=r"trained on heart|nothing"):
            measure_claims(dataset, {MODEL: Untouched()}, plan, tmp_path)
