"""What is usual in a data set: where a structure lies and what the picture shows under it, robust against the mistakes in it."""

from __future__ import annotations

import numpy as np

FEW = 8
"""So many masks of a structure in one view are needed before one of them can be called unusual."""
MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation of a normal distribution."""
ALIGNABLE = 12
"""Structures a case needs to be laid onto the others; with fewer, one that is out of place would turn the whole case."""
STIFFNESS = 0.15
"""Usual deviation of a case's scale, shear and rotation from the middle of the data set [1]."""
NEAR = 0.004
"""Deviations from the usual place below this are never unusual, as a share of the picture."""
ROUNDS = 5
TELLING = 2.0
"""Robust standard deviations that a displaced picture must usually lie below the right one for the comparison to count."""
SHRINK = 0.3
"""Share of a unit variance added to the covariance of standardised values."""
BOUND = 6.0
"""Larger deviations count as this many standard deviations when common variation is looked for."""
NORMAL_TENTH = 1.64
"""A tenth of normally distributed values lie further from the middle, in standard deviations."""
NORMAL_SLOPE = 0.44
"""Standard deviations by which a normal tail falls by a factor of e, about there."""


def deviations(values: np.ndarray, floor: float | np.ndarray) -> np.ndarray:
    """Robust standard deviations from the column medians, float [n, k] of values [n, k]; NaN stays, 0 in columns with few values.

    floor: no spread is taken to be smaller.
    """
    if not len(values):
        return np.zeros_like(values)
    middle, spread = centre_and_spread(values, floor)
    z = (values - middle) / spread
    return np.where(np.isfinite(values).sum(axis=0) >= FEW, z, np.where(np.isnan(values), np.nan, 0.0))


def surprise(sizes: np.ndarray) -> np.ndarray:
    """How rare each value of the columns is, in nats: -ln of the share of the group expected to be at least as large.

    sizes: deviations without sign, float [n, k], NaN where there is none (gives 0). The tail of each column is taken to fall off
    exponentially, as fast as between its largest tenth and its largest thirty-third; few values count as normal ones do.
    """
    known = np.isfinite(sizes)
    n = known.sum(axis=0)
    result = np.zeros(sizes.shape)
    for column in np.flatnonzero(n >= FEW):
        values = sizes[known[:, column], column]
        outer, inner = max(0.03, 3 / n[column]), max(0.1, 7 / n[column])
        low, high = np.quantile(values, (1 - min(inner, 0.9), 1 - min(outer, 0.5)))
        low = max(low, NORMAL_TENTH)
        slope = max((high - low) / np.log(inner / outer), NORMAL_SLOPE)
        result[known[:, column], column] = np.maximum(0, np.log(10) + (values - low) / slope)
    return result


