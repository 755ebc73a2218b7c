"""One shot: what the detector says behind the patient, with scatter, quantum noise and blur."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from training.drr.beam import Beam, beam_of
from training.drr.geometry import Geometry
from training.drr.integrals import ramp_integrals
from training.drr.materials import TISSUE_RAMPS
from training.drr.physics import DETECTORS, Physics
from training.drr.smoothing import gaussian_blur
from training.drr.spectrum import TABLE_DISTANCE, air_kerma
from training.images.types import CT

BODY_ATTENUATION = 0.15
"""Rays weaker than this pass the patient by (about 7 mm of water)."""
SCATTER_YIELD = 1.0
"""Scattered signal in the plane of the detector, per signal that the patient takes from the primary beam to first order [1];
chosen so that without a grid 90 % of the signal in the mediastinum is scatter (Niklason et al. 1981, doi:10.1118/1.595027)."""
SCATTER_SPREAD = 60.0
"""Standard deviation of the scattered radiation around its ray [mm at the detector]."""
GRID_PRIMARY = 0.7
GRID_SCATTER = 0.11
"""What a 12:1 grid is taken to let through; less than half of the contrast is left in the mediastinum (Niklason 1981)."""
SAMPLES = 128
"""Rows and columns that the exposure control looks at."""
FEWEST_QUANTA = 0.5
"""Less than this in a pixel counts as this, so that the logarithm exists."""


@dataclass(frozen=True, eq=False)
class Exposure:
    """One shot.

    attenuation: float32 [row, column], -ln(I/I0) of the signal, I0 without patient [1]; exposure_index: see Physics; mas: what an
    automatic exposure control would ask of the tube for it [mAs]; dap: dose-area product of the field [mGy cm2]. The last three
    are None without noise, the last two for a beam of one energy.
    """

    attenuation: np.ndarray
    exposure_index: float | None
    mas: float | None
    dap: float | None


def tissue_paths(ct: CT, geometry: Geometry) -> np.ndarray:
    """Return float32 [2, row, column]: every ray's path through soft tissue and through bone in HU of TISSUE_RAMPS [HU mm].

    Raises ImpossibleGeometry as line_integrals.
    """
    return ramp_integrals(ct.hu, ct, geometry, TISSUE_RAMPS)


def expose(paths: np.ndarray, geometry: Geometry, physics: Physics | None = None) -> Exposure:
    """Take the shot through paths, as tissue_paths gives them: primary beam, scatter, noise, blur, each if it is switched on."""
    physics = physics or Physics()
    beam = beam_of(physics)
    attenuation, quantum = beam.respond(paths)
    if not (physics.scatter or physics.exposure_index or physics.blur):
        return Exposure(attenuation, None, None, None)
    primary = np.exp(-attenuation)
    signal = primary + scattered(primary, attenuation, geometry, physics) if physics.scatter else primary
    fluence = None
    if physics.exposure_index is not None:
        fluence = _aimed_fluence(beam, paths, attenuation, primary, signal, physics)
        signal = _with_noise(signal, quantum, fluence * beam.open_signal, geometry, physics)
    signal = _blurred(signal, geometry, DETECTORS[physics.detector].half) if physics.blur else signal
    mas, dap = _tube_load(beam, fluence, geometry, physics)
    return Exposure(-np.log(signal), physics.exposure_index, mas, dap)


def scattered(primary: np.ndarray, attenuation: np.ndarray, geometry: Geometry, physics: Physics) -> np.ndarray:
    """Scattered signal, float32 [row, column], in the unit of the primary behind the same grid.

    Single scatter to first order, primary x attenuation (Ohnesorge et al. 1999, doi:10.1007/s003300050710), spread by a Gaussian.
    """
    share = SCATTER_YIELD * (GRID_SCATTER / GRID_PRIMARY if physics.grid else 1.0)
    sigma = (SCATTER_SPREAD / geometry.spacing[0], SCATTER_SPREAD / geometry.spacing[1])
    return gaussian_blur(primary * attenuation, sigma, dark_outside=True) * np.float32(share)


def _aimed_fluence(
    beam: Beam, paths: np.ndarray, attenuation: np.ndarray, primary: np.ndarray, signal: np.ndarray, physics: Physics
) -> float:
    """Factor on the beam's fluence with which the median of the body gets the dose that the exposure index stands for."""
    few = (slice(None, None, 1 + len(signal) // SAMPLES), slice(None, None, 1 + signal.shape[1] // SAMPLES))
    body = attenuation[few] > BODY_ATTENUATION
    soft, bone, wanted = 0.0, 0.0, 1.0
    if body.any():
        soft, bone = (float(np.median(path[few][body])) for path in paths)
        wanted = float(np.median(signal[few][body]) / np.median(primary[few][body]))
    assert physics.exposure_index is not None
    return physics.exposure_index / 100 / (air_kerma(beam.behind(soft, bone), beam.energies) * wanted)


def _with_noise(
    signal: np.ndarray, quantum: np.ndarray | float, open_signal: float, geometry: Geometry, physics: Physics
) -> np.ndarray:
    """Signal with the noise of a finite number of quanta; quantum: their mean energy [keV]; open_signal: [keV/mm2]."""
    one = np.float32(1 / (open_signal * geometry.spacing[0] * geometry.spacing[1])) * quantum
    noise = np.random.default_rng(physics.seed).standard_normal(signal.shape, np.float32)
    return np.maximum(signal + np.sqrt(signal * one) * noise, np.float32(FEWEST_QUANTA) * one)


def _blurred(signal: np.ndarray, geometry: Geometry, half: float) -> np.ndarray:
    """Under the detector's MTF, a Gaussian of 50 % at half [1/mm]."""
    if not half:
        return signal
    sigma = math.sqrt(math.log(2) / 2) / (math.pi * half)
    return gaussian_blur(signal, (sigma / geometry.spacing[0], sigma / geometry.spacing[1]))


def _tube_load(beam: Beam, fluence: float | None, geometry: Geometry, physics: Physics) -> tuple[float | None, float | None]:
    """mAs and dose-area product [mGy cm2] of a shot with a factor on the beam's fluence at the detector."""
    if fluence is None or physics.energy is not None:
        return None, None
    before_grid = fluence / (GRID_PRIMARY if physics.scatter and physics.grid else 1.0)
    area = geometry.rows * geometry.spacing[0] * geometry.columns * geometry.spacing[1] / 100
    return before_grid * (geometry.sdd / TABLE_DISTANCE) ** 2, air_kerma(beam.fluence * before_grid, beam.energies) / 1000 * area
