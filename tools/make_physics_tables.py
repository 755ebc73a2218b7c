"""Make the two tables the renderer reads: attenuation of materials (xraydb) and spectra of a tungsten tube (spekpy).

    python tools/make_physics_tables.py

Takes about two minutes. xraydb (public domain data of Elam et al. 2002, doi:10.1016/S0969-806X(01)00227-4) and spekpy (MIT;
Poludniowski et al. 2021, doi:10.1002/mp.14945) are slow to import and to evaluate, so what they say is kept beside the code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import spekpy
import xraydb

from training.drr.materials import COMPOSITIONS, ENERGIES
from training.drr.spectrum import KILOVOLTS, TARGET_ANGLE

FOLDER = Path(__file__).parents[1] / "training" / "drr"


def main() -> None:
    """Write training/drr/attenuation.csv and training/drr/spectra.npz."""
    names = [*COMPOSITIONS, "air_energy_absorption"]
    columns = [
        ENERGIES,
        *(mass_attenuation(COMPOSITIONS[name], ENERGIES) for name in COMPOSITIONS),
        air_energy_absorption(ENERGIES),
    ]
    lines = [",".join(["energy_keV", *names])]
    lines += [",".join([f"{row[0]:.1f}", *(f"{v:.5g}" for v in row[1:])]) for row in np.stack(columns, axis=1)]
    (FOLDER / "attenuation.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    fluence = np.stack([bare_spectrum(float(kilovolt)) for kilovolt in KILOVOLTS])
    np.savez_compressed(FOLDER / "spectra.npz", fluence=fluence.astype(np.float32))


def mass_attenuation(composition: dict[str, float], energies: np.ndarray) -> np.ndarray:
    """Total mass attenuation coefficient [cm2/g] of mass fractions by element at energies [keV], coherent scatter included."""
    return sum(share * xraydb.mu_elam(element, energies * 1e3) for element, share in composition.items())


def air_energy_absorption(energies: np.ndarray) -> np.ndarray:
    """Mass energy-absorption coefficient of air [cm2/g] at energies [keV], the one spekpy's air kerma uses (NIST)."""
    return spekpy.Spek(kvp=100).muen_air_data.get_muen_over_rho_air(energies)


def bare_spectrum(kilovolt: float) -> np.ndarray:
    """Photons [1/(mm2 keV mAs)] at ENERGIES, 1 m from a tungsten target, no filter."""
    tube = spekpy.Spek(kvp=kilovolt, th=TARGET_ANGLE, dk=1.0, targ="W", z=100.0, mas=1.0)
    energies, fluence = tube.get_spectrum(edges=False)
    return np.interp(ENERGIES, energies, fluence / 100, left=0.0, right=0.0)


if __name__ == "__main__":
    main()
