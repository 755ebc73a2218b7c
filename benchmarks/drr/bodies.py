"""Volumes to project: the procedural thorax of this project, resampled to any number of voxels, and its structures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.images.types import CT, LabelMap

MOST_LABELS = 90
PHANTOM_SPACING = 2.0
"""Voxel edge of the phantom that the volumes are resampled from [mm]."""
AIR = -1000


@dataclass(frozen=True)
class Body:
    """A volume on disk, shared by all workers: values int16 >= 0, air 0 (HU + 1000), and ids uint8 0..MOST_LABELS."""

    folder: Path

    def ct(self) -> CT:
        """The values; named CT because they lie on a CT's grid."""
        return CT(np.load(self.folder / "values.npy"), *self._grid())

    def labels(self, count: int) -> LabelMap:
        """A label map of count structures: the 90 of the body, dealt out in turn."""
        dealt = np.zeros(256, np.uint8)
        dealt[1 : MOST_LABELS + 1] = np.arange(MOST_LABELS) % count + 1
        ids = dealt[np.load(self.folder / "ids.npy")]
        return LabelMap(ids, {i: (f"group {i}",) for i in range(1, count + 1)}, *self._grid())

    def _grid(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        grid = json.loads((self.folder / "grid.json").read_text())
        return tuple(grid["spacing"]), tuple(grid["origin"])


def store(folder: Path, values: np.ndarray, ids: np.ndarray, spacing: tuple[float, ...], origin: tuple[float, ...]) -> Body:
    """Write a volume where workers find it; grid.json comes last, so that a folder that has it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "values.npy", values)
    np.save(folder / "ids.npy", ids)
    (folder / "grid.json").write_text(json.dumps({"spacing": list(spacing), "origin": list(origin)}))
    return Body(folder)


def thorax_body(cache: Path, size: tuple[int, int, int]) -> Body:
    """The thorax on size = (x, y, z) voxels; made once."""
    folder = cache / "x".join(map(str, size))
    if not (folder / "grid.json").exists():
        hu, ids, spacing = _thorax(cache / "thorax.npz")
        shape = size[::-1]
        values = np.clip(_resampled(hu, shape) - AIR, 0, None).astype(np.int16)
        nearest = (((np.arange(n) + 0.5) * have / n).astype(int) for n, have in zip(shape, ids.shape, strict=True))
        spacing = tuple(s * have / n for s, have, n in zip(spacing, ids.shape[::-1], size, strict=True))
        origin = tuple(-(n - 1) / 2 * s for n, s in zip(size, spacing, strict=True))
        store(folder, values, ids[np.ix_(*nearest)], spacing, origin)
    return Body(folder)


def _thorax(path: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
    """The phantom in a square field of view as a scanner's: HU, ids 1..90 and spacing (x, y, z) [mm]."""
    if not path.exists():
        from training.phantom import thorax

        ct, labels = thorax(seed=0, spacing=PHANTOM_SPACING)
        short = max(0, ct.shape[2] - ct.shape[1])
        margin = ((0, 0), (short // 2, short - short // 2), (0, 0))
        hu = np.pad(ct.hu, margin, constant_values=AIR)
        ids = _ninety(np.pad(labels.ids, margin))
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, hu=hu, ids=ids, spacing=np.asarray(ct.spacing))
    with np.load(path) as made:
        return made["hu"], made["ids"], tuple(float(s) for s in made["spacing"])


def _ninety(ids: np.ndarray) -> np.ndarray:
    """Number the labels 1..MOST_LABELS: the largest are halved until there are enough, the smallest joined."""
    sizes = dict(zip(*(a.tolist() for a in np.unique(ids[ids > 0], return_counts=True)), strict=True))
    out = ids.astype(np.int64)
    while len(sizes) < MOST_LABELS:
        largest, new = max(sizes, key=lambda i: sizes[i]), max(sizes) + 1
        where = np.argwhere(out == largest)
        axis = int(np.argmax(np.ptp(where, axis=0)))
        far = where[where[:, axis] > np.median(where[:, axis])]
        out[tuple(far.T)] = new
        sizes |= {largest: len(where) - len(far), new: len(far)}
    number = np.zeros(max(sizes) + 1, np.uint8)
    for rank, old in enumerate(sorted(sizes, key=lambda i: -sizes[i])):
        number[old] = min(rank, MOST_LABELS - 1) + 1
    return number[out]


def _resampled(hu: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation onto the same box with other voxels, one axis after the other, float32."""
    out = hu.astype(np.float32)
    for axis, count in enumerate(shape):
        have = out.shape[axis]
        at = np.clip((np.arange(count) + 0.5) * have / count - 0.5, 0, have - 1)
        low = np.minimum(at.astype(int), have - 2)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        out = out.take(low, axis) * (1 - weight) + out.take(low + 1, axis) * weight
    return out
