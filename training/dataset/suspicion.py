"""Automatic checks of every mask, in words, so that a person looks at the likeliest mistakes first."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.dataset.case import Case
from training.dataset.store import CACHE, Dataset
from training.progress import ProgressCallback, report

logger = logging.getLogger(__name__)
QUEUE = "queue.npz"
FORM = 2
"""Version of the checks; a queue that another one made is made anew."""
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
    """Every mask of a data set with its score, as arrays: half a million masks take some megabytes.

    case, structure: numbers int [mask], of `cases` and `structures`; score: float32 [mask]; reasons: by number of the mask, where
    there are any; key: says what it was made from.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        structures: Sequence[str],
        case: np.ndarray,
        structure: np.ndarray,
        score: np.ndarray,
        reasons: Mapping[int, tuple[str, ...]],
        key: str = "",
    ) -> None:
        self.key = key
        self._cases = list(cases)
        self._number = {c.id: number for number, c in enumerate(cases)}
        self._structures = tuple(structures)
        self._case, self._structure, self._score, self._reasons = case, structure, score.astype(np.float32), dict(reasons)
        self._order = np.argsort(case, kind="stable")
        self._ends = np.searchsorted(case[self._order], np.arange(len(self._cases) + 1))
        most, total = np.zeros(len(self._cases), np.float32), np.bincount(case, score, len(self._cases))
        np.maximum.at(most, case, self._score)
        self._of_case = most + OTHERS * (total - most)

    def __len__(self) -> int:
        """Number of masks, those that should be there included."""
        return len(self._score)

    def score(self, case_id: str) -> float:
        """Score of a case: its worst mask's, and a little of the others'; 0 for a case that is not in the queue."""
        return float(self._of_case[self._number[case_id]]) if case_id in self._number else 0.0

    def cases(self) -> list[Case]:
        """All cases, most suspicious first; equal ones in the order of the data set."""
        return [self._cases[number] for number in np.argsort(-self._of_case, kind="stable")]

    def of(self, case_id: str) -> list[Suspicion]:
        """What was found about the masks of a case, worst first."""
        if case_id not in self._number:
            return []
        number = self._number[case_id]
        rows = self._order[self._ends[number] : self._ends[number + 1]].tolist()
        return sorted((self._suspicion(row) for row in rows), key=lambda s: -s.score)

    def scores_of(self, structure: str) -> dict[str, float]:
        """Score of a structure by case id, where a case has it or should have it."""
        if structure not in self._structures:
            return {}
        rows = np.flatnonzero(self._structure == self._structures.index(structure))
        return {self._cases[self._case[row]].id: float(self._score[row]) for row in rows}

    def most_suspicious(self, count: int | None = None) -> list[Suspicion]:
        """The masks with the highest scores, all by default; equal ones in the order of the data set."""
        return [self._suspicion(row) for row in np.argsort(-self._score, kind="stable")[:count].tolist()]

    def _suspicion(self, row: int) -> Suspicion:
        structure = self._structures[self._structure[row]]
        return Suspicion(self._cases[self._case[row]], structure, float(self._score[row]), self._reasons.get(row, ()))

    def save(self, folder: Path) -> None:
        """Keep it in the data set's cache; a folder that cannot be written to goes without."""
        path = folder / CACHE / QUEUE
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            with part.open("wb") as file:
                np.savez(
                    file,
                    key=np.array(self.key),
                    ids=np.array([case.id for case in self._cases], dtype=np.str_),
                    structures=np.array(self._structures, dtype=np.str_),
                    case=self._case,
                    structure=self._structure,
                    score=self._score,
                    reasons=np.frombuffer(json.dumps(list(self._reasons.items())).encode(), np.uint8),
                )
            os.replace(part, path)
        except OSError as error:
            logger.info("The queue is not kept: %s", error)
            with contextlib.suppress(OSError):
                part.unlink()

    @classmethod
    def load(cls, dataset: Dataset) -> Queue | None:
        """The queue kept with a data set, None where there is none for these very cases. Its key says whether it is of today."""
        try:
            with (dataset.folder / CACHE / QUEUE).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                if file["ids"].tolist() != [case.id for case in dataset.cases]:
                    return None
                reasons = {row: tuple(words) for row, words in json.loads(file["reasons"].tobytes())}
                case, structure, score = (file[name] for name in ("case", "structure", "score"))
                return cls(dataset.cases, file["structures"].tolist(), case, structure, score, reasons, str(file["key"]))
        except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, zipfile.BadZipFile):
            return None


def queue_key(dataset: Dataset) -> str:
    """What the queue of a data set depends on: its pictures, masks, lists and corrections, and what models said about them."""
    from training.dataset import measuring, second_opinion

    parts = [FORM, measuring.FORM, sorted(measuring.stamps(dataset).items()), second_opinion.state(dataset)]
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def judge(dataset: Dataset, progress: ProgressCallback | None = None, workers: int = 1) -> Queue:
    """The queue of a data set: the one kept where nothing has changed, else masks are measured and checked. Raises BrokenDataset.

    workers: processes that measure.
    """
    from training.dataset.checks import run_checks
    from training.dataset.measuring import measure_all
    from training.dataset.second_opinion import opinions

    key = queue_key(dataset)
    kept = Queue.load(dataset)
    if kept is not None and kept.key == key:
        return kept
    measures = measure_all(dataset, progress, workers)
    report(progress, len(dataset.cases), len(dataset.cases), "Comparing masks")
    checks, missed = run_checks(measures, dataset.cases, opinions(dataset))
    score = np.sum([check.strength for check in checks], axis=0) if len(measures.records) else np.zeros(0)
    reasons = {}
    for row in np.flatnonzero(score > 0).tolist():
        found = sorted(((float(c.strength[row]), n, c) for n, c in enumerate(checks) if c.strength[row] > 0), reverse=True)
        reasons[row] = tuple(c.sentence(row) for *_, c in found)
    reasons |= {len(score) + i: (words,) for i, (*_, words) in enumerate(missed)}
    queue = Queue(
        dataset.cases,
        measures.structures,
        np.concatenate([measures.records["case"], np.array([c for c, *_ in missed], np.int32)]),
        np.concatenate([measures.records["structure"], np.array([s for _, s, *_ in missed], np.int16)]),
        np.concatenate([score, [strength for *_, strength, _ in missed]]),
        reasons,
        key,
    )
    queue.save(dataset.folder)
    return queue


def suspicion(dataset: Dataset, progress: ProgressCallback | None = None, workers: int = 1) -> list[Suspicion]:
    """Return every mask of the data set, most suspicious first; equal ones in the order of the cases."""
    return judge(dataset, progress, workers).most_suspicious()
