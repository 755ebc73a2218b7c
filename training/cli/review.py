"""`review`: suspicion, decisions, agreement and reports on a data set, or the desk's window on it."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from training.cli.console import Command, among, listed, structure_key
from training.cli.look import desk
from training.cli.screen import require_screen
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from training.dataset import Case, Dataset, Queue, Reviews

WORTH_ASKING = 0.6
"""Dice on the model's card from which on its opinion of a structure is asked."""


@dataclass(frozen=True, kw_only=True)
class Review(Command):
    """Review a data set: list its most suspicious masks, record decisions, write a report, or open the desk.

    Masks are measured once; what was measured is kept in the data set's folder cache/. With --model a model gives a second
    opinion; it is kept there, too.

    Example: chexanatomy review data --show 20 --html review.html
    """

    dataset: Positional[Path]
    """Data set folder."""
    show: int = 10
    """List this many of the most suspicious masks."""
    case: str | None = None
    """Record a decision about this case."""
    structure: str | None = None
    """About this structure of the case (default: about the whole case)."""
    decide: Literal["accept", "reject", "flag"] | None = None
    """The decision."""
    comment: str = ""
    """Why."""
    reviewer: str | None = None
    """Who decides (default: the name you are logged in with)."""
    model: str | None = None
    """Have this model give a second opinion: embedded, a folder, a hub id, an adapter."""
    model_cases: int = 100
    """On this many cases: one half the most suspicious ones, the other spread over the rest, to know what is usual."""
    model_structures: str | None = None
    """On these structures, separated by commas (default: those that the model is good at, by its card)."""
    csv: Path | None = None
    """Write a table of everything found and decided."""
    html: Path | None = None
    """Write a report with counts, pictures and reasons, as one file."""
    workers: int | None = None
    """Processes that measure masks (default: one per processor core)."""
    window: bool = False
    """Open the review widget on the desk instead."""

    def run(self) -> int:
        """Decide, open, or judge and list."""
        from training.dataset import Dataset, Reviews, agreements, judge

        if not self.decide and (self.case or self.structure or self.comment or self.reviewer):
            raise ChexanatomyError(
                "Say with --decide what is decided: accept, reject or flag; --case, --structure, --comment and --reviewer belong "
                "to a decision."
            )
        dataset = Dataset.open(self.dataset)
        if self.window:
            require_screen()
            desk().review(self.dataset)
            return 0
        if self.decide:
            self._decide(dataset, Reviews(self.dataset, self.reviewer or _login()))
            if not (self.csv or self.html or self.model):
                return 0
        workers = self.workers or os.cpu_count() or 1
        with self.reporting() as progress:
            queue = judge(dataset, progress, workers)
        if self.model:
            self._ask(dataset, queue)
            queue = judge(dataset)
        for item in queue.most_suspicious(self.show):
            self.say(f"{item.score:6.2f}  {item.case.id}  {item.structure}: {' '.join(item.reasons)}")
        for pair in agreements(dataset.reviews.all()):
            kappa = "" if pair.kappa is None else f", Cohen's kappa {pair.kappa:.2f}"
            self.say(f"{pair.one} and {pair.two} agree on {pair.agreed} of {pair.shared}{kappa}")
        self._write(dataset, queue)
        return 0

    def _write(self, dataset: Dataset, queue: Queue) -> None:
        from training.dataset.review_report import entries, write_csv, write_html

        if not self.csv and not self.html:
            return
        found = entries(dataset, queue)
        if self.csv:
            write_csv(found, self.csv)
            self.say(f"{self.csv}: {len(found)} masks and cases")
        if self.html:
            with self.reporting() as progress:
                write_html(dataset, queue, found, self.html, progress)
            self.say(f"{self.html}: the report")

    def _ask(self, dataset: Dataset, queue: Queue) -> None:
        from training.dataset.second_opinion import ask
        from training.model import load

        assert self.model
        structures = [structure_key(name) for name in listed(self.model_structures)] if self.model_structures else []
        among(structures, {name for case in dataset.cases for name in case.present}, dataset.folder.name)
        predictor = load(self.model, say=self.warn)
        if not structures:
            scores = predictor.card.get("validation", {})
            known = list(predictor.card.get("structures", ()))
            structures = [s for s in known if scores.get(f"dice/{s}", 0.0) >= WORTH_ASKING] or known
        with self.reporting() as progress:
            ask(
                dataset,
                _some(queue.cases(), self.model_cases),
                structures,
                lambda radiograph, asked: {f.structure: f.mask for f in predictor.segment(radiograph, asked)},
                f"{self.model} {predictor.checkpoint.fingerprint()}",
                progress,
            )

    def _decide(self, dataset: Dataset, reviews: Reviews) -> None:
        if not self.case or self.decide is None or self.case not in {case.id for case in dataset.cases}:
            raise ChexanatomyError(
                f"Name a case of the data set with --case; {self.case or 'none'} is not one of its {len(dataset.cases)}."
            )
        structure = structure_key(self.structure) if self.structure else ""
        case = dataset.case(self.case)
        if structure and structure not in (*case.present, *case.absent):
            raise ChexanatomyError(
                f"{self.case} says nothing about {structure}: give one of its structures, such as {', '.join(case.present[:4])}."
            )
        reviews.decide(self.case, structure, self.decide, self.comment)
        self.say(f"{self.case} {structure or '(whole case)'}: {self.decide}")


def _login() -> str:
    """The name of who is logged in. Raises ChexanatomyError where the system knows none."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError) as error:
        raise ChexanatomyError("This system does not know who is logged in: say with --reviewer who decides.") from error


def _some(cases: list[Case], count: int) -> list[Case]:
    """The first half of the count from the beginning of the list, the other half evenly spread over the rest."""
    first, rest = cases[: count // 2], cases[count // 2 :]
    left = min(len(rest), count - len(first))
    return first + [rest[i * len(rest) // left] for i in range(left)]
