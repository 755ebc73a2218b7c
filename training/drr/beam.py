"""A beam and a detector as one thing: what is left of the signal behind soft tissue and bone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from training.drr.materials import ENERGIES, attenuation_per_hu, mass_attenuation
from training.drr.physics import DETECTORS, Physics
from training.drr.spectrum import tube_spectrum

TABLE_STEPS = (4e3, 2e3)
"""Between the soft-tissue and the bone paths of the response table [HU mm]."""
TABLE_SIZE = (301, 201)
"""Up to 1.2 m of water and 0.4 m of tissue with 1000 HU more; beyond, the last step goes on straight."""


@dataclass(frozen=True, eq=False)
class Beam:
    """Energies that arrive and what the detector makes of them.

    energies: [keV]; fluence: photons of each energy per mAs at 1 m [1/mm2]; absorbed: energy that one photon leaves in the
    detector on average [keV]; coefficients: float64 [2, energy], see attenuation_per_hu [1/(mm HU)]; hardens: False if it is
    reckoned by its coefficients alone.
    """

    energies: np.ndarray
    fluence: np.ndarray
    absorbed: np.ndarray
    coefficients: np.ndarray
    hardens: bool

    @property
    def open_signal(self) -> float:
        """Energy absorbed without a patient [keV/mm2], by the fluence's unit."""
        return float(np.sum(self.fluence * self.absorbed))

    def behind(self, soft: float, bone: float) -> np.ndarray:
        """Fluence of each energy behind paths [HU mm]."""
        return self.fluence * np.exp(-self.coefficients[0] * soft - self.coefficients[1] * bone)

    def respond(self, paths: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
        """Return -ln(signal / open signal), float32 [row, column], and the mean energy of an absorbed photon [keV].

        paths: float32 [2, row, column] through the soft-tissue and the bone ramp [HU mm]; the mean energy, too, is
        float32 [row, column] where the beam hardens.
        """
        if not self.hardens:
            soft, bone = self.coefficients[:, 0].astype(np.float32)
            return paths[0] * soft + paths[1] * bone, float(self.energies[0])
        from training.drr.pointwise import look_up

        answer = np.empty_like(paths)
        look_up(_table(self), np.float32(TABLE_STEPS[0]), np.float32(TABLE_STEPS[1]), paths[0], paths[1], answer)
        return answer[0], answer[1]


def beam_of(physics: Physics) -> Beam:
    """The beam of physics; those that differ in nothing that shapes it share one."""
    return _beam(replace(physics, exposure_index=None, scatter=False, grid=False, blur=False, seed=0))


@lru_cache(maxsize=32)
def _beam(physics: Physics) -> Beam:
    detector = DETECTORS[physics.detector]
    fluence = tube_spectrum(physics.kvp, physics.aluminium, physics.copper)
    if physics.energy is None and physics.hardening:
        return Beam(
            ENERGIES, fluence, _absorbed(ENERGIES, detector.material, detector.coverage), attenuation_per_hu(), hardens=True
        )
    signal = fluence * _absorbed(ENERGIES, detector.material, detector.coverage)
    energy = np.array([np.sum(signal * ENERGIES) / np.sum(signal) if physics.energy is None else physics.energy])
    line = np.array([fluence.sum()])
    return Beam(energy, line, _absorbed(energy, detector.material, detector.coverage), attenuation_per_hu(energy), hardens=False)


def _absorbed(energies: np.ndarray, material: str, coverage: float) -> np.ndarray:
    """Mean energy that a photon leaves [keV]: all of it where it interacts; the escape of fluorescence is not reckoned with."""
    if not material:
        return energies
    return energies * -np.expm1(-mass_attenuation(material, energies) * coverage)


@lru_cache(maxsize=8)
def _table(beam: Beam) -> np.ndarray:
    """Return float32 [2, soft, bone]: -ln(signal / open signal), and the mean energy of an absorbed photon [keV]."""
    soft, bone = (
        np.exp(-np.outer(np.arange(n) * step, c)) for n, step, c in zip(TABLE_SIZE, TABLE_STEPS, beam.coefficients, strict=True)
    )
    signal = soft * (beam.fluence * beam.absorbed) @ bone.T
    squares = soft * (beam.fluence * beam.absorbed * beam.energies) @ bone.T
    return np.stack([-np.log(signal / beam.open_signal), squares / signal]).astype(np.float32)
