"""Automatic checks of every mask, in words, so that a person looks at the likeliest mistakes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.dataset.case import Case
from training.dataset.checks import Check, run_checks
from training.dataset.measuring import Measures, measure_all
from training.dataset.store import Dataset
from training.progress import ProgressCallback

OTHERS = 0.05
"""What the other masks of a case add to the score of its worst, as a share of their own scores."""


@dataclass(frozen=True)
class Suspicion:
    """How likely a mask is wrong: score (0 is nothing found, sums of weights without unit), and the reasons as sentences."""

    case: Case
    structure: str
    score: float
    reasons: tuple[str, ...]


class Queue:
    """Every mask of a data set with its score, kept as arrays: half a million masks take some megabytes."""

    def __init__(self, cases: Sequence[Case], measures: Measures) -> None:
        """Run the checks."""
        self._cases = list(cases)
        self._number = {case.id: number for number, case in enumerate(cases)}
        self._structures = measures.structures
        self._checks: list[Check]
        self._checks, missed = run_checks(measures, cases)
        found = np.sum([check.strength for check in self._checks], axis=0) if self._checks else np.zeros(0)
        self._measured = len(found)
        self._words = [words for *_, words in missed]
        self._case = np.concatenate([measures.records["case"], np.array([c for c, *_ in missed], np.int32)])
        self._structure = np.concatenate([measures.records["structure"], np.array([s for _, s, *_ in missed], np.int16)])
        self._score = np.concatenate([found, [strength for *_, strength, _ in missed]]).astype(np.float32)
        self._starts = np.argsort(self._case, kind="stable")
        self._ends = np.searchsorted(self._case[self._starts], np.arange(len(self._cases) + 1))

    def __len__(self) -> int:
        """Number of masks, those that should be there included."""
        return len(self._score)

    def score(self, case_id: str) -> float:
        """Score of a case: its worst mask's, and a little of the others'."""
        scores = self._score[self._rows(case_id)]
        return float(scores.max() + OTHERS * (scores.sum() - scores.max())) if len(scores) else 0.0

    def cases(self) -> list[Case]:
        """All cases, most suspicious first; equal ones in the order of the data set."""
        return sorted(self._cases, key=lambda case: -self.score(case.id))

    def of(self, case_id: str) -> list[Suspicion]:
        """What was found about the masks of a case, worst first."""
        return sorted((self._suspicion(row) for row in self._rows(case_id)), key=lambda s: -s.score)

    def scores_of(self, structure: str) -> dict[str, float]:
        """Score of a structure by case id, where a case has it."""
        if structure not in self._structures:
            return {}
        rows = np.flatnonzero(self._structure == self._structures.index(structure))
        return {self._cases[self._case[row]].id: float(self._score[row]) for row in rows}

    def most_suspicious(self, count: int | None = None) -> list[Suspicion]:
        """The masks with the highest scores, all by default; equal ones in the order of the data set."""
        order = np.argsort(-self._score, kind="stable")
        return [self._suspicion(row) for row in order[:count]]

    def _rows(self, case_id: str) -> np.ndarray:
        number = self._number[case_id]
        return self._starts[self._ends[number] : self._ends[number + 1]]

    def _suspicion(self, row: int) -> Suspicion:
        if row >= self._measured:
            reasons: tuple[str, ...] = (self._words[row - self._measured],)
        else:
            found = sorted((c for c in self._checks if c.strength[row] > 0), key=lambda c: -c.strength[row])
            reasons = tuple(c.sentence(row) for c in found)
        structure = self._structures[self._structure[row]]
        return Suspicion(self._cases[self._case[row]], structure, float(self._score[row]), reasons)


def judge(dataset: Dataset, progress: ProgressCallback | None = None, workers: int = 1) -> Queue:
    """Measure what is not measured yet, on that many processes, and run the checks. Raises BrokenDataset."""
    return Queue(dataset.cases, measure_all(dataset, progress, workers))


def suspicion(dataset: Dataset, progress: ProgressCallback | None = None, workers: int = 1) -> list[Suspicion]:
    """Return every mask of the data set, most suspicious first; equal ones in the order of the cases."""
    return judge(dataset, progress, workers).most_suspicious()
