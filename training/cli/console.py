"""What every command shares: how it reports progress, and small helpers for names and files."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from training.errors import Cancelled, ChexanatomyError, UnknownStructure
from training.plain import writable
from training.progress import Progress, ProgressCallback

ProgressKind = Literal["bar", "json", "none"]
Lungs = Literal["drawn", "projected"]
"""What a command answers to the lungs of a radiograph, see `training.model.convention`."""


@dataclass(frozen=True, kw_only=True)
class Command(ABC):
    """One command with its arguments."""

    progress: ProgressKind = "bar"
    """How to report progress: a bar on the terminal, one JSON object per line for another program, or not at all."""

    @abstractmethod
    def run(self) -> int:
        """Do it and return the exit status. Raises ChexanatomyError on bad input."""

    def say(self, sentence: str) -> None:
        """Tell the person at the terminal something; silent where another program listens."""
        if self.progress != "json" and _speaks():
            print(writable(sentence))  # noqa: T201 - this is the command's voice

    def warn(self, sentence: str) -> None:
        """Say something that needs attention but stops nothing."""
        if _speaks():
            print(f"chexanatomy: {sentence}", file=sys.stderr)  # noqa: T201

    def warn_of_untaught(self, model: str, structures: Iterable[str]) -> None:
        """Warn that a model was not taught these structures, if there are any."""
        from training.model.predictor import display_name

        if names := ", ".join(map(display_name, structures)):
            self.warn(f"{model} was not taught {names}: what it draws there means nothing")

    @contextmanager
    def reporting(self) -> Iterator[ProgressCallback]:
        """Give a progress callback that shows itself in the way this command was asked for."""
        if self.progress == "none" or not _speaks():
            yield lambda report: None
        elif self.progress == "json":
            yield _json_line
        else:
            with _bar() as callback:
                yield callback


def _speaks() -> bool:
    """Say whether this process talks to the terminal: of the processes of `accelerate launch`, only the first."""
    return os.environ.get("RANK", "0") == "0"


def _json_line(report: Progress) -> None:
    try:
        sys.stdout.write(json.dumps(report.to_dict()) + "\n")
        sys.stdout.flush()
    except BrokenPipeError as error:
        # The program that listened was killed: end as if it had said stop, so that what is worth keeping is kept.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - so that the interpreter's own flush at exit is silent
        raise Cancelled("The program that started this is gone.") from error


@contextmanager
def _bar() -> Iterator[ProgressCallback]:
    from tqdm import tqdm

    terminal = sys.stderr.isatty()
    bar: Any = tqdm(
        total=None, file=sys.stderr, dynamic_ncols=True, mininterval=0.2 if terminal else 5, delay=0.5 if terminal else 5
    )

    def show(report: Progress) -> None:
        if bar.total != (report.total or None):
            bar.total = report.total or None
        if report.text != bar.desc.removesuffix(": "):
            bar.set_description(report.text, refresh=False)
        if report.values:
            bar.set_postfix({name: f"{value:.4g}" for name, value in report.values.items()}, refresh=False)
        if report.done < bar.n:
            bar.n = report.done
            bar.refresh()
        else:
            bar.update(report.done - bar.n)

    try:
        yield show
    finally:
        bar.close()


def structure_key(name: str) -> str:
    """Return the vocabulary's key for a name, or the name as it stands where the vocabulary has none (an adapter's own)."""
    from training.anatomy import find

    try:
        return find(name).key
    except UnknownStructure:
        return name


def among(names: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise ChexanatomyError for a name that is not among the known ones, UnknownStructure with the nearest names where nobody
    knows it. where: what the known ones come from."""
    from training.anatomy import find

    for name in names:
        if name not in known:
            find(name)
            raise ChexanatomyError(f"{where} says nothing about {name}: choose another structure.")


def listed(text: str) -> list[str]:
    """Return the names of a comma-separated list, each once. Raises ChexanatomyError when there is none."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ChexanatomyError("Name at least one structure, for example lung_left,heart.")
    return names
