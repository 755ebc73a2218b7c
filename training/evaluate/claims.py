"""The four claims of the CheXanatomy paper, measured at our scale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import ChexanatomyError
from training.evaluate.common import LeftOut, shared
from training.evaluate.comparison import Segments
from training.evaluate.fewshot import FewShot, few_shot, ignorant, lessons_and_tests
from training.evaluate.opening import card_of, open_model
from training.evaluate.shifts import SWEEPS, shifted
from training.evaluate.sources import Scored, Split, chosen, from_dataset
from training.evaluate.tables import Row, measure
from training.progress import ProgressCallback

if TYPE_CHECKING:
    from training.dataset import Dataset

MODEL, BASELINE, MEAN = "model", "U-Net", "mean mask"

SHOWN = (
    "lung_left", "lung_right", "lung_field_left", "lung_field_right", "heart", "aorta", "trachea", "liver", "spine",
    "clavicula_left", "clavicula_right", "scapula_left", "scapula_right", "rib_left_5", "rib_right_5",
)  # fmt: skip
"""Structures that the sweeps are scored on."""


@dataclass(frozen=True)
class Plan:
    """What to measure. split: whose images; test: how many for claim 1; swept: for each level of each sweep; few_shot: one plan
    per left-out structure; others: runs that claim 4 sets beside the model; codebook: for those that bring none."""

    split: Split = "test"
    test: int = 60
    swept: int = 12
    few_shot: tuple[FewShot, ...] = ()
    others: tuple[str, ...] = ()
    codebook: Path | None = None


@dataclass
class Claims:
    """What was measured, claim by claim; empty where it was not. sweeps: kind -> level -> rows; few_shot: structure -> shots ->
    rows; others: spec -> (settings that differ, rows); left_out: what not every model was taught."""

    data: str
    distribution: list[Row] = field(default_factory=list)
    real: list[Row] = field(default_factory=list)
    sweeps: dict[str, dict[float, list[Row]]] = field(default_factory=dict)
    few_shot: dict[str, dict[int, list[Row]]] = field(default_factory=dict)
    others: dict[str, tuple[dict[str, Any], list[Row]]] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=dict)


def measure_claims(
    dataset: Dataset,
    models: Mapping[str, Segments],
    plan: Plan,
    scratch: Path,
    real: Iterable[Scored] = (),
    progress: ProgressCallback | None = None,
) -> Claims:
    """Measure what the plan names. models: MODEL, BASELINE and MEAN, the first needed; real: radiographs with outlines.

    Models are compared on what all of them were taught, in claim 4 those of plan.others too.
    """
    if MODEL not in models:
        raise ChexanatomyError("There is no model to measure the claims of; give --model.")
    # What cannot be opened is said before anything is measured, not an hour later.
    for lesson in plan.few_shot:
        ignorant(lesson)
    others = {spec: open_model(spec, plan.codebook) for spec in plan.others}
    for lesson in plan.few_shot:
        lessons_and_tests(dataset, lesson, plan.split)
    claims = Claims(str(dataset.folder.name))
    taught = set(card_of(models[MODEL]).get("structures", ())) or None
    cases = chosen(dataset, plan.split, plan.test)
    asked = shared(models, _only(from_dataset(dataset, cases), taught), claims.left_out)
    claims.distribution = measure(models, asked, "Claim 1: test subjects", progress, len(cases))
    claims.real = measure(models, shared(models, real, claims.left_out), "Claim 2: real radiographs", progress)
    pair = {name: model for name, model in models.items() if name != MEAN}
    swept: list[Scored] = []
    if plan.swept:
        some = from_dataset(dataset, chosen(dataset, plan.split, plan.swept))
        swept = list(shared(pair, _only(some, set(SHOWN) & (taught or set(SHOWN))), claims.left_out))
    for sweep in SWEEPS if plan.swept else ():
        claims.sweeps[sweep.name] = {
            level: measure(pair, (shifted(s, sweep.name, level) for s in swept), f"Claim 2: {sweep.name} {level:g}", progress)
            for level in sweep.levels
        }
    for lesson in plan.few_shot:
        claims.few_shot[lesson.structure] = few_shot(dataset, lesson, scratch, progress, plan.split)
    for spec, other in others.items():
        asked = shared({**models, **others}, _only(from_dataset(dataset, cases), taught), claims.left_out)
        rows = measure({MODEL: other}, asked, f"Claim 4: {spec}", progress, len(cases))
        claims.others[spec] = (dict(card_of(other).get("training", {})), rows)
    return claims


def _only(images: Iterable[Scored], structures: set[str] | None) -> Iterator[Scored]:
    """The images with references of these structures alone, of all where None."""
    for s in images:
        kept = s.references if structures is None else {k: m for k, m in s.references.items() if k in structures}
        yield replace(s, references=kept)
