"""What a usual mask looks like where the picture ends early: every structure's usual shape, cut by a case's own borders.

A narrow field or a collimator cuts many masks at once, and what is left of them lies elsewhere, is smaller and of another form
than the usual masks. The atlas says how much so, for borders anywhere, and such a case need not look like a mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from training.dataset.usual import FEW, MAD_TO_SD, STIFFNESS

SIDE = 40
"""Nodes of the atlas along each edge."""
LOW, HIGH = -0.75, 1.75
"""What the atlas spans of the common frame, in shares of a usual picture: wide views show more than that."""
SEEN_BY = 3.0
"""Cases that must show a place before it is known whether a structure lies there."""
SHARED = 6
"""Masks that end along the same line where a collimator ends them."""
LINE = 0.015
"""How near to the border a mask ends that is cut by it, as a share of the picture."""
SOFT = 0.02
"""Width over which the border of a picture sets in, as a share of it: a collimator may be turned a little."""
ANCHORS = 25
"""Cases with fewer whole masks than this, and than half of what is usual, are laid onto the others by their cut masks, too."""
LOOSE = 0.03
"""How far a cut mask usually lies from where the atlas has it, as a share of the picture."""
ROUNDS = 6


@dataclass(frozen=True)
class Clipped:
    """What the borders leave of the usual masks, in the common frame.

    share [case, structure]: visible part of the usual area; home [case, structure, 2]: centroid of that part; area [case,
    structure] and extent [case, structure, 2] (variances of rows and columns) of it; whole_area [structure], whole_extent
    [structure, 2]: of the usual mask that nothing cuts.
    """

    share: np.ndarray
    home: np.ndarray
    area: np.ndarray
    extent: np.ndarray
    whole_area: np.ndarray
    whole_extent: np.ndarray


def windows(extents: np.ndarray, there: np.ndarray) -> np.ndarray:
    """What of each picture is shown: first and last row, first and last column [case, 4], from extents [case, structure, 4].

    A border lies further in than the picture's where many masks end along the same line: at a collimator's blade.
    """
    known = np.where(there[..., None], extents, np.nan)
    known[..., [1, 3]] = 1 - known[..., [1, 3]]  # all four as distances from the picture's border
    ordered = np.sort(known, axis=1)  # NaN last
    third = np.nan_to_num(ordered[:, min(2, ordered.shape[1] - 1)])
    with np.errstate(invalid="ignore"):
        together = (np.abs(known - third[:, None]) < LINE).sum(axis=1)
    edges = np.where(together >= SHARED, third, 0.0)
    edges[:, [1, 3]] = 1 - edges[:, [1, 3]]
    return edges


def cut_by(extents: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Whether a mask reaches a border of what is shown, bool [case, structure]."""
    inside = (extents - window[:, None]) * (1, -1, 1, -1)
    return (inside < LINE).any(axis=2)


