"""The figures of a comparison, and how they are written for people (report.md) and programs (report.json)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

NOT_FOR_DIAGNOSIS = "Research use, not for diagnosis."


@dataclass(frozen=True)
class StructureScore:
    """How one model did on one structure.

    n: images that show it; dice, iou: means over them, 0 where the model called it absent; dice_interval: 95 % interval of the
    mean from a bootstrap over subjects; dice_low: the Dice below which the worst tenth lies; hd95: mean over the images where
    both masks exist, in `hd95_unit` (mm over those whose pixel pitch is known; px when none is); missed: shown, but called
    absent; n_absent, absent_right: images without it, and how often the model said so; exchanged: times the mask lay on the
    other side's structure, in views that show the sides; invalid: answers that could not be read.
    """

    structure: str
    n: int
    dice: float
    dice_interval: tuple[float, float]
    dice_low: float
    iou: float
    hd95: float
    hd95_unit: str
    missed: int
    n_absent: int
    absent_right: int
    exchanged: int
    invalid: int


@dataclass(frozen=True)
class ModelScore:
    """One model's figures: per structure, in the order asked for, and the mean Dice over the structures."""

    model: str
    structures: tuple[StructureScore, ...]

    @property
    def mean_dice(self) -> float:
        """Mean of the structures' mean Dice; NaN when no structure was shown anywhere."""
        values = [s.dice for s in self.structures if s.n]
        return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Report:
    """Several models on the same images; the first one is the one that was asked about, the others stand beside it."""

    data: str
    n_images: int
    n_subjects: int
    models: tuple[ModelScore, ...]
    version: str
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what is not defined (NaN) becomes null."""
        record = asdict(self)
        for model, score in zip(record["models"], self.models, strict=True):
            model["mean_dice"] = score.mean_dice
        plain: dict[str, Any] = _without_nan(record)
        return plain

    def to_markdown(self) -> str:
        """One table per comparison: a row per structure, the first model in full, the others' Dice beside it."""
        first, others = self.models[0], self.models[1:]
        lines = [
            f"# {first.model} on {self.data}",
            "",
            f"{self.n_images} images of {self.n_subjects} subjects. {NOT_FOR_DIAGNOSIS}",
            "",
        ]
        lines += [f"Mean Dice over structures: {_mean_line(self.models)}.", ""]
        head = [
            "structure",
            "n",
            "Dice",
            "95 %",
            "worst tenth below",
            "IoU",
            "HD95",
            "missed",
            "absent, said so",
            "sides exchanged",
            "invalid",
        ]
        head += [f"Dice of {other.model}" for other in others]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for row, score in enumerate(first.structures):
            cells = [*_cells(score), *(_number(other.structures[row].dice) for other in others)]
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"


def write_report(report: Report, folder: Path) -> None:
    """Write report.json and report.md into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(report.to_markdown(), encoding="utf-8")


def _cells(score: StructureScore) -> list[str]:
    low, high = score.dice_interval
    interval = "–" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    distance = "–" if math.isnan(score.hd95) else f"{score.hd95:.1f} {score.hd95_unit}"
    absent = f"{score.absent_right} of {score.n_absent}" if score.n_absent else "–"
    counts = [str(score.exchanged), str(score.invalid)]
    figures = [_number(score.dice), interval, _number(score.dice_low), _number(score.iou), distance]
    return [score.structure, str(score.n), *figures, str(score.missed), absent, *counts]


def _mean_line(models: Sequence[ModelScore]) -> str:
    return ", ".join(f"{model.model} {_number(model.mean_dice)}" for model in models)


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return value
