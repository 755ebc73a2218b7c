"""Digitally reconstructed radiographs: tube geometry, line integrals, label projection, exposure and presentation."""

from training.drr.exposure import Exposure, expose, tissue_paths
from training.drr.geometry import Geometry
from training.drr.integrals import line_integrals
from training.drr.labels import label_thickness, project_labels
from training.drr.physics import PHYSICS, Physics
from training.drr.presentation import PRESENTATIONS, Presentation, present
from training.drr.render import attenuation_image, render

__all__ = [
    "PHYSICS",
    "PRESENTATIONS",
    "Exposure",
    "Geometry",
    "Physics",
    "Presentation",
    "attenuation_image",
    "expose",
    "label_thickness",
    "line_integrals",
    "present",
    "project_labels",
    "render",
    "tissue_paths",
]
