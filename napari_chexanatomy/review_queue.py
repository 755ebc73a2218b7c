"""The cases under review: which of them are shown, the order, what was decided, and loading one. No Qt here."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_chexanatomy.overlay import Patch, patches
from training.errors import BrokenDataset
from training.progress import ProgressCallback

if TYPE_CHECKING:
    from training.dataset import Case, Dataset, Decision, Queue
    from training.dataset.reviews import Verdict
    from training.images import Radiograph

AT_ONCE = 60
"""So few cases are judged before the first is shown; of more, the first is shown while they are judged."""
KEPT_IN_MEMORY = 6
"""Cases held ready: the one on screen, those just left, and the next."""

Sorting = Literal["suspicion", "id", "view", "decision"]
DecidedAs = Literal["", "undecided", "accept", "reject", "flag", "repaired", "disputed"]


@dataclass(frozen=True)
class Filter:
    """Which cases are shown: with a mask of `structure`, of `view` ("" any), decided so, with at least this score; the order."""

    structure: str = ""
    view: str = ""
    decided: DecidedAs = ""
    score: float = 0.0
    sorting: Sorting = "suspicion"


@dataclass(frozen=True)
class Opened:
    """A case on screen: radiograph, bool masks [row, column], the same cut to patches, score and reasons by structure."""

    case: Case
    radiograph: Radiograph
    masks: dict[str, np.ndarray]
    cuts: list[Patch]
    scores: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, tuple[str, ...]] = field(default_factory=dict)


class ReviewQueue:
    """The cases of a data set in the order of review, and one reviewer's decisions on them."""

    def __init__(self, dataset: Dataset, reviewer: str, judged: Queue | None = None) -> None:
        """`judged`: the scores, where they are known already."""
        from training.dataset import Reviews

        self.dataset = dataset
        self.filter = Filter()
        self.judged = judged
        self._reviews = Reviews(dataset.folder, reviewer)
        self._loaded: OrderedDict[str, Opened] = OrderedDict()
        self._lock = threading.Lock()
        self.structures = sorted({s for case in dataset.cases for s in case.present})
        self.views = sorted({case.view for case in dataset.cases})
        self.read_decisions()
        self.cases: list[Case] = []
        self.apply(self.filter)

    # Which and the order ---------------------------------------------------------------------------------------

    def judge(self, judged: Queue) -> None:
        """Take over scores and order the cases by them; what is loaded is read again with its reasons."""
        self.judged = judged
        self._forget()
        self.apply(self.filter)

    def apply(self, chosen: Filter) -> None:
        """Show the cases that the filter lets through, in its order."""
        self.filter = chosen
        scores = {case.id: self.score(case.id) for case in self.dataset.cases}
        if chosen.structure:
            given = self.judged.scores_of(chosen.structure) if self.judged else {}
            scores = {c.id: given.get(c.id, 0.0) for c in self.dataset.cases if chosen.structure in c.present or c.id in given}
        disputed = {d.case_id for d in self.disputed()} if chosen.decided == "disputed" else set()
        shown = [
            case
            for case in self.dataset.cases
            if scores.get(case.id, -1.0) >= chosen.score
            and (not chosen.view or case.view == chosen.view)
            and self._decided_as(case.id, chosen, disputed)
        ]
        orders = {
            "suspicion": lambda case: (-scores[case.id], 0),
            "id": lambda case: (case.id, 0),
            "view": lambda case: (case.view, -scores[case.id]),
            "decision": lambda case: (self.verdict(case.id, chosen.structure), -scores[case.id]),
        }
        self.cases = sorted(shown, key=orders[chosen.sorting])
        self._place = {case.id: place for place, case in enumerate(self.cases)}

    def _decided_as(self, case_id: str, chosen: Filter, disputed: set[str]) -> bool:
        match chosen.decided:
            case "":
                return True
            case "disputed":
                return case_id in disputed
            case "repaired":
                return any(c == case_id and chosen.structure in ("", s) for c, s in self._repaired)
            case "undecided":
                return not (self.verdict(case_id, chosen.structure) or (not chosen.structure and self.mask_verdicts(case_id)))
            case verdict:
                own = self.verdict(case_id, chosen.structure)
                return own == verdict or (not chosen.structure and verdict in self.mask_verdicts(case_id))

    def score(self, case_id: str) -> float:
        """How suspicious the case is; with a structure chosen in the filter, that mask."""
        if self.judged is None:
            return 0.0
        return self.judged.score(case_id)

    def place(self, case_id: str) -> int | None:
        """Where the case stands among those shown, None where the filter hides it."""
        return self._place.get(case_id)

    def first_undecided(self) -> int:
        """Place of the first shown case without a decision, 0 when all have one."""
        structure = self.filter.structure
        undecided = (
            i
            for i, case in enumerate(self.cases)
            if not self.verdict(case.id, structure) and (structure or not self.mask_verdicts(case.id))
        )
        return next(undecided, 0)

    # Decisions ------------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether decisions can be kept."""
        return self._reviews.writable

    @property
    def reviewer(self) -> str:
        """Who decides."""
        return self._reviews.reviewer

    def change_reviewer(self, name: str) -> None:
        """Go on as somebody else."""
        from training.dataset import Reviews

        if name != self._reviews.reviewer:
            self._reviews = Reviews(self.dataset.folder, name)
            self.read_decisions()

    def read_decisions(self) -> None:
        """Read everybody's decisions from disk."""
        self.everybodys: list[Decision] = self._reviews.all()
        self._repaired = set(self._reviews.repairs())
        self._verdicts: dict[str, dict[str, str]] = {}
        for d in self.everybodys:
            if d.reviewer == self.reviewer:
                self._verdicts.setdefault(d.case_id, {})[d.structure] = d.verdict

    def decide(self, case_ids: Iterable[str], structure: str, verdict: Verdict, comment: str) -> None:
        """Record a decision on each case; all of them are on disk when this returns."""
        ids = list(case_ids)
        self._reviews.decide_all(ids, structure, verdict, comment)
        for case_id in ids:
            self._verdicts.setdefault(case_id, {})[structure] = verdict

    def correct(self, opened: Opened, structure: str, mask: np.ndarray) -> Opened:
        """Keep a repaired mask, bool [row, column]; returns the case with it."""
        self._reviews.correct(opened.case.id, structure, mask)
        self._verdicts.setdefault(opened.case.id, {})[structure] = "accept"
        self._repaired.add((opened.case.id, structure))
        masks = opened.masks | {structure: mask}
        repaired = replace(opened, masks=masks, cuts=patches(masks))
        with self._lock:
            self._loaded[opened.case.id] = repaired
        return repaired

    def undo(self) -> str | None:
        """Take the last decision or correction back; returns its case."""
        case_id = self._reviews.undo()
        self.read_decisions()
        with self._lock:
            self._loaded.pop(case_id or "", None)
        return case_id

    def verdict(self, case_id: str, structure: str = "") -> str:
        """ "accept", "reject", "flag", or "" where nothing was decided on this very mask, or on the case as a whole."""
        return self._verdicts.get(case_id, {}).get(structure, "")

    def mask_verdicts(self, case_id: str) -> Counter[str]:
        """How many single masks of the case were accepted, rejected and flagged."""
        return Counter(v for structure, v in self._verdicts.get(case_id, {}).items() if structure)

    def repaired(self, case_id: str, structure: str) -> bool:
        """Whether somebody repaired the mask."""
        return (case_id, structure) in self._repaired

    def counts(self) -> tuple[int, int, int, int]:
        """Cases of the data set with a decision of this reviewer, and decisions to accept, reject and flag."""
        every = Counter(v for given in self._verdicts.values() for v in given.values())
        return len(self._verdicts), every["accept"], every["reject"], every["flag"]

    def disputed(self) -> list[Decision]:
        """Decisions of this reviewer or another on which two reviewers differ."""
        from training.dataset import agreements

        self.everybodys = self._reviews.all()
        return [d for pair in agreements(self.everybodys) for both in pair.disagreements for d in both]

    # Loading --------------------------------------------------------------------------------------------------------

    def load(self, case_id: str) -> Opened:
        """Read a case, or take it from those held ready. May be called from any thread. Raises BrokenDataset."""
        with self._lock:
            if case_id in self._loaded:
                self._loaded.move_to_end(case_id)
                return self._loaded[case_id]
        case = self.dataset.case(case_id)
        radiograph, masks = self.dataset.image(case), self.dataset.sound_masks(case)
        found = self.judged.of(case_id) if self.judged else []
        opened = Opened(
            case,
            radiograph,
            masks,
            patches(masks),
            {one.structure: one.score for one in found} or dict.fromkeys(sorted({*masks, *case.present}), 0.0),
            {one.structure: one.reasons for one in found if one.reasons},
        )
        with self._lock:
            self._loaded[case_id] = opened
            while len(self._loaded) > KEPT_IN_MEMORY:
                self._loaded.popitem(last=False)
        return opened

    def _forget(self) -> None:
        with self._lock:
            self._loaded.clear()


def open_queue(folder: Path, reviewer: str, progress: ProgressCallback) -> ReviewQueue:
    """Open a data set folder, with its scores where they are kept or quickly had. Raises BrokenDataset."""
    from training.dataset import Dataset, Queue, judge

    dataset = Dataset.open(folder)
    if not dataset.cases:
        raise BrokenDataset(f"{folder.name} holds no case yet: let `chexanatomy synthesize` fill it first.")
    judged = judge(dataset, progress) if len(dataset.cases) <= AT_ONCE else Queue.load(dataset)
    return ReviewQueue(dataset, reviewer, judged)
