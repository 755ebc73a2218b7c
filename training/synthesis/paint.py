"""A CT painted from a label map alone: each tissue its HU and texture, with skin, fat and muscle around what is labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training import anatomy
from training.errors import ChexanatomyError
from training.images.types import CT, LabelMap

AIR = -1000.0
LUNG, GAS, FAT, MUSCLE = -860.0, -950.0, -100.0, 50.0
CARTILAGE = 110.0
VESSEL = 45.0
TISSUE = {
    "trachea": GAS,
    "lung_trachea_bronchia": GAS,
    "esophagus": 20.0,
    "liver": 62.0,
    "spleen": 55.0,
    "stomach": 30.0,
    "colon": -60.0,
    "small_bowel": 0.0,
    "kidney_left": 40.0,
    "kidney_right": 40.0,
    "gallbladder": 10.0,
    "urinary_bladder": 8.0,
    "spinal_cord": 35.0,
    "costal_cartilages": CARTILAGE,
}
"""Typical unenhanced HU of tissues at 120 kVp; what is not named is soft tissue, muscle, vessel or bone by its group."""
BONES: Mapping[str, tuple[float, float]] = {"Spine": (520.0, 170.0)}
COMPACT = (760.0, 150.0)
"""Attenuation of a bone's cortex and marrow [HU] by group, COMPACT for the others: so that whole bones have the mean HU measured
in LIDC-IDRI-0001 (ribs 260 to 340, vertebrae 280 to 320)."""
CORTEX_DEPTH = 1.6
"""Thickness of the cortex that is painted, at least one voxel [mm]."""
BONE_GROUPS = {"Rib cage", "Spine", "Shoulder girdle and arm", "Pelvis and leg"}
VESSEL_SCALE, VESSEL_WIDTH = 9.0, 0.045


@dataclass(frozen=True)
class Tissue:
    """What differs between two paintings. skin: outside the outermost label [mm]; lung, blood, noise [HU]; bone: factor."""

    skin: float
    lung: float
    blood: float
    bone: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Tissue:
        """One scan: with or without contrast in the vessels, of a slender or a stout person with strong or porous bones."""
        enhanced = rng.random() < 0.4
        return cls(
            skin=float(rng.uniform(8, 26)),
            lung=LUNG + float(rng.uniform(-35, 45)),
            blood=VESSEL + (float(rng.uniform(70, 220)) if enhanced else float(rng.uniform(-8, 8))),
            bone=float(np.clip(rng.normal(1.0, 0.15), 0.7, 1.35)),
            noise=float(rng.uniform(8, 22)),
        )


def paint(labels: LabelMap, seed: int = 0) -> CT:
    """Return a CT on the label map's grid that its labels could have been drawn on; the seed decides tissues and textures.

    Raises ChexanatomyError when no label gives the body a size.
    """
    from scipy import ndimage

    if not labels.ids.any():
        raise ChexanatomyError(f"The label map {labels.name} is empty: nothing can be painted from it.")
    rng = np.random.default_rng(seed)
    tissue = Tissue.draw(rng)
    body, inner = _envelope(labels, tissue.skin)
    hu = np.full(labels.ids.shape, AIR, np.float32)
    hu[body] = FAT
    hu[inner] = _between_organs(inner.shape, labels.spacing, rng)[inner]
    plain = np.full(int(np.iinfo(labels.ids.dtype).max) + 1, np.nan, np.float32)
    bones: dict[tuple[float, float], list[int]] = {}
    lung_ids = []
    for id_, names in sorted(labels.members.items()):
        value = _tissue(names)
        if isinstance(value, tuple):
            bones.setdefault(value, []).append(id_)
        elif value == LUNG:
            lung_ids.append(id_)
        else:
            plain[id_] = tissue.blood if value == VESSEL else value
    values = plain[labels.ids]
    hu = np.where(np.isnan(values), hu, values)
    for (cortex, marrow), ids in bones.items():
        bone = np.isin(labels.ids, ids)
        hu[bone] = tissue.bone * np.where(_eroded(bone, labels.spacing, CORTEX_DEPTH), marrow, cortex)[bone]
    lungs = np.isin(labels.ids, lung_ids)
    hu[lungs] = tissue.lung
    _lung_vessels(hu, lungs, labels.spacing, rng)
    _stomach_bubble(hu, labels)
    hu = ndimage.gaussian_filter(hu, [0.8 / s for s in labels.spacing[::-1]], output=np.float32)
    grain = ndimage.uniform_filter(rng.standard_normal(hu.shape, np.float32), 2)
    hu += grain * np.float32(tissue.noise * np.sqrt(8))
    hu[~body & ~lungs] = AIR
    return CT(np.clip(np.round(hu), -1024, 3071).astype(np.int16), labels.spacing, labels.origin, labels.name)


def _between_organs(shape: tuple[int, ...], spacing: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """Muscle with sheets and pads of fat, float32 [z, y, x] in HU: what no label of the inner body says."""
    from scipy import ndimage

    coarse = [max(2, int(np.ceil(n * s / 9.0))) for n, s in zip(shape, spacing[::-1], strict=True)]
    noise = ndimage.gaussian_filter(rng.standard_normal(coarse, np.float32), 0.8)
    fat = np.clip(1.6 * noise / noise.std() - 0.3, 0, 1)
    zoomed = ndimage.zoom(fat, [n / c for n, c in zip(shape, coarse, strict=True)], order=1)
    return np.asarray(MUSCLE + zoomed * (FAT - MUSCLE), dtype=np.float32)


def _tissue(names: tuple[str, ...]) -> float | tuple[float, float]:
    """HU of an id's structures; of bone, cortex and marrow."""
    for name in names:
        if name in TISSUE:
            return TISSUE[name]
    vocabulary = anatomy.vocabulary()
    groups = {vocabulary[n].group for n in names if n in vocabulary}
    if groups & BONE_GROUPS or "skull" in names:
        return next((BONES[group] for group in groups if group in BONES), COMPACT)
    if "Lungs" in groups:
        return LUNG
    return MUSCLE if "Muscles" in groups else VESSEL


