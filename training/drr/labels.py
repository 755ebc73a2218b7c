"""Label maps falling onto the detector: one mask or one thickness map per structure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from training import anatomy
from training.drr.geometry import Geometry
from training.drr.integrals import path_per_slice
from training.drr.traversal import ACROSS, VoxelPose
from training.errors import UnknownStructure
from training.images.types import LabelMap
from training.threads import in_stretches, thread_count

LUNG_OF = {
    "lung_field_left": "lung_left",
    "lung_field_right": "lung_right",
    "lung_outline_left": "lung_left",
    "lung_outline_right": "lung_right",
}
FIELD_THICKNESS = 18.0
"""A lung is outlined where a ray runs through at least this much of it [mm]; from comparing with outlines that readers drew."""
OUTLINE_HIDDEN_BY = {"liver": 8.0, "spleen": 8.0, "stomach": 8.0, "spine": 28.0}
"""Structures whose shadow both conventions leave out, from this path length on [mm]: vertebral bodies, not their processes."""
BESIDE_SPINE = 7.0
"""Readers end a lung this far beside the vertebral bodies [mm at the detector]; from comparing masks with 166 lungs drawn."""
ALONG_SPINE = 30.0
"""They do so in a straight line, past the waists and discs of this height between the bodies' ends [mm at the detector]."""
FIELD_HIDDEN_BY = {"heart": 12.0, "aorta": 12.0, "superior_vena_cava": 8.0}
"""Structures whose shadow the lung field leaves out besides [mm]; the outline keeps the lung behind the heart."""
DRAWN = 8.0
"""Gaps narrower than this are not drawn by hand [mm at the detector]."""


def project_labels(
    labels: LabelMap, geometry: Geometry, structures: Iterable[str] | None = None, thinnest: float = 0.0
) -> dict[str, np.ndarray]:
    """Return one bool [row, column] mask per structure: the rays, each through its pixel's centre, that meet it.

    A ray meets a structure where it crosses a slice (of the axis it runs along most) in one of the structure's voxels.
    structures: vocabulary keys, composites and lung fields included, or names of the label map's own; None means all that the
    label map can make. thinnest: rays that run through less of a structure do not count [mm]; lung fields keep their own limit.
    Raises UnknownStructure for a structure it cannot make, ImpossibleGeometry for a source in the volume.
    """
    available = anatomy.resolve(labels.structures)
    makeable = set(available) | {field for field, lung in LUNG_OF.items() if lung in available}
    wanted = [s for s in (*available, *LUNG_OF) if s in makeable] if structures is None else list(structures)
    missing = [s for s in wanted if s not in makeable]
    if missing:
        raise UnknownStructure(f"The label map {labels.name} holds nothing for {', '.join(missing)}.")
    plain = [s for s in wanted if s not in LUNG_OF]
    if thinnest > 0:
        masks = {s: depth >= thinnest for s, depth in label_thickness(labels, geometry, plain).items()}
    else:
        masks = _masks(labels, geometry, {s: available[s] for s in plain})
    if set(wanted) & set(LUNG_OF):
        masks |= lung_fields(labels, geometry)
    return {s: masks[s] for s in wanted}


def lung_fields(labels: LabelMap, geometry: Geometry) -> dict[str, np.ndarray]:
    """Return bool [row, column] per lung field and lung outline, as readers of radiographs draw them.

    Both end at the diaphragm and beside the vertebral bodies; the outline includes the lung behind the heart, the field does not.
    """
    available = anatomy.resolve(labels.structures)
    lungs = {drawn: lung for drawn, lung in LUNG_OF.items() if lung in available}
    limits = {s: limit for s, limit in (OUTLINE_HIDDEN_BY | FIELD_HIDDEN_BY).items() if s in available}
    thickness = label_thickness(labels, geometry, [*dict.fromkeys(lungs.values()), *limits])
    shadow = {s: thickness[s] >= limit for s, limit in limits.items()}
    if "spine" in shadow:
        shadow["spine"] = _widened(shadow["spine"], geometry)
    nothing = np.zeros((geometry.rows, geometry.columns), bool)
    abdomen = _closed(np.logical_or.reduce([nothing, *(shadow[s] for s in OUTLINE_HIDDEN_BY if s in shadow)]), geometry)
    mediastinum = np.logical_or.reduce([abdomen, *(shadow[s] for s in FIELD_HIDDEN_BY if s in shadow)])
    hidden = {drawn: mediastinum if "field" in drawn else abdomen for drawn in lungs}
    return {drawn: _largest(~hidden[drawn] & (thickness[lung] >= FIELD_THICKNESS)) for drawn, lung in lungs.items()}


