"""Which image a model is least sure of: the one that is most worth drawing on next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.anatomy import find
from training.errors import UnknownStructure
from training.fit.lessons import rehearsed
from training.images import Radiograph
from training.model.predictor import Finding, Predictor
from training.progress import ProgressCallback, report


@dataclass(frozen=True)
class Doubt:
    """How unsure a model is of the image called `name`, 0..1."""

    name: str
    doubt: float


def least_sure(
    predictor: Predictor, radiographs: Sequence[Radiograph], structure: str, progress: ProgressCallback | None = None
) -> list[Doubt]:
    """Ask for a structure in every image, looked at several times a little moved; least sure first.

    A mask that jumps when the picture is shifted by a few per cent was guessed. This needs no calibrated confidence, so it also
    works for names that the model has just been taught. For a name that it has never heard, the main structures it knows are
    asked about instead: an image in which it is at a loss about those is unlike what it has learnt from.
    """
    try:
        asked: tuple[str, ...] = (find(structure).key,)
    except UnknownStructure:
        known = any(structure.casefold() == name.casefold() for name in predictor.learned)
        asked = (structure,) if known else rehearsed(predictor, structure)
    found = []
    for number, radiograph in enumerate(radiographs):
        report(progress, number, len(radiographs), f"Looking at {radiograph.name}")
        doubts = [doubt_of(finding) for finding in predictor.segment(radiograph, asked, accurate=True)]
        found.append(Doubt(radiograph.name, round(float(np.mean(doubts)), 4)))
    report(progress, len(radiographs), len(radiographs), "Done")
    return sorted(found, key=lambda doubt: -doubt.doubt)


def doubt_of(finding: Finding) -> float:
    """1 minus the overlap (Dice) of the mean mask of all looks with the looks; of an absent structure, the probability that it is
    there."""
    p = finding.probability
    if not finding.present or p is None or not p.any():
        return 1 - finding.confidence
    drawn = p > 0.5
    return 1 - float(2 * p[drawn].sum() / (p.sum() + drawn.sum()))
