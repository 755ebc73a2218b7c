"""What few-shot learning takes and gives: examples, settings, and the adapter that came of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.errors import ChexanatomyError
from training.fit.augment import Augmentation
from training.fit.lora import RANK
from training.fit.settings import above_nothing, at_least
from training.images import Radiograph


@dataclass(frozen=True)
class Example:
    """A radiograph with a mask bool [row, column] of its size; an empty mask says the structure is not there. held_out: kept for
    measuring; name: for the report, by default the radiograph's."""

    radiograph: Radiograph
    mask: np.ndarray
    held_out: bool = False
    name: str = ""

    def __post_init__(self) -> None:
        if self.mask.shape != self.radiograph.pixels.shape:
            raise ChexanatomyError(
                f"The mask of {self.label} has {self.mask.shape} pixels, its radiograph {self.radiograph.pixels.shape}: "
                "draw it on that radiograph."
            )

    @property
    def label(self) -> str:
        """What the report calls it."""
        return self.name or self.radiograph.name


@dataclass(frozen=True)
class Adapter:
    """What was learnt. folder: opens with `training.model.load`; before, after: Dice per held-out image, empty where none was
    held out."""

    folder: Path
    structure: str
    before: dict[str, float]
    after: dict[str, float]
    card: dict[str, Any] = field(repr=False)

    @property
    def better(self) -> bool | None:
        """Whether the held-out images got better; None where none was held out."""
        return mean_score(self.after) > mean_score(self.before) if self.after else None


Method = Literal["lora", "decoder", "model"]
METHODS: tuple[Method, ...] = ("lora", "decoder", "model")


@dataclass(frozen=True)
class AdaptSettings:
    """How to learn.

    seconds: time for it; steps, least_steps: most and fewest optimiser steps, the fewest even when the time is over; method:
    low-rank adapters (rank) in the decoder, the whole decoder, or the whole model with its vision tower (slow: nothing of what
    it saw can be kept); views: altered looks that are kept and learnt from again, least_views: of each image at least; batch:
    looks per step; rehearsal: other structures per look that are asked as well, with the model's own former answers, so that
    they are not forgotten; mask_loss: weight of the loss on the drawn mask beside that on the tokens; average: share of the
    weights' moving average that stays per step; muon: size of Muon's steps where weights are trained themselves; patience:
    measurements without improvement before it stops.
    """

    seconds: float = 40.0
    steps: int = 300
    least_steps: int = 32
    method: Method = "lora"
    rank: int = RANK
    learning_rate: float | None = None
    weight_decay: float = 0.01
    views: int = 96
    least_views: int = 16
    batch: int = 8
    rehearsal: int = 2
    mask_loss: float = 0.0
    average: float = 0.9
    muon: float = 7.0
    patience: int = 6
    measure_steps: int = 20
    seed: int = 0
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(zoom=0.2, aspect=0.06, turn=6, shift=0.1, untouched=0.1)
    )

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, rank=self.rank, batch=self.batch)
        at_least(0, seed=self.seed, learning_rate=self.learning_rate)
        above_nothing(seconds=self.seconds)


def hold_out(examples: Sequence[Example], seed: int) -> list[Example]:
    """Mark about a quarter as held out, at least one from three images on, unless the caller has chosen."""
    if not examples:
        raise ChexanatomyError("There is nothing to learn from: give at least one radiograph with a mask.")
    if any(e.held_out for e in examples):
        if all(e.held_out for e in examples):
            raise ChexanatomyError("Every image is held out: leave at least one to learn from.")
        return list(examples)
    shown = [i for i, e in enumerate(examples) if e.mask.any()]
    if len(examples) < 3 or len(shown) < 2:
        return list(examples)
    count = min(max(1, len(examples) // 4), len(shown) - 1)
    chosen = set(np.random.default_rng(seed).permutation(shown)[:count].tolist())
    return [replace(e, held_out=i in chosen) for i, e in enumerate(examples)]


def mean_score(scores: dict[str, float]) -> float:
    """Mean Dice over the images, 0 where there are none."""
    return float(np.mean(list(scores.values()))) if scores else 0.0
