"""CT, label map and radiograph files in and out."""

from training.images.types import CT, LabelMap, Radiograph

__all__ = ["CT", "LabelMap", "Radiograph"]