def narrow(there: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Cases that show few masks as a whole, bool [case]."""
    whole = (there & ~cut).sum(axis=1)
    return whole < min(ANCHORS, np.median(whole) / 2) if len(whole) else np.zeros(0, bool)


class Atlas:
    """Share of the cases in which each node of the common frame belongs to each structure, float32 [structure, node]."""

    def __init__(self, coarse: np.ndarray, there: np.ndarray, affine: np.ndarray, window: np.ndarray) -> None:
        """coarse: masks uint8 [case, structure, row, column]; there [case, structure]; affine [case, 2, 3] to common frame."""
        structures, cells = coarse.shape[1], coarse.shape[2]
        total = np.zeros((structures, SIDE * SIDE), np.float32)
        shown = np.zeros((structures, SIDE * SIDE), np.float32)
        at = (np.arange(cells) + 0.5) / cells
        centres = np.stack([*(part.ravel() for part in np.meshgrid(at, at, indexing="ij")), np.ones(cells * cells)])
        for case in range(len(coarse)):
            places = (affine[case] @ centres - LOW) / (HIGH - LOW) * SIDE - 0.5
            seen = _inside(centres[:2], window[case], 0.5 / cells).astype(np.float32)
            _splat(places.astype(np.float32), seen, coarse[case].reshape(structures, -1), there[case], total, shown)
        self.values = np.where(shown >= SEEN_BY, total / np.maximum(shown, 1e-6), 0.0).astype(np.float32)
        nodes = LOW + (np.arange(SIDE) + 0.5) / SIDE * (HIGH - LOW)
        y, x = (part.ravel() for part in np.meshgrid(nodes, nodes, indexing="ij"))
        self._nodes = np.stack([y, x])
        self._moments = np.stack([np.ones_like(y), y, x, y * y, x * x]).T.astype(np.float32)
        self._whole = _summary(self.values @ self._moments)
        self.known = self._whole[0] > 0

    def clipped(self, affine: np.ndarray, window: np.ndarray) -> Clipped:
        """What the borders of each case's window [case, 4] leave of the usual masks."""
        back = np.linalg.inv(affine[:, :, :2])
        whole_area, centre, whole_extent = self._whole
        area = np.empty((len(affine), len(whole_area)))
        home, extent = np.empty((*area.shape, 2)), np.empty((*area.shape, 2))
        for case in range(len(affine)):
            places = back[case] @ (self._nodes - affine[case, :, 2:])
            seen = _inside(places, window[case], SOFT).astype(np.float32)
            area[case], home[case], extent[case] = _summary(self.values @ (self._moments * seen[:, None]))
        known = whole_area > 0
        share = np.where(known, area / np.where(known, whole_area, 1), 1.0)
        home = np.where((share > 0)[..., None], home, centre)
        node = ((HIGH - LOW) / SIDE) ** 2
        return Clipped(share, home, area * node, extent, whole_area * node, whole_extent)


def lay_cut_ones(
    coarse: np.ndarray,
    places: np.ndarray,
    there: np.ndarray,
    cut: np.ndarray,
    affine: np.ndarray,
    home: np.ndarray,
    window: np.ndarray,
) -> tuple[np.ndarray, Clipped]:
    """Lay the cases that have few whole masks onto the others by what the borders leave of their cut ones.

    Arguments as for `lay_on_each_other` and `Atlas`. Returns all affines [case, 2, 3] and what the borders leave.
    """
    whole = there & ~cut
    few = np.flatnonzero(narrow(there, cut))
    anchored = np.setdiff1d(np.arange(len(places)), few)
    if not len(few) or len(anchored) < FEW:
        return affine, Atlas(coarse, there, affine, window).clipped(affine, window)
    atlas = Atlas(coarse[anchored], there[anchored], affine[anchored], window[anchored])
    affine = affine.copy()
    affine[few] = np.eye(2, 3)
    extended = np.concatenate([np.where(there[..., None], places, 0.0), np.ones((*there.shape, 1))], axis=2)[few]
    usable = there[few] & np.where(cut[few], atlas.known, whole.sum(axis=0) >= FEW)
    trust = usable.astype(float)
    spread = np.where(cut[few], LOOSE, LOOSE / 2)
    for _ in range(ROUNDS):
        wanted_at = np.where(cut[few][..., None], atlas.clipped(affine[few], window[few]).home, home)
        weight = trust / spread**2
        normal = np.einsum("cs,csi,csj->cij", weight, extended, extended)
        normal[:, [0, 1], [0, 1]] += 1 / STIFFNESS**2
        normal[:, 2, 2] += 1e-6
        wanted = np.einsum("cs,csi,csk->cik", weight, extended, wanted_at - extended[..., :2])
        affine[few] = np.eye(2, 3) + np.linalg.solve(normal, wanted).transpose(0, 2, 1)
        apart = np.linalg.norm(np.einsum("ckj,csj->csk", affine[few], extended) - wanted_at, axis=2)
        usual = MAD_TO_SD * np.nanmedian(np.where(usable, apart, np.nan), axis=1)
        trust = usable / np.square(1 + np.square(apart / (3 * np.maximum(usual, LOOSE / 4)[:, None])))
    return affine, Atlas(coarse, there, affine, window).clipped(affine, window)


def _inside(places: np.ndarray, window: np.ndarray, soft: float) -> np.ndarray:
    """How far points [2, n] lie inside a window (first and last row, first and last column), 0..1, over a soft edge."""
    y, x = places
    depth = np.minimum(np.minimum(y - window[0], window[1] - y), np.minimum(x - window[2], window[3] - x))
    return np.clip(0.5 + depth / (2 * soft), 0, 1)


def _summary(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Area, centroid [., 2] and variances [., 2] of sums of 1, y, x, y y, x x [structure, 5]."""
    area = moments[:, 0].astype(float)
    divisor = np.maximum(area, 1e-9)[:, None]
    centre = moments[:, 1:3] / divisor
    return area, centre, np.maximum(moments[:, 3:5] / divisor - centre**2, 1e-5)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _splat(places, seen, coarse, there, total, shown):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add one case: its cells, seen [cell], at places [2, cell] of the grid, covered by each structure [structure, cell]."""
    for cell in range(places.shape[1]):
        row, column = int(np.floor(places[0, cell])), int(np.floor(places[1, cell]))
        for j in range(2):
            for i in range(2):
                y, x = row + j, column + i
                if seen[cell] <= 0 or y < 0 or x < 0 or y >= SIDE or x >= SIDE:
                    continue
                weight = (1 - abs(places[0, cell] - y)) * (1 - abs(places[1, cell] - x))
                node = y * SIDE + x
                for structure in range(coarse.shape[0]):
                    if there[structure]:
                        shown[structure, node] += weight * seen[cell]
                        total[structure, node] += weight * coarse[structure, cell] / np.float32(255)
