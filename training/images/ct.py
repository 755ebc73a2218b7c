"""A CT from a DICOM folder or a volume file, axis-aligned in LPS."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.errors import UnreadableFile
from training.images.grid import Stored, is_aligned, reordered, resampled, upright_grid
from training.images.hounsfield import AIR, Hounsfield
from training.images.paths import check_volume_size, existing, kind, stem
from training.images.types import CT
from training.images.volume_file import read_stored

FEWEST_VOXELS = 5
"""A volume with fewer voxels along an axis shows no body."""

_WANTED = "give a CT as a DICOM folder, NIfTI (.nii, .nii.gz), NRRD or MHA/MHD file"


def read_ct(path: str | os.PathLike[str], series: str | None = None) -> CT:
    """Read a CT: a DICOM folder (or multi-frame file), NIfTI, NRRD or MHA/MHD. The result is axis-aligned LPS, int16 [HU].

    series: UID or description of the series to take; without it the CT with the most slices, thinner slices first, is taken.
    Oblique volumes and tilted gantries are resampled, everything else keeps its voxels; what was changed stands in `notes`.
    Raises UnreadableFile with one sentence when the input is no whole, evenly spaced chest CT.
    """
    source = existing(path)
    if kind(source) in ("folder", "dicom"):
        from training.images.dicom_ct import read_dicom_ct

        stored, values, name = read_dicom_ct(source, series)
        return replace(_finished(source, stored, stored.array, values), name=name)
    if series is not None:
        raise UnreadableFile(f"{source.name} is no DICOM data and holds no series: leave the series out.")
    return ct_from_stored(source, read_stored(source, _WANTED))


def ct_from_stored(path: Path, stored: Stored) -> CT:
    """Make a CT of what a volume file holds; raises UnreadableFile where that is none."""
    if min(stored.array.shape) < FEWEST_VOXELS:
        size = " x ".join(str(n) for n in stored.array.shape[::-1])
        raise UnreadableFile(f"{path.name} is {size} voxels; a CT volume has at least {FEWEST_VOXELS} along every axis.")
    values = Hounsfield()
    hu = np.empty(stored.array.shape, np.int16)
    for k, slab in enumerate(stored.array):
        hu[k] = values.convert(slab, stored.slope, stored.intercept)
    return _finished(path, stored, hu, values)


def _finished(path: Path, stored: Stored, hu: np.ndarray, values: Hounsfield) -> CT:
    values.check(path.name)
    notes = (*stored.notes, *values.notes)
    upright = Stored(hu, stored.patient_from_index)
    if is_aligned(upright):
        view, grid = reordered(upright)
        return CT(np.ascontiguousarray(view), grid.spacing, grid.origin, stem(path), notes)
    grid = upright_grid(upright)
    check_volume_size(path, grid.shape, 8)
    linear = resampled(upright, grid, AIR, nearest=False)
    note = "The volume lies oblique in the patient's frame and was resampled to its axes."
    return CT(np.rint(linear, out=linear).astype(np.int16), grid.spacing, grid.origin, stem(path), (*notes, note))
