"""A label map from one id file or from a folder with one file per structure, on its CT's grid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from training.anatomy import vocabulary
from training.errors import FrameMismatch, UnreadableFile
from training.images.dicom_seg import is_segmentation
from training.images.grid import Grid, HasGrid, Stored, extent, is_aligned, reordered, resampled, same_grid, upright_grid, window
from training.images.label_names import Names, name_ids
from training.images.paths import check_volume_size, existing, kind, stem
from training.images.types import CT, LabelMap
from training.images.volume_file import read_stored

LEAST_INSIDE = 0.5
"""At least this part of the labelled voxels lies inside the CT that a label map belongs to."""

HIGHEST_ID = np.iinfo(np.uint16).max

_WANTED = (
    "give a label map as NIfTI (.nii, .nii.gz), NRRD or MHA/MHD file, as DICOM SEG, or a folder with one such file per structure"
)

Place = TypeVar("Place", bound=HasGrid)


def read_labels(
    path: str | os.PathLike[str], ct: CT | None, names: Mapping[int, str] | Names | str | os.PathLike[str] | None = None
) -> LabelMap:
    """Read the label map of a CT: a file of ids, a DICOM SEG, or a folder with a mask file per structure (overlaps are kept).

    names: table file with columns id,name, or a mapping. Without it the file's own header (TotalSegmentator, 3D Slicer), a table
    beside it (NAME_names.csv, label_names.csv), or TotalSegmentator v2's numbering name the ids. Known names become the
    vocabulary's keys.
    ct: the CT whose grid is wanted; a label map on another grid is resampled onto it (nearest, said in `notes`). With None it
    stays on its own grid, axis-aligned in LPS.
    Raises FrameMismatch when less than half of it lies inside the CT, UnreadableFile for what is no label map.
    """
    source = existing(path)
    what = kind(source)
    if what == "folder":
        from training.images.mask_folder import read_mask_folder

        labels = read_mask_folder(source, ct)
    elif what == "dicom" and is_segmentation(source):
        from training.images.dicom_seg_volume import read_seg_labels

        labels = read_seg_labels(source, ct)
    else:
        table = {i: (n,) if isinstance(n, str) else tuple(n) for i, n in names.items()} if isinstance(names, Mapping) else names
        labels = labels_from_stored(source, read_stored(source, _WANTED), ct, table)
    check_sides(labels, source)
    return labels


def labels_from_stored(
    path: Path, stored: Stored, ct: CT | None, names: Names | str | os.PathLike[str] | None = None
) -> LabelMap:
    """Make a label map of what a volume file holds."""
    ids = whole_ids(stored, path)
    if not ids.any():
        raise UnreadableFile(f"{path.name} is an empty label map: every voxel is 0; give the finished segmentation.")
    placed, grid, inside, notes = onto(Stored(ids, stored.patient_from_index), ct, path)
    if ct is not None:
        check_inside(inside, int(np.count_nonzero(ids)), path, own_grid(stored), ct)
    held = np.flatnonzero(np.bincount(placed.ravel(), minlength=1))
    members, more = name_ids([int(i) for i in held if i], path, stored.names, names)
    return LabelMap(placed, members, grid.spacing, grid.origin, stem(path), (*stored.notes, *notes, *more))


def whole_ids(stored: Stored, path: Path) -> np.ndarray:
    """Return the stored values as uint8 or uint16 [k, j, i]. Raises UnreadableFile when they are no ids."""
    values = stored.array
    if stored.slope != 1 or stored.intercept != 0:
        values = values * np.float32(stored.slope) + np.float32(stored.intercept)
    if values.dtype in (np.uint8, np.uint16):
        return values
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > HIGHEST_ID:
        what = "it looks like an image and not like a label map" if low < 0 else f"ids go up to {HIGHEST_ID}"
        raise UnreadableFile(f"{path.name} holds values from {low:g} to {high:g}; {what}: give the segmentation.")
    if values.dtype.kind == "f" and any((slab != np.rint(slab)).any() for slab in values):
        raise UnreadableFile(f"{path.name} holds fractional values, such as probabilities; give the label map with whole ids.")
    return values.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)


def own_grid(stored: Stored) -> Grid:
    """The axis-aligned grid of a volume by itself."""
    return reordered(stored)[1] if is_aligned(stored) else upright_grid(stored)


def onto(stored: Stored, ct: CT | None, path: Path) -> tuple[np.ndarray, HasGrid, int, tuple[str, ...]]:
    """Place ids on the CT's grid: array [z, y, x], the grid, how many labelled voxels of the source lie inside, notes."""
    if not is_aligned(stored):
        grid: HasGrid = ct if ct is not None else upright_grid(stored)
        check_volume_size(path, grid.shape, 2)
        note = f"{path.name} lies oblique and was resampled (nearest voxel)."
        return resampled(stored, grid, 0, nearest=True), grid, _inside_oblique(stored, grid), (note,)
    view, own = reordered(stored)
    if ct is None or same_grid(own, ct):
        return np.ascontiguousarray(view), ct if ct is not None else own, int(np.count_nonzero(view)), ()
    place = window(own, ct)
    array = np.zeros(ct.shape, view.dtype)
    array[place.target] = place.take(view)
    note = f"{path.name} was on another grid than the CT and was resampled onto it by position (nearest voxel)."
    return array, ct, int(np.count_nonzero(place.inside(view))), (note,)


