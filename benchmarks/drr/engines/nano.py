"""nanodrr, ray marching in torch: pip install nanodrr (github.com/eigenvivek/nanodrr)."""

from __future__ import annotations

import os
from importlib.metadata import version

import numpy as np
import torch
from nanodrr.camera import make_k_inv
from nanodrr.data import Subject
from nanodrr.drr import render

from benchmarks.drr.engines import Shot
from training.drr import Geometry
from training.images.types import CT, LabelMap

SAMPLES = 500
"""Samples per ray: nanodrr's own default."""
SAMPLE_BYTES = 16
"""Position and value of a sample, float32."""
LABELLED_BYTES = 28
"""The same with its label as float32 and int64."""


class Nano:
    """render(): trilinear samples at equal steps; per-structure sums where there is a label map."""

    name = "nanodrr"
    version = f"nanodrr {version('nanodrr')}, torch {torch.__version__}"

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1)

    def prepare(self, ct: CT) -> None:
        """Make the float32 copy; its world is our LPS frame."""
        self.values = torch.from_numpy(ct.hu.astype(np.float32))[None, None]
        self.to_world = torch.eye(4)
        self.to_world[:3, :3] = torch.diag(torch.tensor(ct.spacing))
        self.to_world[:3, 3] = torch.tensor(ct.origin)
        self.plain = self._subject(torch.zeros(1, 1, 1, 1, 1), 0)

    def _subject(self, labels: torch.Tensor, most: int) -> Subject:
        size = torch.tensor([float(n) for n in reversed(self.values.shape[2:])])
        to_grid = torch.diag(torch.cat([2 / size, torch.ones(1)]))
        to_grid[:3, 3] = 1 / size - 1
        middle = self.to_world[:3, :3] @ ((size - 1) / 2) + self.to_world[:3, 3]
        frames = (self.to_world, self.to_world.inverse(), to_grid, middle)
        return Subject(self.values, labels, *frames, max_label=most, convert_to_mu=False)

    def _render(self, subject: Subject, geometry: Geometry) -> torch.Tensor:
        right, down = geometry.axes
        pose = torch.eye(4)[None]
        pose[0, :3] = torch.from_numpy(np.stack([right, down, geometry.beam, geometry.source], axis=1))
        size = (geometry.rows, geometry.columns)
        lens = make_k_inv(geometry.sdd, geometry.spacing[1], geometry.spacing[0], 0.0, 0.0, *size, dtype=torch.float32)
        with torch.no_grad():
            return render(subject, lens, pose, torch.tensor([geometry.sdd]), *size, n_samples=SAMPLES)[0]

    def project(self, geometry: Geometry) -> Shot:
        """The sum over the whole volume."""
        return Shot(self._render(self.plain, geometry)[0].numpy())

    def label(self, labels: LabelMap) -> None:
        """Make the float32 copy that nanodrr samples."""
        self.labelled = self._subject(torch.from_numpy(labels.ids.astype(np.float32))[None, None], len(labels.members))

    def masks(self, geometry: Geometry) -> Shot:
        """Structures whose sum of values (all positive here) is not zero; the numbers of the projection come with them."""
        return Shot((self._render(self.labelled, geometry)[1:] > 0).numpy())

    def need(self, geometry: Geometry, masks: bool) -> int:
        """All samples of all rays are held at once."""
        return geometry.rows * geometry.columns * SAMPLES * (LABELLED_BYTES if masks else SAMPLE_BYTES)
