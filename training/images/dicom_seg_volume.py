"""A label map from a DICOM Segmentation that lies on the slices of a CT."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import UnreadableFile
from training.images.dicom_headers import dicom_errors, quiet, read_dataset, read_header
from training.images.dicom_seg import described
from training.images.grid import Stored
from training.images.labels import labels_from_stored
from training.images.mask_joining import Mask, join
from training.images.paths import check_volume_size, damaged
from training.images.types import CT, LabelMap

HALF = 0.5
"""A fractional segment holds a voxel from this value on."""


def lies_on_slices(path: Path) -> bool:
    """True for a segmentation whose frames have a place in the patient: one of a radiograph has none."""
    with quiet():
        header = read_header(path, ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
    if header is None:
        return False
    shared, single = (header.get(f"{kind}FunctionalGroupsSequence", None) or [] for kind in ("Shared", "PerFrame"))
    return any("PlanePositionSequence" in group for group in (*shared, *single[:1]))


def read_seg_labels(path: Path, ct: CT | None) -> LabelMap:
    """Read a DICOM SEG (BINARY, FRACTIONAL or LABELMAP) of a CT; voxels in several segments get ids of their own.

    Structures are named by their codes, then by their labels. Raises UnreadableFile, and FrameMismatch when less than half of it
    lies inside the CT.
    """
    import highdicom as hd

    errors: tuple[type[Exception], ...] = (*dicom_errors(), sqlite3.Error)  # highdicom looks frames up in a database
    with quiet():
        try:
            dataset = read_dataset(path)
            check_volume_size(path, (dataset.Rows, dataset.Columns, dataset.get("NumberOfFrames", None) or 1), 1)
            names = described(dataset, path)
            seg = hd.seg.Segmentation.from_dataset(dataset, copy=False)
            if seg.get_volume_geometry() is None:
                raise UnreadableFile(
                    f"The slices of the segmentation in {path.name} are unevenly spaced or turned against each other, which no "
                    "volume can hold; give one that was drawn on an evenly spaced series."
                )
            notes = () if seg.segmentation_type.value != "FRACTIONAL" else ("Its fractional values were cut at one half.",)
            together = _together(seg)
            if together is not None:
                numbered = {number: (name,) for number, name in names.items()}
                labels = labels_from_stored(path, together, ct, numbered)
                return LabelMap(labels.ids, labels.members, labels.spacing, labels.origin, labels.name, (*notes, *labels.notes))
            return join(_apart(seg, names, path, ct), path, ct, notes)
        except errors as error:
            raise damaged(path, "a DICOM segmentation of a CT") from error


def _together(seg: Any) -> Stored | None:
    """All segments as ids [k, j, i]; None where they overlap or are fractional."""
    if seg.segmentation_type.value == "FRACTIONAL":
        return None
    try:
        return _stored(seg.get_volume(combine_segments=True, dtype=np.uint16))
    except RuntimeError:  # highdicom's word for segments that overlap
        return None


def _apart(seg: Any, names: dict[int, str], path: Path, ct: CT | None) -> Iterator[Mask]:
    """One segment after the other."""
    fractional = seg.segmentation_type.value == "FRACTIONAL"
    for number, name in names.items():
        stored = _stored(seg.get_volume(segment_numbers=[number], dtype=np.float32 if fractional else np.uint8))
        voxels = (stored.array[..., 0] >= HALF).astype(np.uint8)
        yield Mask.of(name, path, Stored(voxels, stored.patient_from_index), ct)


def _stored(volume: Any) -> Stored:
    """highdicom counts (slice, row, column), a Stored (column, row, slice)."""
    return Stored(volume.array, volume.affine[:, [2, 1, 0, 3]])
