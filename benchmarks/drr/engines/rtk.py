"""The Reconstruction Toolkit's Joseph projector on the CPU: pip install itk-rtk (openrtk.org)."""

from __future__ import annotations

import os

import itk
import numpy as np
from itk import RTK

from benchmarks.drr.engines import Shot
from training.drr import Geometry
from training.images.types import CT, LabelMap


class Rtk:
    """JosephForwardProjectionImageFilter, bilinear in the slices as ours; wants the volume in float32."""

    name = "RTK"

    def __init__(self) -> None:
        from importlib.metadata import version

        self.version = f"itk-rtk {version('itk-rtk')}"
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count())

    def prepare(self, ct: CT) -> None:
        """Make the float32 copy."""
        self.values = ct.hu.astype(np.float32)
        self.image = itk.image_view_from_array(self.values)
        self.image.SetSpacing(list(ct.spacing))
        self.image.SetOrigin(list(ct.origin))

    def project(self, geometry: Geometry) -> Shot:
        """One projection by a pipeline of its own."""
        kind = type(self.image)
        pose = RTK.ThreeDCircularProjectionGeometry.New()
        vectors = (geometry.source, geometry.detector_centre, *geometry.axes)
        if pose.AddProjection(*([float(n) for n in v] for v in vectors)) is False:
            raise RuntimeError("RTK refused the pose.")
        stack = RTK.ConstantImageSource[kind].New()
        stack.SetSize([geometry.columns, geometry.rows, 1])
        down, along = geometry.spacing
        stack.SetSpacing([along, down, 1.0])
        stack.SetOrigin([-(geometry.columns - 1) / 2 * along, -(geometry.rows - 1) / 2 * down, 0.0])
        stack.SetConstant(0.0)
        joseph = RTK.JosephForwardProjectionImageFilter[kind, kind].New()
        joseph.SetGeometry(pose)
        joseph.SetInput(0, stack.GetOutput())
        joseph.SetInput(1, self.image)
        joseph.Update()
        return Shot(itk.array_from_image(joseph.GetOutput())[0])

    def label(self, labels: LabelMap) -> None:
        """It has no label maps."""
        raise NotImplementedError("RTK projects one structure at a time.")

    def masks(self, geometry: Geometry) -> Shot:
        """It has no label maps."""
        raise NotImplementedError("RTK projects one structure at a time.")

    def need(self, geometry: Geometry, masks: bool) -> int:
        """Not foreseen: it is small."""
        return 0
