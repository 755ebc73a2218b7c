"""A label map from a folder with one mask file per structure; voxels in several structures get ids of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.errors import FrameMismatch, UnreadableFile
from training.images.grid import Grid, HasGrid, Stored, bounding_box, is_aligned, reordered, same_grid, window
from training.images.label_names import key_of
from training.images.labels import HIGHEST_ID, check_inside, onto, own_grid, whole_ids
from training.images.paths import is_volume_name, stem
from training.images.types import CT, LabelMap
from training.images.volume_file import read_stored

_NOT_MASKS = ("ct", "image", "img")
"""File names under which data sets keep the CT beside its masks."""


@dataclass(frozen=True)
class _Mask:
    """One structure's voxels: bool in `place` (slices z, y, x) of `grid`; None where the file is empty."""

    path: Path
    grid: HasGrid
    own: Grid
    place: tuple[slice, slice, slice] | None
    voxels: np.ndarray | None
    labelled: int
    inside: int


def read_mask_folder(folder: Path, ct: CT | None) -> LabelMap:
    """Read every mask file of a folder (or of its subfolder `segmentations`). Raises UnreadableFile, FrameMismatch."""
    files, notes = _mask_files(folder)
    grid: HasGrid | None = ct
    members: list[tuple[str, ...]] = [()]
    joined: dict[tuple[int, str], int] = {}
    ids: np.ndarray | None = None
    empty: list[str] = []
    labelled = inside = 0
    regridded = False
    last: _Mask | None = None
    for mask in _masks(files, ct):
        last = mask
        if grid is None:
            grid = mask.own
        if ids is None:
            ids = np.zeros(grid.shape, np.uint16)
        if ct is None and not same_grid(mask.own, grid):
            raise FrameMismatch(
                f"{mask.path.name} is on another grid than the masks before it in {folder.name}; "
                "give masks of one person, made from one CT."
            )
        regridded = regridded or not same_grid(mask.own, grid)
        labelled, inside = labelled + mask.labelled, inside + mask.inside
        if mask.voxels is None or mask.place is None:
            empty.append(stem(mask.path))
            continue
        _add(ids[mask.place], mask.voxels, key_of(stem(mask.path)), members, joined)
    if last is None or ids is None or grid is None:
        raise UnreadableFile(f"{folder.name} holds no mask files; give a folder with one NIfTI or NRRD file per structure.")
    if labelled == 0:
        raise UnreadableFile(f"All {len(files)} masks in {folder.name} are empty; give the finished segmentation.")
    if ct is not None:
        check_inside(inside, labelled, folder, last.own, ct)
    if regridded:
        notes.append("The masks were on another grid than the CT and were resampled onto it by position (nearest voxel).")
    if empty:
        notes.append(f"{len(empty)} of {len(files)} masks are empty: {', '.join(empty)}.")
    ids, kept = _compact(ids, members)
    return LabelMap(ids, kept, grid.spacing, grid.origin, stem(folder), tuple(notes))


def is_beside_masks(path: Path) -> bool:
    """True for the CT that data sets keep beside its masks."""
    return stem(path).lower() in _NOT_MASKS


def _mask_files(folder: Path) -> tuple[list[Path], list[str]]:
    here = sorted(path for path in folder.iterdir() if path.is_file() and is_volume_name(path) and not path.name.startswith("."))
    below = folder / "segmentations"
    if below.is_dir() and all(is_beside_masks(path) for path in here):
        return _mask_files(below)
    files = [path for path in here if not is_beside_masks(path)]
    left_out = [path.name for path in here if path not in files]
    if not files:
        raise UnreadableFile(f"{folder.name} holds no mask files; give a folder with one NIfTI or NRRD file per structure.")
    return files, [f"{', '.join(left_out)} was left out: it is no mask."] if left_out else []


def _masks(files: list[Path], ct: CT | None) -> Iterator[_Mask]:
    """Read the files in order, a few at a time, so that only their small cut-outs are in memory."""
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[_Mask]] = []
        for path in files:
            waiting.append(pool.submit(_read, path, ct))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


def _read(path: Path, ct: CT | None) -> _Mask:
    stored = read_stored(path)
    ids = whole_ids(stored, path)
    placed = Stored(ids, stored.patient_from_index)
    own = own_grid(placed)
    grid: HasGrid = ct if ct is not None else own
    if not is_aligned(placed):
        voxels, _, inside, _ = onto(placed, ct, path)
        box = bounding_box(voxels)
        _check_binary(ids, path)
        return _Mask(path, grid, own, box, voxels[box] > 0 if box else None, int(np.count_nonzero(ids)), inside)
    view, _ = reordered(placed)
    box = bounding_box(view)
    if box is None:
        return _Mask(path, grid, own, None, None, 0, 0)
    part = view[box]
    _check_binary(part, path)
    place = window(own, grid, box)
    labelled = int(np.count_nonzero(part))
    return _Mask(path, grid, own, place.target, place.take(part) > 0, labelled, int(np.count_nonzero(place.inside(part))))


def _check_binary(ids: np.ndarray, path: Path) -> None:
    highest = ids.max()
    if not ((ids == 0) | (ids == highest)).all():
        raise UnreadableFile(
            f"{path.name} holds several labels where the mask of one structure belongs; give this file by itself as a label map."
        )


def _add(
    place: np.ndarray, voxels: np.ndarray, name: str, members: list[tuple[str, ...]], joined: dict[tuple[int, str], int]
) -> None:
    """Add a structure's voxels (bool) to the ids in place: every combination that comes up gets its own id."""
    before = place[voxels]
    lookup = np.zeros(len(members), np.uint16)
    for i in np.flatnonzero(np.bincount(before, minlength=1)):
        held = int(i)
        if name in members[held]:
            lookup[held] = held
            continue
        if (held, name) not in joined:
            if len(members) > HIGHEST_ID:
                raise UnreadableFile(f"The masks overlap in more than {HIGHEST_ID} combinations; give fewer structures at once.")
            joined[held, name] = len(members)
            members.append((*members[held], name))
        lookup[held] = joined[held, name]
    place[voxels] = lookup[before]


def _compact(ids: np.ndarray, members: list[tuple[str, ...]]) -> tuple[np.ndarray, dict[int, tuple[str, ...]]]:
    """Return ids without gaps, single structures first, in the smallest type, and what they stand for."""
    count = np.zeros(len(members), np.int64)
    for slab in ids:
        count += np.bincount(slab.ravel(), minlength=len(members))
    order = sorted((i for i in range(1, len(members)) if count[i]), key=lambda i: (len(members[i]) > 1, i))
    dtype = np.uint8 if len(order) <= np.iinfo(np.uint8).max else np.uint16
    lookup = np.zeros(len(members), dtype)
    lookup[order] = np.arange(1, len(order) + 1)
    compact = np.empty(ids.shape, dtype)
    for z, slab in enumerate(ids):
        compact[z] = lookup[slab]
    return compact, {new: members[old] for new, old in enumerate(order, start=1)}