def _envelope(labels: LabelMap, skin: float) -> tuple[np.ndarray, np.ndarray]:
    """Body and what lies inside its outermost labels, bool [z, y, x]: each axial slice's hull, with and without skin and fat."""
    from scipy import ndimage
    from skimage.morphology import convex_hull_image

    step = 2
    coarse = labels.ids[::step, ::step, ::step] > 0
    hull = np.zeros_like(coarse)
    for z in np.flatnonzero(coarse.any(axis=(1, 2))):
        if coarse[z].sum() > 8:
            hull[z] = convex_hull_image(coarse[z])
    edges = [s * step for s in labels.spacing[::-1]]
    soft = ndimage.gaussian_filter(hull.astype(np.float32), [12 / e for e in edges])
    depth = ndimage.distance_transform_edt(soft <= 0.5, sampling=edges) - ndimage.distance_transform_edt(
        soft > 0.5, sampling=edges
    )
    depth = ndimage.gaussian_filter(depth.astype(np.float32), [4 / e for e in edges])
    fine = ndimage.zoom(depth, step, order=1, grid_mode=True, mode="nearest")
    z, y, x = labels.ids.shape
    fine = fine[:z, :y, :x]
    return fine <= skin, fine <= 0


def _eroded(mask: np.ndarray, spacing: tuple[float, float, float], depth: float) -> np.ndarray:
    """The part of a mask deeper than depth [mm]."""
    from scipy import ndimage

    return ndimage.binary_erosion(mask, iterations=max(1, round(depth / max(spacing))))


def _lung_vessels(hu: np.ndarray, lungs: np.ndarray, spacing: tuple[float, float, float], rng: np.random.Generator) -> None:
    """Draw vessels into the lungs: where two smooth random fields are both near zero run tubes, wider towards the hila."""
    from scipy import ndimage

    where = np.nonzero(lungs)
    if not len(where[0]):
        return
    box = tuple(slice(int(w.min()), int(w.max()) + 1) for w in where)
    inside = lungs[box]
    fields = []
    for scale in (VESSEL_SCALE, VESSEL_SCALE):
        noise = ndimage.gaussian_filter(rng.standard_normal(inside.shape, np.float32), [scale / s for s in spacing[::-1]])
        fields.append(noise / noise.std())
    middle = (inside.shape[2] - 1) / 2
    x = np.abs(np.arange(inside.shape[2]) - middle) / max(1.0, middle)
    z = np.abs(np.arange(inside.shape[0]) / max(1, inside.shape[0] - 1) - 0.5)[:, None, None] * 2
    closeness = np.clip(1.2 - x[None, None, :] - 0.4 * z, 0, 1).astype(np.float32)
    tube = (fields[0] ** 2 + fields[1] ** 2) < VESSEL_WIDTH * (0.25 + 1.4 * closeness**2)
    hu[box][tube & inside] = 20.0
    background = ndimage.gaussian_filter(rng.standard_normal(inside.shape, np.float32), [4 / s for s in spacing[::-1]])
    hu[box][inside & ~tube] += (background / background.std() * 25.0)[inside & ~tube]


def _stomach_bubble(hu: np.ndarray, labels: LabelMap) -> None:
    """Gas in the upper third of the stomach, where it rises standing."""
    if "stomach" not in labels.structures:
        return
    stomach = labels.mask("stomach")
    levels = np.flatnonzero(stomach.any(axis=(1, 2)))
    if len(levels):
        floor = int(levels[0] + 0.72 * (levels[-1] - levels[0]))
        upper = hu[floor:]
        upper[_eroded(stomach[floor:], labels.spacing, 3.0)] = GAS
