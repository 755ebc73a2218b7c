"""Whatever a path holds, by its content: a CT, a label map, radiographs, or a drawn mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.errors import FrameMismatch, UnreadableFile
from training.images.coco import read_coco
from training.images.ct import ct_from_stored, read_ct
from training.images.dicom_headers import dicom_files, quiet, read_header, word
from training.images.dicom_seg import is_segmentation, read_masks_dicom
from training.images.dicom_seg_volume import lies_on_slices
from training.images.grid import Stored
from training.images.labels import check_sides, labels_from_stored, read_labels
from training.images.mask_folder import is_beside_masks
from training.images.mask_sets import MaskSet
from training.images.paths import existing, is_volume_name, kind, stem
from training.images.radiograph import read_picture, read_radiograph
from training.images.types import CT, LabelMap, Radiograph
from training.images.volume_file import read_stored

MOST_IDS = 1000
"""A volume of whole numbers, none negative, with more different values is an image and no label map."""

MOST_RADIOGRAPHS = 100
"""Radiographs opened from one folder at most."""

Opened = CT | LabelMap | Radiograph | MaskSet | np.ndarray
"""What a path may hold; the array is a mask picture, bool [row, column]."""


def read_any(path: str | os.PathLike[str], cts: Sequence[CT] = ()) -> list[Opened]:
    """Read what lies at a path; a folder may hold a CT and its label map, or several radiographs.

    cts: CTs that are open already; a label map is put onto the grid of the first that it belongs to.
    Raises UnreadableFile, or FrameMismatch when a label map belongs to none of the CTs.
    """
    source = existing(path)
    match kind(source):
        case "folder":
            return _folder(source, cts)
        case "dicom" if is_segmentation(source):
            return [_of_a_ct(source, cts) if lies_on_slices(source) else read_masks_dicom(source)]
        case "unknown" if source.suffix.lower() == ".json":
            return list(read_coco(source))
        case "dicom":
            return [read_ct(source) if _modality(source) == "CT" else read_radiograph(source)]
        case "picture":
            values, _ = read_picture(source)
            return [values > 0] if is_mask(values) else [read_radiograph(source)]
        case _:
            return [_volume(source, cts)]


def series_of(path: str | os.PathLike[str]) -> tuple[Path, str] | None:
    """Return the folder and series UID of a file that is one slice of a CT; None for everything else."""
    source = Path(path)
    if not source.is_file() or kind(source) != "dicom":
        return None
    with quiet():
        header = read_header(source, ["Modality", "SeriesInstanceUID", "NumberOfFrames"])
    if header is None or word(header, "Modality") != "CT":
        return None
    try:
        several = int(header.get("NumberOfFrames", None) or 1) > 1
    except (TypeError, ValueError):
        return None
    return None if several else (source.parent, word(header, "SeriesInstanceUID"))


def is_mask(values: np.ndarray) -> bool:
    """True for a picture [row, column] of two values, one of them 0: a drawn mask."""
    if values.ndim != 2:
        return False
    high = values.max()
    return bool(high > 0 and (values == 0).any() and ((values == 0) | (values == high)).all())


def holds_labels(stored: Stored) -> bool:
    """True for whole numbers, none negative, of few different values."""
    values = stored.array
    if stored.slope != 1 or stored.intercept != 0:
        return False
    if values.dtype == np.uint8:
        return True
    seen: set[float] = set()
    for slab in values:
        found = np.unique(slab)
        if found.dtype.kind == "f" and (found != np.rint(found)).any():
            return False
        seen.update(found.tolist())
        if len(seen) > MOST_IDS or min(seen) < 0:
            return False
    return True


def _volume(path: Path, cts: Sequence[CT]) -> CT | LabelMap:
    stored = read_stored(path)
    if not holds_labels(stored):
        return ct_from_stored(path, stored)
    mismatch: FrameMismatch | None = None
    for ct in cts or (None,):
        try:
            labels = labels_from_stored(path, stored, ct)
        except FrameMismatch as error:
            mismatch = mismatch or error
            continue
        check_sides(labels, path)
        return labels
    assert mismatch is not None
    raise mismatch


def _folder(folder: Path, cts: Sequence[CT]) -> list[Opened]:
    files = dicom_files(folder)
    if files:
        modalities = {_modality(file) for file in files}
        if "CT" in modalities or len(files) > MOST_RADIOGRAPHS:
            return [read_ct(folder)]
        return [read_masks_dicom(file) if is_segmentation(file) else read_radiograph(file) for file in files]
    volumes = sorted(path for path in folder.iterdir() if is_volume_name(path) and path.is_file())
    scans = [path for path in volumes if is_beside_masks(path)]
    masks = [path for path in volumes if path not in scans]
    if not volumes and not (folder / "segmentations").is_dir():
        raise UnreadableFile(f"{stem(folder)} holds neither DICOM files nor masks; open the files in it themselves.")
    opened: list[Opened] = [read_ct(scans[0])] if scans else []
    nearby = [one for one in opened if isinstance(one, CT)] or list(cts)
    if len(masks) == 1:
        opened.append(_volume(masks[0], nearby))
    elif masks or (folder / "segmentations").is_dir():
        opened.append(_of_a_ct(folder, nearby))
    return opened


def _of_a_ct(path: Path, cts: Sequence[CT]) -> LabelMap:
    """A folder of masks or a segmentation, on the first CT that it belongs to."""
    mismatch: FrameMismatch | None = None
    for ct in cts or (None,):
        try:
            return read_labels(path, ct)
        except FrameMismatch as error:
            mismatch = mismatch or error
    assert mismatch is not None
    raise mismatch


def _modality(path: Path) -> str:
    with quiet():
        header = read_header(path, ["Modality"])
    return word(header, "Modality", 16) if header is not None else ""
