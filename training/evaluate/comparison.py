"""Several models on the same radiographs, one set of figures each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

import training
from training.anatomy import vocabulary
from training.errors import ChexanatomyError
from training.evaluate.baseline import MeanMask
from training.evaluate.common import LeftOut, said_of, shared
from training.evaluate.metrics import dice, hd95, iou
from training.evaluate.report import ModelScore, Report, StructureScore
from training.evaluate.sources import Scored, parts
from training.progress import ProgressCallback, report

if TYPE_CHECKING:
    from training.images import Radiograph
    from training.model import Finding

BOOTSTRAPS = 1000
EXCHANGED_BELOW, EXCHANGED_BY = 0.5, 0.05
"""A mask counts as lying on the wrong side when it fits its own reference worse than the first, and the other side's better by
the second. In a lateral view nobody sees which side is which: there it is not counted."""


class Segments(Protocol):
    """Whatever finds structures in a radiograph: a Predictor, or anything with its `segment`."""

    def segment(self, radiograph: Radiograph, structures: Sequence[str]) -> list[Finding]:
        """Return one Finding per structure, in the order asked for."""


@dataclass
class _Tally:
    """What one model did on one target, image by image."""

    subjects: list[str] = field(default_factory=list)
    dice: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    hd95: dict[str, list[float]] = field(default_factory=lambda: {"mm": [], "px": []})
    missed: int = 0
    n_absent: int = 0
    absent_right: int = 0
    exchanged: int = 0
    invalid: int = 0


@dataclass(frozen=True)
class _Answer:
    mask: np.ndarray
    invalid: bool = False


Answers = Callable[[Scored], Mapping[str, _Answer]]


def compare(
    models: Mapping[str, Segments],
    images: Iterable[Scored],
    data: str,
    baseline: MeanMask | None = None,
    progress: ProgressCallback | None = None,
    total: int = 0,
    leave_one_out: bool = False,
) -> Report:
    """Return how each model did on the same images, in the order of `models`, the baseline last.

    images: radiographs with their references, read once; data: what they are, for the report's title; total: how many there
    are, for the progress; leave_one_out: the baseline was made from these very images, so leave out the one it answers. Of
    several models, only what all of them were taught is scored; a note of the report names the rest.
    Raises ChexanatomyError when there is no model, no image, or no structure to score.
    """
    if not models:
        raise ChexanatomyError("There is no model to evaluate; give at least one.")
    answerers: dict[str, Answers] = {name: _asking(model) for name, model in models.items()}
    if baseline is not None:
        answerers[baseline.name] = _constant(baseline, leave_one_out)
    tallies: dict[str, dict[str, _Tally]] = {name: {} for name in answerers}
    subjects: list[str] = []
    left_out: LeftOut = {}
    for number, scored in enumerate(shared(models, images, left_out) if len(models) > 1 else images):
        report(progress, number, total, f"scoring {scored.id}")
        subjects.append(scored.subject)
        for name, answers in answerers.items() if scored.references else ():
            given = answers(scored)
            for target in scored.references:
                _score(tallies[name].setdefault(target, _Tally()), scored, target, given[target])
    if not subjects:
        raise ChexanatomyError(f"There is no image to evaluate on in {data}.")
    if not any(tallies.values()):
        raise ChexanatomyError(said_of(left_out) or f"No image of {data} says anything about what was asked for: ask for others.")
    report(progress, len(subjects), max(total, len(subjects)), "scored")
    scores = tuple(ModelScore(name, tuple(_summary(t, tally) for t, tally in by.items())) for name, by in tallies.items())
    notes = [said_of(left_out)] if left_out else []
    if leave_one_out and baseline:
        notes.append("The mean mask was made from other images of the same data, without the one it answers.")
    return Report(data, len(subjects), len(set(subjects)), scores, training.__version__, tuple(notes))


def evaluate(model: Segments, images: Iterable[Scored], data: str, name: str = "model", **options: object) -> Report:
    """Return how one model did; as `compare` with one model."""
    return compare({name: model}, images, data, **options)  # type: ignore[arg-type]


def opposite(structure: str) -> str | None:
    """Return the same structure of the other side, or None for a structure without a side."""
    for here, there in (("left", "right"), ("right", "left")):
        words = structure.split("_")
        if here in words:
            other = "_".join(there if word == here else word for word in words)
            return other if other in vocabulary() else None
    return None


def _asking(model: Segments) -> Answers:
    from training.tokens import read_answer

    def answers(scored: Scored) -> dict[str, _Answer]:
        names = list(dict.fromkeys(part for target in scored.references for part in parts(target)))
        found = dict(zip(names, model.segment(scored.radiograph, names), strict=True))
        empty = np.zeros(scored.radiograph.pixels.shape, bool)
        result = {}
        for target in scored.references:
            findings = [found[part] for part in parts(target)]
            masks = [f.mask for f in findings if f.present and f.mask is not None]
            # A U-Net writes nothing that could be wrong.
            invalid = any(f.text and read_answer(f.text)[1] > 0 for f in findings)
            result[target] = _Answer(np.logical_or.reduce([empty, *masks]), invalid)
        return result

    return answers


def _constant(baseline: MeanMask, leave_one_out: bool) -> Answers:
    def answers(scored: Scored) -> dict[str, _Answer]:
        masks = baseline.answer(scored.radiograph, list(scored.references), scored.id if leave_one_out else "")
        return {target: _Answer(mask) for target, mask in masks.items()}

    return answers


def _score(tally: _Tally, scored: Scored, target: str, answer: _Answer) -> None:
    reference = scored.references[target]
    tally.invalid += answer.invalid
    if not reference.any():
        tally.n_absent += 1
        tally.absent_right += not answer.mask.any()
        return
    own = dice(answer.mask, reference)
    tally.subjects.append(scored.subject)
    tally.dice.append(own)
    tally.iou.append(iou(answer.mask, reference))
    if answer.mask.any():
        spacing = scored.radiograph.spacing
        tally.hd95["mm" if spacing else "px"].append(hd95(answer.mask, reference, spacing or (1.0, 1.0)))
    else:
        tally.missed += 1
    other = scored.references.get(opposite(target) or "")
    if other is not None and own < EXCHANGED_BELOW and scored.radiograph.view.upper() != "LATERAL":
        tally.exchanged += dice(answer.mask, other) > own + EXCHANGED_BY


def _summary(target: str, tally: _Tally) -> StructureScore:
    n = len(tally.dice)
    unit = "mm" if tally.hd95["mm"] else "px"
    distances = tally.hd95[unit]
    return StructureScore(
        structure=target,
        n=n,
        dice=float(np.mean(tally.dice)) if n else float("nan"),
        dice_interval=_interval(tally.dice, tally.subjects),
        dice_low=float(np.percentile(tally.dice, 10)) if n else float("nan"),
        iou=float(np.mean(tally.iou)) if n else float("nan"),
        hd95=float(np.mean(distances)) if distances else float("nan"),
        hd95_unit=unit,
        missed=tally.missed,
        n_absent=tally.n_absent,
        absent_right=tally.absent_right,
        exchanged=tally.exchanged,
        invalid=tally.invalid,
    )


def _interval(values: Sequence[float], subjects: Sequence[str]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean; whole subjects are drawn, because images of one subject are alike."""
    names, index = np.unique(np.asarray(subjects, str), return_inverse=True)
    if len(names) < 2:
        return float("nan"), float("nan")
    sums, counts = np.bincount(index, weights=np.asarray(values)), np.bincount(index)
    drawn = np.random.default_rng(0).integers(0, len(names), (BOOTSTRAPS, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
