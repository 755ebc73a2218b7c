"""Digitally reconstructed radiographs: tube geometry, line integrals, label projection and film-like rendering."""

from training.drr.geometry import Geometry
from training.drr.integrals import line_integrals
from training.drr.labels import label_thickness, project_labels
from training.drr.render import Physics, render

__all__ = ["Geometry", "Physics", "label_thickness", "line_integrals", "project_labels", "render"]
