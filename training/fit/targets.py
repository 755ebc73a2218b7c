"""Where structures are, and what their masks look like, after an image was turned, zoomed and shifted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from training.fit.placement import Lookup, Placement, resample
from training.fit.records import CELLS, PRESENT, Records
from training.tokens.boxes import BOX_PADDING
from training.tokens.codebook import CROP

# How far a box may reach over the image's edge, as a share of its side, and still count as whole.
OVERHANG = 0.004
# A structure of which less than this share of its area is left in the picture is not asked about.
LEAST_VISIBLE = 0.1
STRAY = 5
"""How far a structure is read from where it is, at most, in parts of a patch."""


@dataclass(frozen=True)
class Moved:
    """Structures of some cases after a Placement. Positions are shares of the new image's side. field: float [images, 4] (top,
    left, bottom, right), what a border leaves open of each picture; the whole of it where None. What lies outside is not seen.
    apart: float [images, structures, 2], how far from its place in the picture each structure is to be read (`parted`)."""

    records: Records
    cases: np.ndarray
    placement: Placement
    field: np.ndarray | None = None
    apart: np.ndarray | None = None

    @cached_property
    def _open(self) -> tuple[np.ndarray, np.ndarray]:
        """First and last corner [images, 2] of what is open."""
        field = np.tile([0.0, 0.0, 1.0, 1.0], (len(self.cases), 1)) if self.field is None else self.field
        return field[:, :2], field[:, 2:]

    @cached_property
    def _tight(self) -> np.ndarray:
        """Boxes [images, structures, 4], over the image's edge where the structure goes there."""
        points = self.placement.points(self.records.outermost[self.cases])
        return np.concatenate([points.min(2), points.max(2)], -1)

    @cached_property
    def _there(self) -> np.ndarray:
        return self.records.state[self.cases] == PRESENT

    @cached_property
    def whole(self) -> np.ndarray:
        """bool [images, structures]: entirely in the picture."""
        low, high = (corner[:, None] for corner in self._open)
        inside = (self._tight[..., :2] > low - OVERHANG).all(-1) & (self._tight[..., 2:] < high + OVERHANG).all(-1)
        found: np.ndarray = self._there & inside
        return found

    @cached_property
    def gone(self) -> np.ndarray:
        """bool [images, structures]: moved out of the picture altogether."""
        low, high = (corner[:, None] for corner in self._open)
        found: np.ndarray = self._there & ((self._tight[..., :2] > high).any(-1) | (self._tight[..., 2:] < low).any(-1))
        return found

    @property
    def cut(self) -> np.ndarray:
        """bool [images, structures]: neither whole nor gone."""
        found: np.ndarray = self._there & ~self.whole & ~self.gone
        return found

    def parted(self, share: float, step: float, rng: np.random.Generator) -> Moved:
        """With structures of a share of the images, each on its own, away from where they are, by multiples of `step` and within
        the picture: so their places tell nothing of each other."""
        by = rng.integers(-STRAY, STRAY + 1, (*self._there.shape, 2)) * step
        within = (self._tight[..., :2] + by > 0).all(-1) & (self._tight[..., 2:] + by < 1).all(-1)
        chosen = (rng.random(len(by)) < share)[:, None] & self.whole & within
        return replace(self, apart=by * chosen[..., None])

    def strays(self, images: np.ndarray | int, structures: np.ndarray | int | slice) -> np.ndarray:
        """How far structures are to be read from where they are, float [..., 2] as shares of the side."""
        if self.apart is None:
            return np.zeros((*np.shape(images), 2))
        found: np.ndarray = self.apart[images, structures]
        return found

    def box(self, image: int, structure: int) -> np.ndarray | None:
        """The padded box float [4] of what is in the picture; None where too little of the structure is left."""
        if self.whole[image, structure]:
            low, high = np.split(self._tight[image, structure], 2)
        else:
            points, cell = self._cells(image, structure)
            first, last = (corner[image] for corner in self._open)
            inside = ((points >= first) & (points <= last)).all(1)
            if inside.sum() < max(1.0, LEAST_VISIBLE * len(points)):
                return None
            low, high = np.maximum(points[inside].min(0) - cell, first), np.minimum(points[inside].max(0) + cell, last)
        return np.concatenate([low - BOX_PADDING, high + BOX_PADDING]).clip(0, 1)

    def _cells(self, image: int, structure: int) -> tuple[np.ndarray, np.ndarray]:
        """Centres [n, 2] of the mask's cells, and half the extent [2] of one."""
        case = self.cases[image : image + 1]
        crop = self.records.crops(case, np.array([structure]))[0]
        box = self.records.boxes[case[0], structure]
        size = (box[2:] - box[:2]) / CELLS
        centres = (np.argwhere(crop) + 0.5) * size + box[:2]
        points = self.placement.points(centres[None, None], slice(image, image + 1))[0, 0]
        return points, np.abs(self.placement.matrix[image]) @ size / 2

    def crops(self, images: np.ndarray, structures: np.ndarray, boxes: np.ndarray) -> Tensor:
        """Masks float32 [n, 64, 64] inside boxes float [n, 4] of the new image, as the codebook reads them."""
        return self.crop_sketch(images, structures, boxes).drawn()[0]

    def crop_sketch(self, images: np.ndarray, structures: np.ndarray, boxes: np.ndarray) -> Sketch:
        """What `crops` needs, for drawing it elsewhere: n masks of one image."""
        kept, lookup = self._kept(images, structures, boxes)
        return Sketch(kept, lookup, torch.arange(len(kept)), (1, len(kept), CROP, CROP))

    def dense(self, structures: np.ndarray, side: int) -> Tensor:
        """Masks float32 [images, chosen structures, side, side] of the whole picture, empty where there is none."""
        return self.sketch(structures, side).drawn()

    def sketch(self, structures: np.ndarray, side: int) -> Sketch:
        """What `dense` needs, for drawing it elsewhere."""
        images, columns = np.nonzero((self._there & ~self.gone)[:, structures])
        everything = np.tile(np.array([0.0, 0.0, 1.0, 1.0]), (len(images), 1))
        kept, lookup = self._kept(images, structures[columns], everything)
        place = torch.from_numpy(images * len(structures) + columns)
        return Sketch(kept, lookup, place, (len(self.cases), len(structures), side, side))

    def _kept(self, images: np.ndarray, structures: np.ndarray, boxes: np.ndarray) -> tuple[Tensor, Lookup]:
        """Kept masks uint8 [n, bytes], and where to look them up under every cell of a box in the new image."""
        cases = self.cases[images]
        lookup = self.placement.lookup(images, self.records.boxes[cases, structures], boxes)
        return torch.from_numpy(self.records.masks[cases, structures]), lookup


