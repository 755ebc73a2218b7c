"""The order in which a data set is reviewed, and what is loaded for one case. No Qt here: it runs off the GUI thread."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import BrokenDataset
from training.progress import ProgressCallback

if TYPE_CHECKING:
    from training.dataset import Case, Dataset, Reviews
    from training.images import Radiograph


@dataclass
class Opened:
    """A case on screen: radiograph, bool masks [row, column], and score and reasons of suspicion by structure."""

    index: int
    case: Case
    radiograph: Radiograph
    masks: dict[str, np.ndarray]
    scores: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)


class ReviewQueue:
    """Cases, most suspicious first, and the decisions of one reviewer on them."""

    def __init__(self, dataset: Dataset, reviews: Reviews, suspicions: list[Any]) -> None:
        """`suspicions` as `training.dataset.suspicion` returns them."""
        self.dataset = dataset
        self._reviews = reviews
        self._by_case: dict[str, list[Any]] = defaultdict(list)
        for one in suspicions:
            self._by_case[one.case.id].append(one)
        worst = {case_id: max(one.score for one in ones) for case_id, ones in self._by_case.items()}
        self.cases: list[Case] = sorted(dataset.cases, key=lambda case: -worst.get(case.id, 0.0))
        self._verdicts: dict[tuple[str, str], str] = {}
        self._read_decisions()

    def _read_decisions(self) -> None:
        mine = (d for d in self._reviews.all() if d.reviewer == self._reviews.reviewer)
        self._verdicts = {(d.case_id, d.structure): d.verdict for d in mine}

    def change_reviewer(self, name: str) -> None:
        """Go on as somebody else."""
        from training.dataset import Reviews

        if name != self._reviews.reviewer:
            self._reviews = Reviews(self.dataset.folder, name)
            self._read_decisions()

    def decide(self, case_id: str, structure: str, verdict: Any, comment: str) -> None:
        """Record a decision; it is on disk when this returns."""
        self._reviews.decide(case_id, structure, verdict, comment)
        self._verdicts[case_id, structure] = verdict

    def correct(self, case_id: str, structure: str, mask: np.ndarray) -> None:
        """Record a repaired mask, bool [row, column]."""
        self._reviews.correct(case_id, structure, mask)

    def undo(self) -> str | None:
        """Take the last decision or correction back; returns its case."""
        case_id = self._reviews.undo()
        self._read_decisions()
        return case_id

    def verdict(self, case_id: str, structure: str = "") -> str:
        """ "accept", "reject", "flag", or "" where nothing was decided."""
        return self._verdicts.get((case_id, structure), "")

    def decided_count(self) -> int:
        """Cases with at least one decision."""
        return len({case_id for case_id, _ in self._verdicts})

    def first_undecided(self) -> int:
        """Index of the first case without a decision, 0 when all have one."""
        decided = {case_id for case_id, _ in self._verdicts}
        return next((index for index, case in enumerate(self.cases) if case.id not in decided), 0)

    def index_of(self, case_id: str) -> int:
        """Where a case stands in the queue."""
        return next(index for index, case in enumerate(self.cases) if case.id == case_id)

    def suspicions(self, case_id: str) -> list[Any]:
        """What was noticed about a case's masks."""
        return self._by_case.get(case_id, [])


def open_queue(folder: Path, reviewer: str, progress: ProgressCallback) -> ReviewQueue:
    """Open a data set folder and order its cases. Raises BrokenDataset."""
    from training.dataset import Dataset, Reviews, suspicion

    dataset = Dataset.open(folder)
    if not dataset.cases:
        raise BrokenDataset(f"{folder.name} holds no case yet: let `chexanatomy synthesize` fill it first.")
    return ReviewQueue(dataset, Reviews(folder, reviewer), suspicion(dataset, progress))


def load_case(queue: ReviewQueue, index: int) -> Opened:
    """Read a case's image and masks."""
    case = queue.cases[index]
    found = queue.suspicions(case.id)
    scores = {one.structure: one.score for one in found}
    reasons = {one.structure: tuple(one.reasons) for one in found}
    return Opened(index, case, queue.dataset.image(case), queue.dataset.masks(case), scores, reasons)
