"""Draw the figures of docs/physics.md that need no real radiographs: `python docs/make_physics_figures.py CT docs/images`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from training.drr import PHYSICS, PRESENTATIONS, Geometry, Physics, expose, present, tissue_paths
from training.drr.beam import beam_of
from training.drr.materials import ENERGIES, attenuation_per_hu
from training.drr.spectrum import tube_spectrum
from training.images import read_ct, without_couch

PIXELS = 800
TILE = 300
CLEAN = replace(Physics(), exposure_index=None, scatter=False, blur=False)
STAGES = {
    "60 keV": (PHYSICS["ideal"], "film"),
    "125 kV spectrum": (CLEAN, "film"),
    "+ scatter, no grid": (replace(CLEAN, scatter=True, grid=False), "film"),
    "+ grid": (replace(CLEAN, scatter=True), "film"),
    "+ noise, index 10": (replace(Physics(), exposure_index=10.0), "film"),
    "stand, raw": (PHYSICS["stand"], "raw"),
    "stand, film": (PHYSICS["stand"], "film"),
    "stand, digital": (PHYSICS["stand"], "digital"),
    "bedside, digital": (PHYSICS["bedside"], "digital"),
    "70 kV, digital": (replace(Physics(), kvp=70.0), "digital"),
}


def main(source: Path, folder: Path) -> None:
    """Draw both figures."""
    ct = without_couch(read_ct(source))
    pose = Geometry.pa(ct, rows=PIXELS, columns=PIXELS, spacing=(380 / PIXELS, 380 / PIXELS))
    paths = tissue_paths(ct, pose)
    tiles = [
        labelled(name, present(expose(paths, pose, p).attenuation, pose.spacing, PRESENTATIONS[look]))
        for name, (p, look) in STAGES.items()
    ]
    Image.fromarray(np.vstack([np.hstack(tiles[:5]), np.hstack(tiles[5:])])).save(folder / "physics_stages.png", optimize=True)
    draw_beam(folder / "physics_beam.png")


def labelled(name: str, picture: np.ndarray) -> np.ndarray:
    """A tile with its name in the corner."""
    tile = Image.fromarray((picture * 255).astype(np.uint8)).resize((TILE, TILE), Image.Resampling.LANCZOS)
    ImageDraw.Draw(tile).text((6, 4), name, fill=255, font_size=15)
    return np.asarray(tile)


def draw_beam(path: Path) -> None:
    """Spectra, what one HU attenuates, and hardening."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    spectra, tissue, hardening = figure.subplots(1, 3)
    for kvp in (70, 90, 125):
        spectra.plot(ENERGIES, tube_spectrum(kvp, 3.0) / 1e6, label=f"{kvp} kV")
        depth = np.linspace(0, 300, 61)
        answer, _ = beam_of(Physics(kvp=kvp)).respond(np.stack([depth * 1000, 0 * depth])[:, None].astype(np.float32))
        hardening.plot(depth[1:], answer[0, 1:] / depth[1:] * 10, label=f"{kvp} kV")
    soft, bone = attenuation_per_hu()
    tissue.semilogy(ENERGIES, soft * 1e5, label="up to 100 HU")
    tissue.semilogy(ENERGIES, bone * 1e5, label="above 100 HU")
    spectra.set(title="behind 3 mm Al, at 1 m", xlabel="keV", ylabel="10$^6$ photons / mm$^2$ keV mAs")
    tissue.set(title="attenuation of 100 HU more", xlabel="keV", ylabel="1/m", xlim=(20, 150), ylim=(1, 30))
    hardening.set(title="mean attenuation, CsI detector", xlabel="mm of water", ylabel="1/cm")
    for axis in (spectra, tissue, hardening):
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
