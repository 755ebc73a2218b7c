"""What CT numbers mean to X-rays: attenuation of materials, and tissue as soft tissue with more or less bone in it.

A CT number says how much a voxel attenuates at the scanner's own energy. For a radiograph at other energies it has to be split
into materials that behave differently: up to BONE_STARTS a voxel is soft tissue of more or less density (lung, fat, muscle),
above it a mixture of that densest soft tissue and cortical bone, as in Schneider et al. 2000 (doi:10.1088/0031-9155/45/2/314).
At CT_ENERGY the split gives back exactly what the scanner measured.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np

ENERGIES = np.arange(10.5, 150.0, 1.0)
"""Middles of the energy bins, 1 keV wide [keV]."""
CT_ENERGY = 70.0
"""CT numbers at 120 kVp are about those of a beam of this one energy (Rassouli et al. 2017, Abdominal Radiology 42) [keV]."""
AIR_HU = -1000.0
BONE_STARTS = 100.0
"""Above this, tissue holds bone (Schneider et al. 2000) [HU]."""
METAL_HU = 3071.0
"""Top of the 12-bit CT scale; brighter voxels are metal artefacts [HU]."""
TISSUE_RAMPS = ((AIR_HU, BONE_STARTS, AIR_HU), (BONE_STARTS, METAL_HU, BONE_STARTS))
"""(low, high, zero) of the soft-tissue and the bone part of a CT number [HU]; see ramp_integrals."""
CORTICAL_BONE_DENSITY = 1.92
"""ICRU Report 44 [g/cm3]."""

COMPOSITIONS: dict[str, dict[str, float]] = {
    "water": {"H": 0.111894, "O": 0.888106},
    "soft_tissue": {
        "H": 0.102, "C": 0.143, "N": 0.034, "O": 0.708, "Na": 0.002, "P": 0.003, "S": 0.003, "Cl": 0.002, "K": 0.003,
    },
    "cortical_bone": {
        "H": 0.034, "C": 0.155, "N": 0.042, "O": 0.435, "Na": 0.001, "Mg": 0.002, "P": 0.103, "S": 0.003, "Ca": 0.225,
    },
    "aluminium": {"Al": 1.0},
    "copper": {"Cu": 1.0},
    "CsI": {"Cs": 0.511549, "I": 0.488451},
    "Gd2O2S": {"Gd": 0.830771, "O": 0.084528, "S": 0.084701},
}  # fmt: skip
"""Mass fractions by element: tissues of ICRU Report 44 (as in NIST's tables of X-ray mass attenuation), the rest by formula."""


@lru_cache(maxsize=1)
def _table() -> dict[str, np.ndarray]:
    """Columns of attenuation.csv [cm2/g] at ENERGIES."""
    text = files("training.drr").joinpath("attenuation.csv").read_text(encoding="utf-8").splitlines()
    values = np.loadtxt(text[1:], delimiter=",")
    return dict(zip(text[0].split(","), values.T, strict=True))


def mass_attenuation(material: str, energies: float | np.ndarray = ENERGIES) -> np.ndarray:
    """Return the mass attenuation coefficient [cm2/g] of a key of COMPOSITIONS, or "air_energy_absorption", at energies [keV].

    From xraydb 4.5 (Elam et al. 2002, doi:10.1016/S0969-806X(01)00227-4), coherent scatter included; tabulated by
    tools/make_physics_tables.py and interpolated along straight lines between logarithms.
    """
    return np.exp(np.interp(np.log(energies), np.log(ENERGIES), np.log(_table()[material])))


def attenuation_per_hu(energies: float | np.ndarray = ENERGIES) -> np.ndarray:
    """Return float64 [2, energy]: how much one HU of the soft-tissue and of the bone ramp attenuates at energies [1/(mm HU)]."""
    per_hu = float(mass_attenuation("water", CT_ENERGY)) / 10 / -AIR_HU
    soft = per_hu * mass_attenuation("soft_tissue", energies) / mass_attenuation("soft_tissue", CT_ENERGY)
    densest = soft * (BONE_STARTS - AIR_HU)
    bone = CORTICAL_BONE_DENSITY * mass_attenuation("cortical_bone", energies) / 10
    return np.stack([soft, (bone - densest) / (cortical_bone_hu() - BONE_STARTS)])


def cortical_bone_hu() -> float:
    """CT number of ICRU-44 cortical bone at CT_ENERGY [HU]."""
    bone = CORTICAL_BONE_DENSITY * float(mass_attenuation("cortical_bone", CT_ENERGY))
    return -AIR_HU * (bone / float(mass_attenuation("water", CT_ENERGY)) - 1)
