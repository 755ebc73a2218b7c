"""Label maps falling onto the detector: one mask or one thickness map per structure."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from training import anatomy
from training.drr.geometry import Geometry
from training.drr.integrals import on_detector, path_per_slice
from training.drr.traversal import Traversal, homography_frame, plan
from training.errors import UnknownStructure
from training.images.types import LabelMap

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
FIELD_HIDDEN_BY = {"heart": 12.0, "aorta": 12.0}
"""Structures whose shadow the lung field leaves out besides [mm]; the outline keeps the lung behind the heart."""
DRAWN = 8.0
"""Gaps narrower than this are not drawn by hand [mm at the detector]."""
OVERSAMPLING = 1.5


def project_labels(labels: LabelMap, geometry: Geometry, structures: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Return one bool [row, column] mask per structure: the rays that meet at least one of its voxels.

    structures: vocabulary keys, composites and lung fields included, or names of the label map's own; None means all that the
    label map can make. Raises UnknownStructure for a structure it cannot make, ImpossibleGeometry for a source in the volume.
    """
    available = anatomy.resolve(labels.structures)
    makeable = set(available) | {field for field, lung in LUNG_OF.items() if lung in available}
    wanted = [s for s in (*available, *LUNG_OF) if s in makeable] if structures is None else list(structures)
    missing = [s for s in wanted if s not in makeable]
    if missing:
        raise UnknownStructure(f"The label map {labels.name} holds nothing for {', '.join(missing)}.")
    masks = _masks(labels, geometry, {s: available[s] for s in wanted if s not in LUNG_OF})
    if set(wanted) & set(LUNG_OF):
        masks |= lung_fields(labels, geometry)
    return {s: masks[s] for s in wanted}


def lung_fields(labels: LabelMap, geometry: Geometry) -> dict[str, np.ndarray]:
    """Return bool [row, column] per lung field and lung outline, as readers of radiographs draw them.

    Both end at the diaphragm and at the vertebral bodies; the outline includes the lung behind the heart, the field does not.
    """
    available = anatomy.resolve(labels.structures)
    lungs = {drawn: lung for drawn, lung in LUNG_OF.items() if lung in available}
    limits = {s: limit for s, limit in (OUTLINE_HIDDEN_BY | FIELD_HIDDEN_BY).items() if s in available}
    thickness = label_thickness(labels, geometry, [*dict.fromkeys(lungs.values()), *limits])
    shadow = {s: thickness[s] >= limit for s, limit in limits.items()}
    nothing = np.zeros((geometry.rows, geometry.columns), bool)
    abdomen = _closed(np.logical_or.reduce([nothing, *(shadow[s] for s in OUTLINE_HIDDEN_BY if s in shadow)]), geometry)
    mediastinum = np.logical_or.reduce([abdomen, *(shadow[s] for s in FIELD_HIDDEN_BY if s in shadow)])
    hidden = {drawn: mediastinum if "field" in drawn else abdomen for drawn in lungs}
    return {drawn: _largest(~hidden[drawn] & (thickness[lung] >= FIELD_THICKNESS)) for drawn, lung in lungs.items()}


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
    from training.drr import kernels

    wanted = list(structures)
    available = anatomy.resolve(labels.structures)
    missing = [s for s in wanted if s not in available]
    if missing:
        raise UnknownStructure(f"The label map {labels.name} holds nothing for {', '.join(missing)}.")
    geometry.check(labels)
    walk = plan(geometry, labels, labels.ids.shape)
    table = np.zeros((int(labels.ids.max()) + 1, len(wanted)), np.float32)
    for column, structure in enumerate(wanted):
        for id_ in _ids_of(labels, available[structure], len(table)):
            table[id_, column] = 1
    counts = np.empty((len(wanted), walk.rows, walk.columns), np.float32)
    kernels.gather_counts(*_walk(labels, walk), table, counts)
    counts = np.maximum(on_detector(counts, geometry, labels, walk), 0)
    step = path_per_slice(geometry, labels, walk)
    return {structure: counts[i] * step for i, structure in enumerate(wanted)}


def _masks(labels: LabelMap, geometry: Geometry, parts: dict[str, frozenset[str]]) -> dict[str, np.ndarray]:
    """Masks of structures, each the union of the named parts, from one pass over the ids."""
    from training.drr import kernels

    geometry.check(labels)
    walk = plan(geometry, labels, labels.ids.shape, OVERSAMPLING)
    names = sorted(set().union(*parts.values())) if parts else []
    words = max(1, -(-len(names) // 64))
    table = np.zeros((int(labels.ids.max()) + 1, words), np.uint64)
    for bit, name in enumerate(names):
        for id_ in _ids_of(labels, frozenset([name]), len(table)):
            table[id_, bit // 64] |= np.uint64(1) << np.uint64(bit % 64)
    bits = np.empty((walk.rows, walk.columns, words), np.uint64)
    kernels.gather_bits(*_walk(labels, walk), table, bits)
    if walk.aligned:
        index = np.arange(walk.rows * walk.columns).reshape(walk.rows, walk.columns)
        index = index.T if walk.swapped else index
    else:
        index = kernels.nearest_pixels(
            (geometry.rows, geometry.columns),
            (walk.rows, walk.columns),
            *homography_frame(geometry, labels),
            *(walk.march, walk.source, walk.plane, walk.first, walk.pitch),
        )
    where = {name: bit for bit, name in enumerate(names)}
    wanted = np.zeros((len(parts), words), np.uint64)
    for row, members in enumerate(parts.values()):
        for name in members:
            wanted[row, where[name] // 64] |= np.uint64(1) << np.uint64(where[name] % 64)
    masks = np.empty((len(parts), geometry.rows, geometry.columns), np.bool_)
    kernels.unpack(bits.reshape(-1, words), np.ascontiguousarray(index), wanted, masks)
    return dict(zip(parts, masks, strict=True))


def _walk(labels: LabelMap, walk: Traversal) -> tuple[object, ...]:
    from training.drr import kernels

    ids = np.ascontiguousarray(labels.ids)
    return ids, kernels.label_extent(ids), walk.march, walk.source, walk.plane, walk.first, walk.pitch


def _ids_of(labels: LabelMap, names: frozenset[str], count: int) -> list[int]:
    return [i for i, members in labels.members.items() if i < count and names & set(members)]
