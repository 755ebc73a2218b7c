"""Clavicles of a body from a CT, in which arms are raised and nothing lies above the lungs, exchanged for those of one who
stands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from training.images import CT, LabelMap
from training.phantom import clavicle
from training.phantom.parameters import Strays
from training.phantom.patient import Patient
from training.phantom.scaffold import SIDES, Side, sign
from training.phantom.shapes import FAR, Shape

ROOM = 70.0
"""How far a body goes on above its uppermost slice, so that clavicles have room in it [mm]."""
SMOOTH = 4.0
"""Standard deviation of the blur that takes the noise out of that slice, which would add up to streaks [mm]."""
MUSCLE, GRAIN = 50.0, 15.0
"""What takes the place of a bone, and its standard deviation [HU]."""
AROUND, BRIGHT = 4.0, 120.0
"""How far from a bone its blurred edge reaches [mm], and what belongs to it there [HU]."""
AIR = -300.0
"""Below lies no body, where no lung is [HU]."""
LUNGS = 276.0
"""Width of the reference adult's lungs, `ThoraxParameters()` [mm]."""
HEAD = 9.0
"""Radius of the medial end of the reference adult's clavicle [mm]."""
SPAN, DEPTH, SLOPE = (0.435, 0.04), (0.27, 0.03), (22.0, 8.0)
"""How far the lateral end lies beside and behind the medial one, as shares of the lungs' width, and how steeply above it
[degrees]: mean and standard deviation, on radiographs (the lines of benchmarks/clavicles.csv) and, behind, in phantoms."""


def with_room_above(ct: CT, labels: LabelMap) -> tuple[CT, LabelMap]:
    """Return the volumes with their uppermost slice, smoothed, repeated for `ROOM`; nothing in it is labelled."""
    more = int(np.ceil(ROOM / ct.spacing[2]))
    blur = [SMOOTH / ct.spacing[1], SMOOTH / ct.spacing[0]]
    top = ndimage.gaussian_filter(ct.hu[-1].astype(np.float32), blur).astype(ct.hu.dtype)
    hu = np.concatenate([ct.hu, np.repeat(top[None], more, axis=0)])
    ids = np.concatenate([labels.ids, np.zeros((more, *labels.ids.shape[1:]), labels.ids.dtype)])
    return replace(ct, hu=hu), replace(labels, ids=ids)


def with_other_clavicles(ct: CT, labels: LabelMap, rng: np.random.Generator, stray: Strays) -> tuple[CT, LabelMap]:
    """Return the body with each labelled clavicle in another place, from its medial end on; sides without one stay as they are.

    stray: by how much the ends are moved up, left and right, of each the medial and the lateral one [mm]. Clavicles end where the
    body does, so give it room above. Works on cubic voxels.
    """
    patient = Patient(ct, labels)
    lungs = patient.box("lungs")
    if lungs is None:
        return ct, labels
    width = (lungs[2].stop - lungs[2].start) * patient.grid.spacing
    density = float(np.clip(rng.normal(1.0, 0.15), 0.6, 1.4))
    for side, (medial, lateral) in zip(SIDES, stray, strict=True):
        start = _taken_out(patient, side, rng)
        if start is None:
            continue
        across, behind = (max(rng.normal(*share), 0.1) * width for share in (SPAN, DEPTH))
        above = across * np.tan(np.radians(np.clip(rng.normal(*SLOPE), -5, 45)))
        end = start + np.array([sign(side) * across, behind, above + lateral])
        start[0] += sign(side) * HEAD * width / LUNGS  # the bone reaches beyond the ends of its middle line
        curved, arch = np.clip(rng.normal(1.0, 0.25), 0.4, 1.6), np.clip(rng.normal(13.0, 5.0), 0.0, 26.0)
        line = clavicle.middle_line(start + np.array([0, 0, medial]), end, width / LUNGS, sign(side), curved, arch)
        _put_in(patient, side, line, width / LUNGS, density)
    return patient.finished()


def _taken_out(patient: Patient, side: Side, rng: np.random.Generator) -> np.ndarray | None:
    """Turn a clavicle into muscle and return where its medial end was (x, y, z) [mm]; None where there is none."""
    name = f"clavicula_{side}"
    box = patient.box(name, AROUND)
    if box is None:
        return None
    bone = patient.mask(name, box)
    beside = ndimage.distance_transform_edt(~bone) * patient.grid.spacing <= AROUND
    unnamed = ~np.isin(patient.ids[box], [i for i, names in patient.members.items() if set(names) - {"body", name}])
    hu = patient.hu[box]
    gone = bone | (beside & unnamed & (hu > BRIGHT))
    hu[gone] = rng.normal(MUSCLE, GRAIN, int(gone.sum())).astype(np.int16)
    patient.rename(box, bone, drop=(name,))
    z, y, x = np.nonzero(bone)
    order = np.argsort(sign(side) * x)[: max(1, len(x) // 20)]
    axes = (patient.grid.axis(i, box[2 - i]) for i in range(3))
    return np.array([axis[voxel[order]].mean() for axis, voxel in zip(axes, (x, y, z), strict=True)], float)


def _put_in(patient: Patient, side: Side, line: np.ndarray, size: float, density: float) -> None:
    """Paint a clavicle where there is body."""
    shape, marrow = clavicle.bone(patient.grid, line, size)
    outside = (patient.hu[shape.box] < AIR) & ~patient.mask("lungs", shape.box)
    shape = Shape(shape.box, np.where(outside, np.float32(FAR), shape.distance))
    patient.lay(shape, clavicle.CORTEX * density)
    patient.lay(
        Shape(marrow.box, np.where(patient.hu[marrow.box] < AIR, np.float32(FAR), marrow.distance)), clavicle.MARROW * density
    )
    patient.rename(shape.box, shape.distance < 0, add=(f"clavicula_{side}",))
