"""The projector of this project."""

from __future__ import annotations

import numpy as np

from benchmarks.drr.engines import Shot
from training.drr import Geometry, line_integrals, project_labels
from training.images.types import CT, LabelMap


class Ours:
    """training.drr: voxels stay int16, label maps are kept as runs from their first view on."""

    name = "ours"
    version = "training.drr"

    def prepare(self, ct: CT) -> None:
        """Keep the volume as it is."""
        self.ct = ct

    def project(self, geometry: Geometry) -> Shot:
        """Line integrals of the volume."""
        return Shot(line_integrals(self.ct.hu, self.ct, geometry))

    def label(self, labels: LabelMap) -> None:
        """Keep the label map."""
        self.labels = labels

    def masks(self, geometry: Geometry) -> Shot:
        """All structures in one pass."""
        return Shot(np.stack(list(project_labels(self.labels, geometry, self.labels.structures).values())))

    def need(self, geometry: Geometry, masks: bool) -> int:
        """Not foreseen: it is small."""
        return 0
