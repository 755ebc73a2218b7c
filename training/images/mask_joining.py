"""One label map from masks of one structure each; voxels in several structures get ids of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.errors import FrameMismatch, UnreadableFile
from training.images.grid import Grid, HasGrid, Stored, bounding_box, is_aligned, reordered, same_grid, window
from training.images.labels import HIGHEST_ID, check_inside, onto, own_grid
from training.images.paths import stem
from training.images.types import CT, LabelMap


@dataclass(frozen=True)
class Mask:
    """One structure's voxels: bool in `place` (slices z, y, x) of `grid`; None where it is empty. name: the structure; source:
    what it was read from."""

    name: str
    source: str
    grid: HasGrid
    own: Grid
    place: tuple[slice, slice, slice] | None
    voxels: np.ndarray | None
    labelled: int
    inside: int

    @classmethod
    def of(cls, name: str, path: Path, stored: Stored, ct: CT | None) -> Mask:
        """Place a mask (0 and one other value) on the CT's grid, or on its own where there is none."""
        own = own_grid(stored)
        grid: HasGrid = ct if ct is not None else own
        if not is_aligned(stored):
            voxels, _, inside, _ = onto(stored, ct, path)
            box = bounding_box(voxels)
            _check_binary(stored.array, path)
            part = voxels[box] > 0 if box else None
            return cls(name, path.name, grid, own, box, part, int(np.count_nonzero(stored.array)), inside)
        view, _ = reordered(stored)
        box = bounding_box(view)
        if box is None:
            return cls(name, path.name, grid, own, None, None, 0, 0)
        part = view[box]
        _check_binary(part, path)
        place = window(own, grid, box)
        labelled, inside = int(np.count_nonzero(part)), int(np.count_nonzero(place.inside(part)))
        return cls(name, path.name, grid, own, place.target, place.take(part) > 0, labelled, inside)


def join(masks: Iterator[Mask], path: Path, ct: CT | None, notes: tuple[str, ...] = ()) -> LabelMap:
    """Join the masks read from `path`. Raises UnreadableFile where there are none or all are empty, FrameMismatch."""
    grid: HasGrid | None = ct
    members: list[tuple[str, ...]] = [()]
    joined: dict[tuple[int, str], int] = {}
    ids: np.ndarray | None = None
    empty: list[str] = []
    count = labelled = inside = 0
    regridded = False
    last: Mask | None = None
    for mask in masks:
        last, count = mask, count + 1
        if grid is None:
            grid = mask.own
        if ids is None:
            ids = np.zeros(grid.shape, np.uint16)
        if ct is None and not same_grid(mask.own, grid):
            raise FrameMismatch(
                f"{mask.source} is on another grid than the masks before it in {path.name}; "
                "give masks of one person, made from one CT."
            )
        regridded = regridded or not same_grid(mask.own, grid)
        labelled, inside = labelled + mask.labelled, inside + mask.inside
        if mask.voxels is None or mask.place is None:
            empty.append(mask.name)
            continue
        _add(ids[mask.place], mask.voxels, mask.name, members, joined)
    if last is None or ids is None or grid is None:
        raise UnreadableFile(f"{path.name} holds no mask files; give a folder with one NIfTI or NRRD file per structure.")
    if labelled == 0:
        raise UnreadableFile(f"All {count} masks in {path.name} are empty; give the finished segmentation.")
    if ct is not None:
        check_inside(inside, labelled, path, last.own, ct)
    if regridded:
        notes = (*notes, "The masks were on another grid than the CT and were resampled onto it by position (nearest voxel).")
    if empty:
        notes = (*notes, f"{len(empty)} of {count} masks are empty: {', '.join(empty)}.")
    ids, kept = _compact(ids, members)
    return LabelMap(ids, kept, grid.spacing, grid.origin, stem(path), notes)


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