def _widened(spine: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Fill what is narrower than ALONG_SPINE from above and below, and grow to both sides by BESIDE_SPINE."""
    from scipy import ndimage

    high, wide = round(ALONG_SPINE / geometry.spacing[0]), 1 + 2 * round(BESIDE_SPINE / geometry.spacing[1])
    grown = ndimage.maximum_filter1d(spine, max(1, high), axis=0, mode="constant")
    filled = ndimage.minimum_filter1d(grown, max(1, high), axis=0, mode="constant", cval=1)
    return ndimage.maximum_filter1d(filled, wide, axis=1, mode="constant")


def _closed(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Fill gaps narrower than DRAWN."""
    from scipy import ndimage

    size = [max(1, round(DRAWN / s)) for s in geometry.spacing]
    return ndimage.minimum_filter(ndimage.maximum_filter(mask, size, mode="constant"), size, mode="constant", cval=1)


def _largest(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected piece."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    return mask if count < 2 else pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))


def label_thickness(labels: LabelMap, geometry: Geometry, structures: Iterable[str]) -> dict[str, np.ndarray]:
    """Return float32 [row, column] per structure: how far each ray runs through it [mm]. Raises as project_labels."""
    from training.drr.shadows import LINES, tally

    wanted = list(structures)
    available = anatomy.resolve(labels.structures)
    missing = [s for s in wanted if s not in available]
    if missing:
        raise UnknownStructure(f"The label map {labels.name} holds nothing for {', '.join(missing)}.")
    shadow = _Shadow.of(labels, geometry, {s: available[s] for s in wanted})
    steps = np.zeros((shadow.count, shadow.lines, shadow.pixels + 1), np.int32)
    shadow.cast(np.empty((0, 0, 0), np.uint64), steps)
    slices = np.empty((len(wanted), geometry.rows, geometry.columns), np.float32)
    grouped = (shadow.first, shadow.members, shadow.swapped)
    in_stretches(lambda begin, end: tally(steps, *grouped, slices, begin, end), shadow.lines, LINES)
    slices *= path_per_slice(geometry, shadow.pose)
    return dict(zip(wanted, slices, strict=True))


def _masks(labels: LabelMap, geometry: Geometry, parts: dict[str, frozenset[str]]) -> dict[str, np.ndarray]:
    """Masks of structures, each the union of the named parts, from one pass over the runs of the label map."""
    from training.drr.shadows import LINES, unpack

    shadow = _Shadow.of(labels, geometry, parts)
    bits = np.zeros((shadow.count, shadow.lines, -(-shadow.pixels // 64)), np.uint64)
    shadow.cast(bits, np.empty((0, 0, 0), np.int32))
    masks = np.zeros((len(parts), geometry.rows, geometry.columns), np.bool_)
    grouped = (shadow.first, shadow.members, shadow.swapped)
    in_stretches(lambda begin, end: unpack(bits, *grouped, masks, begin, end), shadow.lines, LINES)
    return dict(zip(parts, masks, strict=True))


@dataclass(frozen=True)
class _Shadow:
    """What it takes to cast a label map's runs: detector lines run along the picture's columns when swapped.

    slots: int64 [id], -1 for ids nobody asked for; count: number of slots; structure s has members[first[s]:first[s + 1]].
    """

    labels: LabelMap
    pose: VoxelPose
    lines: int
    pixels: int
    swapped: bool
    slots: np.ndarray
    count: int
    first: np.ndarray
    members: np.ndarray

    @classmethod
    def of(cls, labels: LabelMap, geometry: Geometry, parts: dict[str, frozenset[str]]) -> _Shadow:
        geometry.check(labels)
        pose = VoxelPose.of(geometry, labels)
        swapped = _lies_across(pose, geometry)
        size = (geometry.columns, geometry.rows) if swapped else (geometry.rows, geometry.columns)
        ids_of: dict[str, list[int]] = {}
        for i, names in labels.members.items():
            for name in names:
                ids_of.setdefault(name, []).append(i)
        of_part = [sorted({i for name in names for i in ids_of.get(name, ())}) for names in parts.values()]
        ids = sorted(set().union(*of_part))
        slots = np.full(np.iinfo(labels.ids.dtype).max + 1, -1, np.int64)
        slots[ids] = np.arange(len(ids))
        first = np.cumsum([0, *map(len, of_part)])
        members = slots[[i for part in of_part for i in part]] if ids else np.empty(0, np.int64)
        return cls(labels, pose, *size, swapped, slots, len(ids), first, members)

    def cast(self, bits: np.ndarray, steps: np.ndarray) -> None:
        """Mark bits or count steps; see shadows.cast."""
        from training.drr.runs import runs_of
        from training.drr.shadows import LINES, cast

        pose, shape = self.pose, self.labels.ids.shape
        runs = runs_of(self.labels, ACROSS[pose.march][1])
        steps_on = (pose.column_step, pose.row_step) if self.swapped else (pose.row_step, pose.column_step)
        frame = (pose.march, pose.source, pose.corner - pose.source, *steps_on)
        given = (runs.offsets, runs.begin, runs.end, runs.ids, shape, *frame, self.slots, self.pixels, bits, steps)
        # Every stretch goes through the runs that fall on it: few long stretches, two to a thread so that none waits for long.
        stretch = max(LINES, -(-self.lines // (2 * thread_count())))
        in_stretches(lambda begin, end: cast(*given, begin, end), self.lines, stretch)


def _lies_across(pose: VoxelPose, geometry: Geometry) -> bool:
    """Whether runs of voxels lie along the picture's columns rather than its rows."""
    middle = (geometry.rows - 1) / 2 * pose.row_step + (geometry.columns - 1) / 2 * pose.column_step
    ray = pose.corner + middle - pose.source
    axis = ACROSS[pose.march][1]
    down, along = (abs(s[axis] - ray[axis] / ray[pose.march] * s[pose.march]) for s in (pose.row_step, pose.column_step))
    return bool(down > along)