@dataclass(frozen=True)
class Sketch:
    """Masks to be drawn where they are needed. kept: uint8 [n, bytes]; lookup: where they were; place: int64 [n], of each mask
    among the images' structures, one image after the other; shape: (images, structures, side, side) of what is drawn."""

    kept: Tensor
    lookup: Lookup
    place: Tensor
    shape: tuple[int, int, int, int]

    @classmethod
    def none(cls, side: int) -> Sketch:
        """No mask at all, of one image."""
        kept = torch.zeros(0, CELLS * CELLS // 8, dtype=torch.uint8)
        return cls(kept, Lookup(torch.zeros(0, 2, 3), torch.zeros(0, 0, 5)), torch.zeros(0, dtype=torch.long), (1, 0, side, side))

    def drawn(self) -> Tensor:
        """The masks, float32 of `shape`, empty where there is none."""
        images, structures, side, _ = self.shape
        result = torch.zeros(images * structures, side, side, device=self.kept.device)
        if len(self.place):
            result[self.place] = drawn(self.kept, self.lookup, side)
        return result.view(self.shape)


def drawn(kept: Tensor, lookup: Lookup, side: int) -> Tensor:
    """Kept masks, moved: float32 [n, side, side]."""
    bits = kept[..., None] >> torch.arange(7, -1, -1, device=kept.device, dtype=torch.uint8) & 1
    cells = bits.view(-1, 1, CELLS, CELLS).float()
    return resample(cells, lookup, side)[:, 0]