def _inside_oblique(stored: Stored, grid: HasGrid) -> int:
    """How many labelled voxels of an oblique volume lie inside a grid."""
    index = np.argwhere(stored.array)[:, ::-1]
    points = index @ stored.patient_from_index[:3, :3].T + stored.patient_from_index[:3, 3]
    spacing, size = np.array(grid.spacing), np.array(grid.shape[::-1])
    voxel = (points - grid.origin) / spacing
    return int(((voxel >= -0.5) & (voxel <= size - 0.5)).all(axis=1).sum())


def check_inside(inside: int, labelled: int, path: Path, grid: HasGrid, ct: CT) -> None:
    """Raise FrameMismatch, naming both frames, when less than half of the labelled voxels lie inside the CT."""
    if inside < LEAST_INSIDE * labelled:
        part = f"only {100 * inside / labelled:.0f} % of its labelled voxels lie inside"
        frames = f"the label map covers {extent(grid)}, the CT {extent(ct)} (LPS)"
        raise FrameMismatch(
            f"The label map {path.name} does not belong to the CT {ct.name}: {part}; {frames}; "
            "give the label map made from this CT."
        )


def check_sides(labels: LabelMap, path: Path) -> None:
    """Raise FrameMismatch when structures of the left side lie to the right of their twins: the label map is mirrored."""
    columns = np.arange(labels.ids.shape[2])
    wanted = {s for s in labels.structures if _twin(s)}
    pairs = [(s, str(_twin(s))) for s in wanted if s in vocabulary() and vocabulary()[s].side == "left" and _twin(s) in wanted]
    if not pairs:
        return
    number = int(max(labels.members)) + 1
    counts = np.zeros((number, len(columns)))
    for slab in labels.ids:
        z_used = np.flatnonzero(slab.any(axis=1))
        if len(z_used):
            part = slab[z_used[0] : z_used[-1] + 1].astype(np.int64)
            counts += np.bincount((part * len(columns) + columns).ravel(), minlength=number * len(columns)).reshape(number, -1)
    places = {}
    for name in {name for pair in pairs for name in pair}:
        profile = counts[[i for i, members in labels.members.items() if name in members]].sum(axis=0)
        if profile.sum():
            places[name] = float((profile * columns).sum() / profile.sum())
    seen = [(left, right) for left, right in pairs if left in places and right in places]
    swapped = [(left, right) for left, right in seen if places[left] < places[right]]
    if len(swapped) > len(seen) / 2:
        left, right = max(swapped, key=lambda pair: places[pair[1]] - places[pair[0]])
        raise FrameMismatch(
            f"Left and right look swapped in {path.name}: {left} lies to the patient's right of {right}; "
            "export the label map with its orientation."
        )


def _twin(name: str) -> str | None:
    """The structure of the right side that belongs to one of the left, and the other way round."""
    for side, other in (("left", "right"), ("right", "left")):
        if f"_{side}" in name:
            return name.replace(f"_{side}", f"_{other}")
    return None
