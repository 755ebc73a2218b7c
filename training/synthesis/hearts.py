"""Hearts of label maps without the great vessels: the heart of a radiograph is a silhouette, and ends below the hila."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from training.images.types import LabelMap

HEART = "heart"


def without_vessels(labels: LabelMap, width: float) -> LabelMap:
    """Return the labels with `heart` ending where, seen from the front, it is narrower than `width` [mm]; other names stay.

    TotalSegmentator's version 2 has no structure for the pulmonary arteries: they are part of its heart, and reach into both
    hila, where nobody who outlines a heart on a radiograph would follow them. What is left is an opening of the frontal
    silhouette by a disc. A heart that is nowhere as wide stays as it is.
    """
    heart = labels.mask(HEART)
    silhouette = np.pad(heart.any(axis=1), 1)
    pitch = (labels.spacing[2], labels.spacing[0])
    thick = ndimage.distance_transform_edt(silhouette, pitch) >= width / 2
    if not thick.any():
        return labels
    pieces, _ = ndimage.label(thick)
    core = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    opened = (ndimage.distance_transform_edt(~core, pitch) < width / 2)[1:-1, 1:-1]
    return _renamed(labels, heart & ~opened[:, None, :])


def _renamed(labels: LabelMap, vessels: np.ndarray) -> LabelMap:
    """The labels without the heart's name on these voxels [z, y, x]."""
    members, ids = dict(labels.members), labels.ids
    for old in [i for i, names in labels.members.items() if HEART in names]:
        kept = tuple(name for name in labels.members[old] if name != HEART)
        new = max(members) + 1 if kept else 0
        if kept:
            members[new] = kept
        ids = np.where(vessels & (labels.ids == old), np.uint16(new), ids)
    return replace(labels, ids=ids, members=members)
