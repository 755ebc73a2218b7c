"""How good a mask is, guessed from how sure the model was of its box and its codes.

The probability of the tokens alone says little: a location that is uncertain by ten bins does not matter to a lung and ruins a
rib. So the spread of each edge is measured against the box, and what follows for the Dice is learnt on held-out images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from training.model.decoding import Written

FEATURES = ("constant", "height", "width", "codes", "doubt", "area")
STEPS = 50
FOLDS = 5
RIDGE, STRUCTURE_RIDGE = 0.01, 1.0
LOW_CONFIDENCE = 0.5
"""An expected Dice below this calls for a second look: such a mask has more wrong than right in it."""


def features(answer: Written) -> np.ndarray:
    """What the guess is made of, float64 [6]: a constant, the log spread of the box's horizontal and vertical edges relative to
    its height and width, the mean entropy of the codes [nats], the log odds against presence, and the log area of the box."""
    top, left, bottom, right = answer.bins
    height, width = max(bottom - top, 1), max(right - left, 1)
    spread = np.asarray(answer.box_spread)
    presence = min(max(answer.presence, 1e-4), 1 - 1e-4)
    return np.array(
        [
            1.0,
            np.log((spread[0] + spread[2] + 1) / height),
            np.log((spread[1] + spread[3] + 1) / width),
            float(np.mean(answer.code_entropy)),
            np.log((1 - presence) / presence) / 10,
            np.log(height * width / 1023**2),
        ]
    )


@dataclass(frozen=True)
class Confidence:
    """A logistic model of the Dice. weights: one per feature; offsets: structure -> how much better or worse its masks are than
    others; n: answers it was learnt from; correlation, error: with and mean absolute distance to the Dice of answers it was not
    learnt from (cross-validated over images)."""

    weights: tuple[float, ...]
    offsets: Mapping[str, float]
    n: int
    correlation: float
    error: float

    def __call__(self, structure: str, answer: Written) -> float:
        """The expected Dice of an answer that says the structure is there, 0..1."""
        return float(_sigmoid(features(answer) @ np.asarray(self.weights) + self.offsets.get(structure, 0.0)))

    @classmethod
    def learn(
        cls, structures: Sequence[str], answers: Sequence[Written], dice: Sequence[float], images: Sequence[int]
    ) -> Confidence:
        """Learn from answers about structures that are there. images: which image each is about."""
        names, column = np.unique(np.asarray(structures), return_inverse=True)
        x = np.concatenate([np.stack([features(a) for a in answers]), np.eye(len(names))[column]], 1)
        y, group = np.asarray(dice, float), np.asarray(images) % FOLDS
        left_out = np.empty_like(y)
        for fold in np.unique(group):
            left_out[group == fold] = _sigmoid(x[group == fold] @ _fit(x[group != fold], y[group != fold]))
        correlation = float(np.corrcoef(left_out, y)[0, 1]) if len(y) > 2 and y.std() > 0 else 0.0
        error = float(np.abs(left_out - y).mean())
        weights = _fit(x, y).round(4).tolist()
        offsets = {str(name): float(w) for name, w in zip(names, weights[len(FEATURES) :], strict=True)}
        return cls(tuple(weights[: len(FEATURES)]), offsets, len(y), round(correlation, 3), round(error, 4))

    def to_dict(self) -> dict[str, Any]:
        """For the card."""
        return {**asdict(self), "features": list(FEATURES)}

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> Confidence | None:
        """What a card holds; None where there is nothing, or something of other features.

        Raises KeyError, TypeError, ValueError, AttributeError or OverflowError where the card is damaged.
        """
        stored = card.get("confidence")
        if not isinstance(stored, Mapping) or stored.get("features") != list(FEATURES):
            return None
        weights, offsets = tuple(map(float, stored["weights"])), {str(k): float(v) for k, v in stored["offsets"].items()}
        if len(weights) != len(FEATURES) or not np.isfinite([*weights, *offsets.values()]).all():
            raise ValueError("not one finite weight for each feature")
        return cls(weights, offsets, int(stored["n"]), float(stored["correlation"]), float(stored["error"]))


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logistic regression on targets in 0..1 by Newton's method; what is said of single structures is drawn towards zero."""
    weights = np.zeros(x.shape[1])
    ridge = np.where(np.arange(x.shape[1]) < len(FEATURES), RIDGE, STRUCTURE_RIDGE)
    for _ in range(STEPS if len(y) else 0):
        p = _sigmoid(x @ weights)
        slope = x.T @ (y - p) - ridge * weights
        bend = (x * (p * (1 - p) + 1e-6)[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(bend, slope)
        weights = weights + step / max(1.0, float(np.abs(step).max()))
    return weights


def _sigmoid(x: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
    return result
