"""What a model sees where the masks are: a second opinion on each mask, asked once and kept in the data set's cache/."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from training.dataset.case import Case
from training.dataset.store import CACHE, Dataset
from training.images import Radiograph
from training.progress import ProgressCallback, report

OPINIONS = "opinions.jsonl"
Segment = Callable[[Radiograph, Sequence[str]], Mapping[str, np.ndarray | None]]
"""A model: from a radiograph and structures to bool [row, column] by structure, None where it sees none."""


def ask(
    dataset: Dataset,
    cases: Sequence[Case],
    structures: Sequence[str],
    segment: Segment,
    model: str,
    progress: ProgressCallback | None = None,
) -> None:
    """Have the model segment those of the structures that each case has a mask of, and keep how far they overlap.

    model: the name it is kept under, another one once the model has learnt more; what is kept for unchanged cases is not asked
    again. Interrupted, it goes on from there. Masks that are damaged or of another size are passed over.
    """
    from training.dataset.measuring import stamps

    current = stamps(dataset)
    known = {(line["model"], line["case"], line["stamp"], s) for line in _lines(dataset.folder) for s in line["dice"]}
    path = dataset.folder / CACHE / OPINIONS
    path.parent.mkdir(exist_ok=True)
    torn = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("ab") as file:
        if torn:
            file.write(b"\n")  # what a crash left of a line ends here
        for number, case in enumerate(cases):
            asked = [s for s in structures if s in case.present and (model, case.id, current[case.id], s) not in known]
            if asked:
                masks = dataset.sound_masks(case, asked)
                seen = segment(dataset.image(case), list(masks)) if masks else {}
                overlaps = {s: round(dice(mask, seen.get(s)), 4) for s, mask in masks.items()}
                line = {"model": model, "case": case.id, "stamp": current[case.id], "dice": overlaps}
                if overlaps:
                    file.write(json.dumps(line).encode() + b"\n")
                    file.flush()
            report(progress, number + 1, len(cases), "Asking the model")


def dice(mask: np.ndarray, other: np.ndarray | None) -> float:
    """Dice coefficient of two masks bool [row, column]; 0 where the other is none, 1 where both are empty."""
    if other is None:
        return 0.0 if mask.any() else 1.0
    total = int(mask.sum()) + int(other.sum())
    return 2 * int((mask & other).sum()) / total if total else 1.0


def opinions(dataset: Dataset) -> dict[tuple[str, str], float]:
    """Best Dice that any model reached by (case id, structure), for cases that have not changed since."""
    if not (dataset.folder / CACHE / OPINIONS).exists():
        return {}
    from training.dataset.measuring import stamps

    current = stamps(dataset)
    best: dict[tuple[str, str], float] = {}
    for line in _lines(dataset.folder):
        if current.get(line["case"]) == line["stamp"]:
            for structure, value in line["dice"].items():
                key = line["case"], structure
                best[key] = max(float(value), best.get(key, 0.0))
    return best


def state(dataset: Dataset) -> int:
    """A number that changes when opinions are added."""
    path = dataset.folder / CACHE / OPINIONS
    return path.stat().st_size if path.exists() else 0


def _lines(folder: Path) -> list[dict]:
    """What is kept; torn lines are passed over."""
    path = folder / CACHE / OPINIONS
    if not path.exists():
        return []
    found = []
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
            if isinstance(line["dice"], dict) and {"model", "case", "stamp"} <= set(line):
                found.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    return found
