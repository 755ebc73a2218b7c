"""Taking the couch, cables and clothes out of a CT, so that they do not show in a radiograph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from training.images.types import CT

AIR = -1000
"""[HU]"""
BODY = -400.0
"""Half way between air and fat, and above what foam and mattresses have [HU]."""
GRID = 2.0
"""Edge of the pixels in which the body is looked for [mm]."""
THINNEST = 8.0
"""Thinner than this in an axial slice is not the patient: the shell of a couch, a cable, a sheet [mm]."""
CHEST_WALL = 40.0
"""Gaps up to this in what is left are thin parts of the patient, such as a chest wall between lung and air [mm]."""
SKIN = 5.0
"""Kept around what was found [mm]."""


def without_couch(ct: CT) -> CT:
    """Return the CT with air around the patient; where nobody is found, the CT as it is.

    Arms apart from the trunk stay, and so does anything thick, such as a pillow filled with water. Takes some seconds and as much
    memory as the volume; to be done once, not for every view.
    """
    from scipy import ndimage

    steps = [max(1, round(GRID / edge)) for edge in ct.spacing[1::-1]]
    edges = (steps[0] * ct.spacing[1], steps[1] * ct.spacing[0])
    hu = np.full_like(ct.hu, AIR)
    for plane, kept in zip(ct.hu, hu, strict=True):
        thick = _grown(_shrunk(_means(plane, *steps) > BODY, THINNEST / 2, edges), THINNEST / 2, edges)
        whole = ndimage.binary_fill_holes(_shrunk(_grown(thick, CHEST_WALL / 2, edges), CHEST_WALL / 2, edges))
        patient = _grown(whole, SKIN, edges)
        mask = np.repeat(np.repeat(patient, steps[0], axis=0), steps[1], axis=1)[: plane.shape[0], : plane.shape[1]]
        np.copyto(kept, plane, where=mask)
    if (hu == AIR).all():
        return ct
    return replace(ct, hu=hu, notes=(*ct.notes, "What lies around the patient, the couch above all, was set to air."))


def _means(plane: np.ndarray, row_step: int, column_step: int) -> np.ndarray:
    """Float [block, block]: means over row_step x column_step voxels of a slice."""
    rows, columns = np.arange(0, plane.shape[0], row_step), np.arange(0, plane.shape[1], column_step)
    sums = np.add.reduceat(np.add.reduceat(plane, rows, axis=0, dtype=np.int32), columns, axis=1)
    return sums / np.outer(np.diff(np.append(rows, plane.shape[0])), np.diff(np.append(columns, plane.shape[1])))


def _grown(mask: np.ndarray, reach: float, edges: tuple[float, float]) -> np.ndarray:
    """Bool [row, column]: everything within reach [mm] of the mask; edges of the pixels [mm]."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(~mask, sampling=edges) <= reach if mask.any() else mask


def _shrunk(mask: np.ndarray, reach: float, edges: tuple[float, float]) -> np.ndarray:
    """Bool [row, column]: what of the mask is farther than reach [mm] from everything else; the picture's border is no edge."""
    return ~_grown(~mask, reach, edges)
