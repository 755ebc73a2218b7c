"""Automatic checks of every mask, in words, so that a person looks at the likeliest mistakes first."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np

from training import anatomy
from training.dataset.case import Case
from training.dataset.store import Dataset
from training.images import from_rle
from training.progress import ProgressCallback, report

TINY = 4e-5
"""Share of the picture below which a mask is hardly visible: ten pixels at 512 x 512."""
FEW = 8
"""So many masks of a structure in one view are needed before one of them can be called unusual."""
UNUSUAL = 4.5
"""Robust standard deviations from the median of the data set that are reported."""
MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation of a normal distribution."""
SPECK = 0.02
"""A piece smaller than this share of its mask is not counted."""


@dataclass(frozen=True)
class Suspicion:
    """How likely a mask is wrong: score (0 is nothing found, sums of weights without unit), and the reasons as sentences."""

    case: Case
    structure: str
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Measure:
    case: Case
    structure: str
    area: float
    place: tuple[float, float]
    rle: dict[str, Any]


def suspicion(dataset: Dataset, progress: ProgressCallback | None = None) -> list[Suspicion]:
    """Return every mask of the data set, most suspicious first; equal ones in the order of the cases."""
    measures: list[_Measure] = []
    missing: list[Suspicion] = []
    for number, case in enumerate(dataset.cases):
        encoded = dataset.encoded_masks(case)
        measures += [_measure(case, structure, rle) for structure, rle in encoded.items()]
        missing += [
            Suspicion(case, s, 3.0, ("It is listed as present but has no mask.",)) for s in case.present if s not in encoded
        ]
        report(progress, number + 1, len(dataset.cases), "Measuring masks")
    usual = _usual(measures)
    by_case: dict[str, dict[str, _Measure]] = defaultdict(dict)
    for m in measures:
        by_case[m.case.id][m.structure] = m
    found = [_judge(m, by_case[m.case.id], usual) for m in measures] + missing
    return sorted(found, key=lambda s: -s.score)


def _measure(case: Case, structure: str, rle: dict[str, Any]) -> _Measure:
    from pycocotools import mask as coco

    rows, columns = rle["size"]
    x, y, width, height = coco.toBbox(rle)
    place = ((y + height / 2) / rows, (x + width / 2) / columns)
    return _Measure(case, structure, float(coco.area(rle)) / (rows * columns), place, rle)


def _usual(measures: list[_Measure]) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Median and robust spread of (log area, row, column) by (view, structure)."""
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    for m in measures:
        if m.area > 0:
            groups[m.case.view, m.structure].append((np.log(m.area), *m.place))
    usual = {}
    for key, values in groups.items():
        if len(values) >= FEW:
            table = np.asarray(values)
            middle = np.median(table, axis=0)
            spread = MAD_TO_SD * np.median(np.abs(table - middle), axis=0)
            usual[key] = middle, np.maximum(spread, (0.1, 0.01, 0.01))
    return usual


def _judge(m: _Measure, others: dict[str, _Measure], usual: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]) -> Suspicion:
    reasons: list[tuple[float, str]] = []
    if m.area == 0:
        reasons.append((3.0, "It is empty."))
    elif m.area < TINY:
        reasons.append((1.0, f"It covers only {m.area * 1e6:.0f} millionths of the picture."))
    if m.structure in m.case.cut_off:
        reasons.append((0.3, "It is cut by the border of the picture."))
    swapped = _other_side(m, others)
    if swapped:
        reasons.append((4.0, swapped))
    key = m.case.view, m.structure
    if m.area > 0 and key in usual:
        middle, spread = usual[key]
        size, row, column = (np.array([np.log(m.area), *m.place]) - middle) / spread
        if abs(size) > UNUSUAL:
            factor = float(np.exp(np.log(m.area) - middle[0]))
            reasons.append((min(3.0, abs(size) / UNUSUAL), f"Its area is {factor:.2g} times the usual one in this view."))
        if max(abs(row), abs(column)) > UNUSUAL:
            far = max(abs(row), abs(column)) / UNUSUAL
            reasons.append((min(3.0, far), "It lies far from its usual place in this view."))
    pieces = _pieces(m)
    if pieces:
        reasons.append(pieces)
    return Suspicion(m.case, m.structure, sum(weight for weight, _ in reasons), tuple(reason for _, reason in reasons))


def _other_side(m: _Measure, others: dict[str, _Measure]) -> str:
    """A sentence when a left structure lies on the image-left of its right counterpart in a frontal view."""
    if m.case.view not in ("PA", "AP") or m.area == 0:
        return ""
    for mine, theirs, sign in (("left", "right", 1), ("right", "left", -1)):
        if mine in m.structure:
            twin = others.get(m.structure.replace(mine, theirs))
            if twin and twin.area > 0 and (m.place[1] - twin.place[1]) * sign < -0.02:
                return "Left and right look swapped."
    return ""


def _pieces(m: _Measure) -> tuple[float, str] | None:
    """More pieces than the structure has; a shadow falls apart only where its structure does."""
    from scipy import ndimage

    known = anatomy.vocabulary().get(m.structure)
    if known is None or known.pieces > 1 or m.area == 0:
        return None
    labelled, count = ndimage.label(from_rle(m.rle), structure=np.ones((3, 3)))
    if count < 2:
        return None
    areas = np.bincount(labelled.ravel())[1:]
    count = int((areas >= SPECK * areas.sum()).sum())
    return (min(2.0, 0.5 * (count - 1)), f"It falls into {count} pieces instead of one.") if count > 1 else None
