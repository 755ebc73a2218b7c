"""One adapter per projector, all with the same interface; a projector is imported when its adapter is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np

from training.drr import Geometry
from training.images.types import CT, LabelMap


@dataclass(frozen=True)
class Shot:
    """What one call gave: float32 [row, column] sums [value mm], or bool [structure, row, column] masks.

    seconds, peak: time [s] and memory above that of the loaded volume [bytes] as the projector itself has them, None where the
    worker's clock and its own memory count.
    """

    picture: np.ndarray
    seconds: float | None = None
    peak: int | None = None


class Engine(Protocol):
    """A projector. Its class is made without arguments and raises ImportError or OSError where the projector is not installed."""

    name: str
    version: str

    def prepare(self, ct: CT) -> int | None:
        """Take a volume: not timed. Returns the bytes held for it where that is in another process."""

    def project(self, geometry: Geometry) -> Shot:
        """Sum of value x path length along every ray."""

    def label(self, labels: LabelMap) -> None:
        """Take a label map, ids 1..n; not timed."""

    def masks(self, geometry: Geometry) -> Shot:
        """One mask per id 1..n of the label map taken last."""

    def need(self, geometry: Geometry, masks: bool) -> int:
        """Bytes a call will take besides the volume, where that can be foreseen; else 0."""


def _adapter(module: str, name: str) -> Callable[[], Engine]:
    return lambda: getattr(import_module(f"benchmarks.drr.engines.{module}"), name)()


ENGINES: dict[str, Callable[[], Engine]] = {
    "ours": _adapter("ours", "Ours"),
    "RTK": _adapter("rtk", "Rtk"),
    "nanodrr": _adapter("nano", "Nano"),
    "plastimatch": _adapter("plasti", "Plastimatch"),
}
WITH_MASKS = ("ours", "nanodrr")
"""Engines that project all structures of a label map in one call. The others need one projection per structure."""
