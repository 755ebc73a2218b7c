"""From a CT and a pose to a radiograph that looks like film: monochromatic attenuation, then presentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.drr.geometry import Geometry
from training.drr.integrals import ramp_integrals
from training.errors import ChexanatomyError
from training.images.types import CT, Radiograph

WATER_ATTENUATION = 0.02059
"""Linear attenuation of water at 60 keV [1/mm]; NIST XCOM mass attenuation 0.2059 cm2/g."""
AIR_HU = -1000.0
METAL_HU = 3071.0
"""Top of the 12-bit CT scale; brighter voxels are metal artefacts [HU]."""
BODY_ATTENUATION = 0.15
"""Rays weaker than this pass the patient by (about 7 mm of water)."""
EDGE_OF_BODY = 0.25
"""Rays weaker than this share of the median through the body graze it; how many there are depends on the pixel size."""


@dataclass(frozen=True)
class Physics:
    """How attenuation becomes a picture.

    attenuation: of water [1/mm]; equalisation: share of large-scale brightness taken out, as digital systems do so that lung
    and mediastinum show in one picture (0..1); reach: scale of what counts as large [mm at the detector]; darkest, brightest:
    percentiles of the rays through the body's bulk that become 0 and 1; contrast: slope of the film's S-curve in its middle (1 is
    straight).
    """

    attenuation: float = WATER_ATTENUATION
    equalisation: float = 0.35
    reach: float = 45.0
    darkest: float = 0.5
    brightest: float = 99.8
    contrast: float = 1.4

    def __post_init__(self) -> None:
        if not (self.attenuation > 0 and 0 <= self.equalisation < 1 and self.reach > 0 and self.contrast >= 1):
            raise ChexanatomyError(
                "Physics needs attenuation and reach above 0, equalisation in 0..1 and contrast of at least 1."
            )
        if not 0 <= self.darkest < self.brightest <= 100:
            raise ChexanatomyError("The percentiles darkest and brightest must rise and lie between 0 and 100.")


def attenuation_image(ct: CT, geometry: Geometry, physics: Physics | None = None) -> np.ndarray:
    """Return float32 [row, column]: the attenuation -ln(I/I0) of every ray, no unit. Raises as line_integrals."""
    physics = physics or Physics()
    water_paths = ramp_integrals(ct.hu, ct, geometry, ((AIR_HU, METAL_HU, AIR_HU),))[0]
    return water_paths * np.float32(physics.attenuation / -AIR_HU)


def present(attenuation: np.ndarray, pitch: float, physics: Physics | None = None) -> np.ndarray:
    """Return float32 [row, column] in 0..1, bone bright, from attenuation [row, column] at a pixel pitch [mm]."""
    physics = physics or Physics()
    body = attenuation > BODY_ATTENUATION
    if not body.any():
        return np.zeros_like(attenuation, dtype=np.float32)
    picture = attenuation
    if physics.equalisation:
        picture = attenuation - np.float32(physics.equalisation) * _smooth(attenuation, physics.reach / pitch)
    thick = attenuation > EDGE_OF_BODY * np.median(attenuation[body])
    low, high = np.percentile(picture[thick], (physics.darkest, physics.brightest))
    grey = np.clip((picture - low) / max(float(high - low), 1e-6), 0, 1)
    curve = grey**physics.contrast / (grey**physics.contrast + (1 - grey) ** physics.contrast)
    return np.where(body, curve, curve * np.clip(attenuation / BODY_ATTENUATION, 0, 1)).astype(np.float32)


def render(ct: CT, geometry: Geometry, physics: Physics | None = None) -> Radiograph:
    """Return the radiograph of a CT from a pose. Raises ImpossibleGeometry when none can be taken."""
    attenuation = attenuation_image(ct, geometry, physics)
    view = geometry.view_name
    return Radiograph(
        present(attenuation, geometry.spacing[0], physics),
        spacing=geometry.spacing,
        view="" if view == "OBLIQUE" else view,
        name=f"{ct.name} {view}",
    )


def _smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of a wide sigma [pixels], worked out on a coarser grid."""
    from scipy import ndimage

    stride = int(sigma // 8) * 2 + 1
    coarse = ndimage.uniform_filter(image, stride, mode="nearest")[::stride, ::stride] if stride > 1 else image
    blurred = ndimage.gaussian_filter(coarse, sigma / stride, mode="nearest")
    if stride == 1:
        return blurred
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    return ndimage.map_coordinates(
        blurred, np.broadcast_arrays(rows / stride, columns / stride), order=1, mode="nearest", output=np.float32
    )
