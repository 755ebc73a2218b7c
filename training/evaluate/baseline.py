"""The constant mean mask: what an answer is worth that never looks at the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from training.evaluate.sources import Scored
from training.images import Radiograph

if TYPE_CHECKING:
    from training.model import Finding

GRID = 128
"""Rows and columns of the normalised image on which masks are averaged."""
LOOKED_AT = 500
"""Masks by which the cut is chosen at most, per view and structure; the mean is over all."""
LEVELS = tuple(n / 10 for n in range(2, 9))

Key = tuple[str, str]


@dataclass
class _Stack:
    """The masks of one view ("" for all views) and one target: their sum, their number, and each, packed into 2 kB, by id."""

    total: np.ndarray = field(default_factory=lambda: np.zeros((GRID, GRID), np.float32))
    count: int = 0
    kept: dict[str, np.ndarray] = field(default_factory=dict)


class MeanMask:
    """Answers every radiograph with the mean reference mask of its view, cut at the level that serves the training images best.

    Masks are averaged in image coordinates 0..1. A view that was never seen or is not known is answered with the mean of all
    views.
    """

    name = "mean mask"

    def __init__(self, training: Iterable[Scored]) -> None:
        """Average the references of the training images."""
        self._stacks: dict[Key, _Stack] = {}
        self._cuts: dict[tuple[Key, str], np.ndarray | None] = {}
        for scored in training:
            for target, reference in scored.references.items():
                if reference.any():
                    self._add(scored, target, _resized(reference, (GRID, GRID)))

    def _add(self, scored: Scored, target: str, mask: np.ndarray) -> None:
        for key in {(_view(scored.radiograph), target), ("", target)}:
            stack = self._stacks.setdefault(key, _Stack())
            stack.total += mask
            stack.count += 1
            stack.kept[scored.id] = np.packbits(mask)

    def answer(self, radiograph: Radiograph, targets: Sequence[str], leave_out: str = "") -> dict[str, np.ndarray]:
        """Return target -> bool [row, column] at the radiograph's size; empty for a target that was never seen.

        leave_out: id of a training image that must not count (scoring a folder that has no training split of its own).
        """
        size = radiograph.pixels.shape
        answers = {}
        for target in targets:
            mask = self._cut((_view(radiograph), target), leave_out)
            if mask is None:
                mask = self._cut(("", target), leave_out)
            answers[target] = np.zeros(size, bool) if mask is None else _resized(mask, size)
        return answers

    def segment(self, radiograph: Radiograph, structures: Sequence[str]) -> list[Finding]:
        """As a Predictor: one Finding per structure, in the order asked."""
        from training.model import Finding

        answers = self.answer(radiograph, structures)
        return [Finding(s, bool(m.any()), None, m if m.any() else None, 0.0, (), s) for s, m in answers.items()]

    def _cut(self, key: Key, leave_out: str) -> np.ndarray | None:
        stack = self._stacks.get(key)
        if stack is None:
            return None
        leave_out = leave_out if leave_out in stack.kept else ""
        if (key, leave_out) not in self._cuts:
            others = (bits for id_, bits in stack.kept.items() if id_ != leave_out)
            masks = [_unpacked(bits) for bits in islice(others, LOOKED_AT)]
            total, count = stack.total, stack.count
            if leave_out:
                total, count = total - _unpacked(stack.kept[leave_out]), count - 1
            self._cuts[key, leave_out] = _best_cut(total / count, masks) if count else None
        return self._cuts[key, leave_out]


def _view(radiograph: Radiograph) -> str:
    """The view that a radiograph is averaged with. What was reckoned from a CT without a view of its own is oblique."""
    return radiograph.view or ("OBLIQUE" if radiograph.reconstructed else "")


def _best_cut(mean: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return bool [GRID, GRID]: the mean mask cut at the level with the best mean Dice on the masks it was made from."""
    flat = np.stack([m.ravel() for m in masks]).astype(np.float32)
    cuts = np.stack([mean.ravel() >= level for level in LEVELS]).astype(np.float32)
    common = flat @ cuts.T
    scores = 2 * common / np.maximum(1, flat.sum(axis=1)[:, None] + cuts.sum(axis=1)[None])
    return mean >= LEVELS[int(scores.mean(axis=0).argmax())]


def _unpacked(bits: np.ndarray) -> np.ndarray:
    return np.unpackbits(bits).reshape(GRID, GRID).astype(bool)


def _resized(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return the mask on another grid over the same image, nearest neighbour."""
    rows = ((np.arange(size[0]) + 0.5) * mask.shape[0] / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * mask.shape[1] / size[1]).astype(int)
    return mask[np.ix_(rows, columns)]
