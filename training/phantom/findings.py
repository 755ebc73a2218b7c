"""What illness and treatment leave in a chest: effusions, opacities, nodules, devices, resected structures; drawn by odds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Side = Literal["left", "right"]
RESECTIONS: Mapping[str, tuple[str, ...]] = {
    "upper lobectomy left": ("lung_upper_lobe_left",),
    "lower lobectomy left": ("lung_lower_lobe_left",),
    "upper lobectomy right": ("lung_upper_lobe_right",),
    "middle lobectomy right": ("lung_middle_lobe_right",),
    "lower lobectomy right": ("lung_lower_lobe_right",),
    "pneumonectomy left": ("lung_upper_lobe_left", "lung_lower_lobe_left"),
    "pneumonectomy right": ("lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right"),
    "splenectomy": ("spleen",),
    "rib resection left": ("rib_left_5",),
    "rib resection right": ("rib_right_6",),
    "no twelfth ribs": ("rib_left_12", "rib_right_12"),
    "cleidectomy left": ("clavicula_left",),
    "cleidectomy right": ("clavicula_right",),
}
"""Operations, and the absence of the last ribs from birth, with the structures that are missing after them."""


@dataclass(frozen=True)
class Findings:
    """What one person has; nothing by default.

    effusion: share of each half of the chest's height that is filled with fluid (right, left) (0..1); opacities, nodules: how
    many; missing: structures that are not there; pacemaker, central_line, chest_tube: side they come from; wires: loops around
    the sternum; electrodes: on the skin; clips: of metal, near the mediastinum.
    """

    effusion: tuple[float, float] = (0.0, 0.0)
    opacities: int = 0
    nodules: int = 0
    missing: tuple[str, ...] = ()
    pacemaker: Side | None = None
    central_line: Side | None = None
    chest_tube: Side | None = None
    tracheal_tube: bool = False
    gastric_tube: bool = False
    wires: int = 0
    electrodes: int = 0
    clips: int = 0


@dataclass(frozen=True)
class Odds:
    """Probability of each finding in a person (0 switches it off). The defaults are distractors for training, no prevalences."""

    effusion: float = 0.14
    opacity: float = 0.22
    nodule: float = 0.12
    resection: float = 0.12
    pacemaker: float = 0.07
    central_line: float = 0.1
    chest_tube: float = 0.04
    tracheal_tube: float = 0.06
    gastric_tube: float = 0.07
    wires: float = 0.06
    electrodes: float = 0.16
    clips: float = 0.06


NONE = Odds(*(0.0,) * 12)
"""Healthy people without anything on them."""


@dataclass(frozen=True)
class _Dice:
    rng: np.random.Generator
    odds: Odds = field(default_factory=Odds)

    def falls(self, name: str) -> bool:
        return bool(self.rng.random() < getattr(self.odds, name))

    def side(self, name: str, left: float = 0.5) -> Side | None:
        """A side, left with a probability, or None."""
        falls, on_left = self.falls(name), self.rng.random() < left
        return None if not falls else "left" if on_left else "right"


def draw_findings(rng: np.random.Generator, odds: Odds | None = None) -> Findings:
    """Return what a person has. The generator moves on by the same amount whatever the odds, one of them thus changes alone."""
    dice = _Dice(rng, odds or Odds())
    effusion = rng.uniform(0.06, 0.55, 2) * (rng.random(2) < (0.75, 0.6)) * dice.falls("effusion")
    operation = list(RESECTIONS)[int(rng.integers(len(RESECTIONS)))]
    return Findings(
        effusion=(float(effusion[0]), float(effusion[1])),
        opacities=int(rng.integers(1, 4)) * dice.falls("opacity"),
        nodules=int(rng.integers(1, 4)) * dice.falls("nodule"),
        missing=RESECTIONS[operation] if dice.falls("resection") else (),
        pacemaker=dice.side("pacemaker", 0.8),
        central_line=dice.side("central_line", 0.25),
        chest_tube=dice.side("chest_tube"),
        tracheal_tube=dice.falls("tracheal_tube"),
        gastric_tube=dice.falls("gastric_tube"),
        wires=int(rng.integers(4, 8)) * dice.falls("wires"),
        electrodes=int(rng.integers(3, 6)) * dice.falls("electrodes"),
        clips=int(rng.integers(3, 10)) * dice.falls("clips"),
    )
