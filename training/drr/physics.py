"""The settings of an exposure: tube, detector, dose, and which effects are reckoned with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from training.errors import ChexanatomyError

DetectorName = Literal["CsI", "Gd2O2S", "ideal"]


@dataclass(frozen=True)
class Detector:
    """A flat panel.

    material: a key of COMPOSITIONS, "" absorbs everything; coverage: [g/cm2]; half: where the MTF is 50 % [1/mm], 0 is sharp.
    """

    material: str
    coverage: float
    half: float


DETECTORS: dict[str, Detector] = {
    "CsI": Detector("CsI", 0.6 * 4.51 * 0.8 / 10, 1.29),
    "Gd2O2S": Detector("Gd2O2S", 0.068, 1.1),
    "ideal": Detector("", 0.0, 0.0),
}
"""CsI: 0.6 mm of columns, taken to fill 80 %; Gd2O2S: a Lanex Regular screen, about 68 mg/cm2 (both panels: Samei 2003,
doi:10.1118/1.1578772, who found the second one's MTF 0.07 lower up to 2/mm); MTF of CsI: mean of six panels (Marshall et al.
2011, doi:10.1088/0031-9155/56/4/007)."""


def _within(name: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:
        raise ChexanatomyError(f"{name} lies between {low:g} and {high:g} {unit}; got {value:g}.")


@dataclass(frozen=True)
class Physics:
    """How a body becomes a signal in the detector. Each stage has an off position, and off is the identity.

    kvp: tube voltage, 40..150 [kV]; aluminium, copper: all filters together, 0.5..30 and 0..2 [mm]; energy: a beam of one
    energy, 15..149 [keV], in place of the tube's spectrum (None); hardening: off, the beam keeps the mean energy of what the
    detector would absorb of it, whatever it passes; detector: a key of DETECTORS; exposure_index: dose at the detector behind
    the patient as IEC 62494-1 counts it, 100 for 1 uGy, 10..100000, 250 is usual (speed class 400), None is no noise; scatter:
    radiation scattered in the patient; grid: an anti-scatter grid 12:1 before the detector, which matters with scatter only;
    blur: the detector's MTF; seed: of the noise.
    """

    kvp: float = 125.0
    aluminium: float = 3.0
    copper: float = 0.0
    energy: float | None = None
    hardening: bool = True
    detector: DetectorName = "CsI"
    exposure_index: float | None = 250.0
    scatter: bool = True
    grid: bool = True
    blur: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        _within("The tube voltage", self.kvp, 40, 150, "kV")
        _within("The aluminium filter", self.aluminium, 0.5, 30, "mm")
        _within("The copper filter", self.copper, 0, 2, "mm")
        if self.energy is not None:
            _within("The energy of the beam", self.energy, 15, 149, "keV")
        if self.exposure_index is not None:
            _within("The exposure index", self.exposure_index, 10, 100_000, "(100 is 1 uGy)")
        if self.detector not in DETECTORS:
            raise ChexanatomyError(f"There is no detector {self.detector}; choose {', '.join(DETECTORS)}.")
        if self.seed < 0:
            raise ChexanatomyError(f"The seed of the noise is a whole number from 0 on; got {self.seed}.")


PHYSICS: Mapping[str, Physics] = {
    "stand": Physics(),
    "bedside": Physics(kvp=90.0, exposure_index=320.0, grid=False),
    "ideal": Physics(energy=60.0, detector="ideal", exposure_index=None, scatter=False, blur=False),
}
"""Chest stand (European guidelines EUR 16260: 125 kV, grid), mobile unit at the bed, and attenuation alone at one energy."""
