"""What leaves the X-ray tube: spectra of a tungsten target behind aluminium and copper."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np

from training.drr.materials import ENERGIES, mass_attenuation

KILOVOLTS = np.arange(40, 151)
"""Tabulated tube voltages [kV]."""
TARGET_ANGLE = 12.0
"""Of the tungsten target [degrees]; common for general radiography."""
TABLE_DISTANCE = 1000.0
"""The tabulated fluence is that at this distance from the focal spot [mm]."""
DENSITY = {"aluminium": 2.699, "copper": 8.96}
"""Of filters [g/cm3] (NIST)."""
KERMA_PER_KEV = 1.602176634e-16 * 100 * 1e3 * 1e6
"""Air kerma [uGy] of a fluence [1/mm2] x energy [keV] x mass energy-absorption coefficient [cm2/g]."""


@lru_cache(maxsize=1)
def _table() -> np.ndarray:
    with files("training.drr").joinpath("spectra.npz").open("rb") as file, np.load(file, allow_pickle=False) as table:
        return table["fluence"].astype(np.float64)


def tube_spectrum(kvp: float, aluminium: float, copper: float = 0.0) -> np.ndarray:
    """Return float64 [energy]: photons per keV and mAs at ENERGIES, TABLE_DISTANCE from the focal spot [1/(mm2 keV mAs)].

    kvp: 40..150 [kV]; aluminium, copper: thickness of all filters together [mm]. The unfiltered spectrum is spekpy 2.5's
    (Poludniowski et al. 2021, doi:10.1002/mp.14945), tabulated by tools/make_physics_tables.py and interpolated between whole kV.
    """
    at = float(np.clip(kvp, KILOVOLTS[0], KILOVOLTS[-1])) - KILOVOLTS[0]
    lower = min(int(at), len(KILOVOLTS) - 2)
    bare = (1 - (at - lower)) * _table()[lower] + (at - lower) * _table()[lower + 1]
    return bare * filter_transmission("aluminium", aluminium) * filter_transmission("copper", copper)


def filter_transmission(material: str, thickness: float) -> np.ndarray:
    """Return float64 [energy]: what a filter of a thickness [mm] lets through at ENERGIES."""
    return np.exp(-mass_attenuation(material) * DENSITY[material] * thickness / 10)


def air_kerma(fluence: np.ndarray, energies: np.ndarray = ENERGIES) -> float:
    """Air kerma [uGy] of a fluence [1/mm2] at energies [keV]."""
    return float(np.sum(fluence * energies * mass_attenuation("air_energy_absorption", energies)) * KERMA_PER_KEV)