def centre_and_spread(values: np.ndarray, floor: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Medians and robust standard deviations of the columns of [n, k], NaN passed over; 0 and `floor` for an empty column."""
    with np.errstate(all="ignore"):
        known = np.isfinite(values).any(axis=0)
        middle, spread = np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
        middle[known] = np.nanmedian(values[:, known], axis=0)
        spread[known] = MAD_TO_SD * np.nanmedian(np.abs(values[:, known] - middle[known]), axis=0)
    return middle, np.maximum(spread, floor)


def lay_on_each_other(places: np.ndarray, sound: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lay all cases of a view onto one another, so that what a pose does to all structures alike does not count as out of place.

    places: centroids float [case, structure, 2], NaN where there is none; sound: bool [case, structure], those to go by. Returns
    (affine float [case, 2, 3] that takes (row, column, 1) to the common frame, usual places float [structure, 2]). Iterated
    least squares with weights that forget outliers; a few structures only, and the case is taken as it lies.
    """
    cases = len(places)
    identity = np.broadcast_to(np.eye(2, 3), (cases, 2, 3))
    home, spread = centre_and_spread(np.where(sound[..., None], places, np.nan), 0.02)
    if cases < FEW:
        return identity.copy(), home
    usable = sound & (np.isfinite(places).all(axis=2).sum(axis=0) >= FEW)
    alignable = usable.sum(axis=1) >= ALIGNABLE
    at = np.where(np.isfinite(places), places, 0.0)
    extended = np.concatenate([at, np.ones((*at.shape[:2], 1))], axis=2)
    trust = usable.astype(float)
    start_middle, start_size = home[usable.any(axis=0)].mean(axis=0), home[usable.any(axis=0)].std(axis=0)
    affine = identity.copy()
    for _ in range(ROUNDS):
        weight = trust / (spread**2).sum(axis=1)
        normal = np.einsum("cs,csi,csj->cij", weight, extended, extended)
        normal[:, [0, 1], [0, 1]] += 1 / STIFFNESS**2
        normal[:, 2, 2] += 1e-6
        wanted = np.einsum("cs,csi,csk->cik", weight, extended, home - at)
        change = np.linalg.solve(normal, wanted).transpose(0, 2, 1)
        affine = np.where(alignable[:, None, None], identity + change, identity)
        laid = np.einsum("ckj,csj->csk", affine, extended)
        home, spread = centre_and_spread(np.where(usable[..., None], laid, np.nan), NEAR)
        if usable.any() and (size := home[usable.any(axis=0)].std(axis=0)).all():
            home = (home - home[usable.any(axis=0)].mean(axis=0)) * (start_size / size) + start_middle
        distance = np.square((laid - home) / (3 * spread)).sum(axis=2)
        trust = usable / np.square(1 + distance)
    return affine, home


def given_the_others(z: np.ndarray) -> np.ndarray:
    """What is left of standardised values [case, structure, k] when the case's other structures are known; NaN stays.

    The conditional mean of a normal distribution whose shrunk covariance is learnt from the data set, each half of the cases from
    the other half: pose, habitus and breathing move many structures together, a mistake moves one.
    """
    cases, structures, k = z.shape
    flat = np.clip(np.nan_to_num(z), -BOUND, BOUND).reshape(cases, -1)
    rest = np.zeros_like(z)
    for judged, learnt in halves(cases):
        covariance = flat[learnt].T @ flat[learnt] / max(1, learnt.sum())
        precision = np.linalg.inv(covariance + _shrinkage(flat.shape[1], learnt.sum()) * np.eye(len(covariance)))
        pulled = (flat[judged] @ precision).reshape(-1, structures, k)
        blocks = precision.reshape(structures, k, structures, k)[np.arange(structures), :, np.arange(structures)]
        others = np.einsum("sij,csj->csi", np.linalg.inv(blocks), pulled)
        rest[judged] = others - flat[judged].reshape(others.shape)
    return z + rest


def halves(cases: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Two pairs of bool [case]: those to judge, and those to learn from."""
    even = np.arange(cases) % 2 == 0
    return (even, ~even), (~even, even)


def _shrinkage(values: int, cases: int) -> float:
    """Part of a unit variance added to the covariance of standardised values, more where few cases speak for many values."""
    return SHRINK * (1 + values / max(1, cases))


class Fit:
    """How well pictures go with masks, learnt from the data set itself: each case against one whose picture was displaced.

    `right` and `mirrored` [case]: the linear discriminant of the case as it is and of its mirrored picture, in robust standard
    deviations from the middle of the data set, high where they fit. Each half of the cases is judged by what the other half says.
    `telling`: whether right and displaced pictures can be told apart at all; where not, the figures mean nothing.
    """

    def __init__(self, right: np.ndarray, mirrored: np.ndarray, wrong: np.ndarray) -> None:
        """Standardised values float [case, k] of the picture under the masks, NaN where there is none."""
        values = [np.nan_to_num(v) for v in (right, mirrored, wrong)]
        scores = np.zeros((3, len(right)))
        for judged, learnt in halves(len(right)):
            direction = discriminant(values[0][learnt], values[2][learnt])
            middle, spread = centre_and_spread(values[0][learnt] @ direction, 1e-6)
            scores[:, judged] = (np.stack([v[judged] for v in values]) @ direction - middle) / spread
        self.right, self.mirrored = scores[:2]
        self.telling = bool(len(right) >= 2 * FEW and np.median(scores[0]) - np.median(scores[2]) > TELLING)


def discriminant(right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Fisher's linear discriminant [k] between two sets [n, k], its covariance shrunk where there are few cases."""
    middles = right.mean(axis=0), wrong.mean(axis=0)
    centred = np.concatenate([right - middles[0], wrong - middles[1]])
    covariance = centred.T @ centred / len(centred)
    covariance += _shrinkage(right.shape[1], len(centred)) * np.eye(len(covariance))
    return np.linalg.solve(covariance, middles[0] - middles[1])
