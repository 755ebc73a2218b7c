"""From a CT and a pose to a radiograph: paths through tissue, exposure, presentation."""

from __future__ import annotations

import numpy as np

from training.drr.exposure import expose, tissue_paths
from training.drr.geometry import Geometry
from training.drr.physics import Physics
from training.drr.presentation import Presentation, present
from training.images.types import CT, Radiograph


def attenuation_image(ct: CT, geometry: Geometry, physics: Physics | None = None) -> np.ndarray:
    """Return float32 [row, column]: the attenuation -ln(I/I0) the detector reports, no unit. Raises as line_integrals."""
    return expose(tissue_paths(ct, geometry), geometry, physics).attenuation


def render(ct: CT, geometry: Geometry, physics: Physics | None = None, presentation: Presentation | None = None) -> Radiograph:
    """Return the radiograph of a CT from a pose. Raises ImpossibleGeometry when none can be taken."""
    attenuation = attenuation_image(ct, geometry, physics)
    view = geometry.view_name
    return Radiograph(
        present(attenuation, geometry.spacing, presentation),
        spacing=geometry.spacing,
        view="" if view == "OBLIQUE" else view,
        name=f"{ct.name} {view}",
        reconstructed=True,
    )
