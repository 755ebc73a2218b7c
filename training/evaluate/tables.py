"""Figures answer by answer, and what they say together: means, bootstrap intervals, paired differences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluate.comparison import BOOTSTRAPS, Segments
from training.evaluate.metrics import dice, hd95
from training.evaluate.sources import Scored, parts
from training.progress import ProgressCallback, report


@dataclass(frozen=True)
class Row:
    """One structure in one image, as one model drew it. hd95: in `unit`, mm where the pixel pitch is known, else px; NaN where
    the model drew nothing."""

    model: str
    image: str
    subject: str
    structure: str
    dice: float
    hd95: float
    unit: str = "mm"


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval from a bootstrap over subjects (NaN with one subject); n: images."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "–"
        interval = "" if np.isnan(self.low) else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.mean:.3f}{interval}"


def measure(
    models: Mapping[str, Segments],
    images: Iterable[Scored],
    text: str,
    progress: ProgressCallback | None = None,
    total: int = 0,
) -> list[Row]:
    """Ask every model for every structure that an image shows."""
    rows = []
    for number, scored in enumerate(images):
        report(progress, number, total, text)
        shown = {target: mask for target, mask in scored.references.items() if mask.any()}
        names = list(dict.fromkeys(part for target in shown for part in parts(target)))
        for model, segments in models.items():
            found = dict(zip(names, segments.segment(scored.radiograph, names), strict=True)) if names else {}
            for target, reference in shown.items():
                drawn = np.zeros(reference.shape, bool)
                for part in parts(target):
                    mask = found[part].mask
                    drawn |= mask if found[part].present and mask is not None else False
                distance = hd95(drawn, reference, scored.radiograph.spacing or (1.0, 1.0))
                unit = "mm" if scored.radiograph.spacing else "px"
                rows.append(Row(model, scored.id, scored.subject, target, dice(drawn, reference), distance, unit))
    return rows


def estimate(rows: Sequence[Row], figure: str = "dice") -> Estimate:
    """Mean over images of the mean over the structures they show."""
    return _bootstrap(_by_image(rows, figure))


def distances(rows: Sequence[Row], models: Sequence[str]) -> list[str]:
    """Mean HD95 of each model with its unit, over the answers in which all of these models drew something: in mm over those
    whose pixel pitch is known, in px when none is; "–" where there are none."""
    found = {name: {(r.image, r.structure): r for r in rows if r.model == name and not np.isnan(r.hd95)} for name in models}
    common = set.intersection(*map(set, found.values())) if found else set()
    measured = {r.unit for of in found.values() for key, r in of.items() if key in common}
    unit = "mm" if "mm" in measured else "px"
    means = [estimate([r for key, r in of.items() if key in common and r.unit == unit], "hd95") for of in found.values()]
    return [f"{mean.mean:.1f} {unit}" if mean.n else "–" for mean in means]


def difference(rows: Sequence[Row], model: str, other: str, figure: str = "dice") -> Estimate:
    """Mean of `model` less `other`, image by image."""
    mine, theirs = (_by_image([r for r in rows if r.model == name], figure) for name in (model, other))
    return _bootstrap({key: value - theirs[key] for key, value in mine.items() if key in theirs})


def _by_image(rows: Sequence[Row], figure: str) -> dict[tuple[str, str], float]:
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        value = float(getattr(row, figure))
        if not np.isnan(value):
            values.setdefault((row.subject, row.image), []).append(value)
    return {key: float(np.mean(v)) for key, v in values.items()}


def _bootstrap(values: Mapping[tuple[str, str], float]) -> Estimate:
    if not values:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    subjects, index = np.unique(np.array([subject for subject, _ in values], str), return_inverse=True)
    numbers = np.array(list(values.values()))
    if len(subjects) < 2:
        return Estimate(float(numbers.mean()), float("nan"), float("nan"), len(numbers))
    sums, counts = np.bincount(index, weights=numbers), np.bincount(index)
    drawn = np.random.default_rng(0).integers(0, len(subjects), (BOOTSTRAPS, len(subjects)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(float(numbers.mean()), float(low), float(high), len(numbers))
