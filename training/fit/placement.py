"""Where a radiograph is moved to while training: a zoom per axis, a turn, a shift, and a smooth distortion.

`training.fit.targets` says where its structures went. Mirroring is never done: it would exchange left and right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.fit.augment import CLOSEST, Augmentation

WAVES = 3
"""How many waves a distortion is the sum of."""
CYCLES = (0.5, 2.0)
"""How often a wave rises and falls from one side of the picture to the other."""
STEPS = 24
"""For undoing a distortion; each leaves at most `Augmentation.elastic` of the error."""


@dataclass(frozen=True)
class Lookup:
    """Where what is drawn anew was before, for n pictures or masks. Column before row, in -1..1 of what is looked up and of what
    is drawn. theta: float32 [n, 2, 3], as for torch's `affine_grid`; waves: float32 [n, k, 5], what is added to each place: an
    amplitude [2], an angular frequency [2] and a phase."""

    theta: Tensor
    waves: Tensor

    def grid(self, size: int) -> Tensor:
        """What `grid_sample` takes for pictures of `size` x `size`, float32 [n, size, size, 2]. Ten times as fast on a CPU as
        torch's `affine_grid`."""
        line = (2 * torch.arange(size, device=self.theta.device) + 1) / size - 1
        x, y = line[None, None, :, None], line[None, :, None, None]
        a, b, c = (self.theta[:, None, None, :, i] for i in range(3))
        even = a * x + b * y + c
        if not self.waves.shape[1]:
            return even
        amplitude, frequency, phase = self.waves.split([2, 2, 1], -1)
        across, down, start = (frequency @ self.theta)[..., None].unbind(2)
        # sin(u + v) = sin u cos v + cos u sin v, so that no sine is taken for every pixel.
        u, v = across * line + start + phase, down * line
        columns, rows = torch.cat([u.sin(), u.cos()], 1), torch.cat([v.cos(), v.sin()], 1)
        each = amplitude.repeat(1, 2, 1)[..., None]
        return even + torch.stack([rows.mT @ (each[:, :, i] * columns) for i in (0, 1)], -1)


@dataclass(frozen=True)
class Placement:
    """Where images went: new = matrix @ even + offset, where even + waves(even) = old; matrix float64 [images, 2, 2], offset
    [images, 2]; waves: float64 [images, k, 5], the distortion, as in Lookup, None where there is none. Row before column,
    positions as shares of the side."""

    matrix: np.ndarray
    offset: np.ndarray
    waves: np.ndarray | None = None

    def points(self, points: np.ndarray, images: slice = slice(None)) -> np.ndarray:
        """Move points float [images, ..., n, 2]."""
        extra = (1,) * (points.ndim - 3)
        matrix = self.matrix[images].reshape(-1, *extra, 2, 2)
        if self.waves is not None:
            amplitude, frequency, phase = np.split(self.waves[images].reshape(-1, *extra, *self.waves.shape[1:]), [2, 4], -1)
            turned, late = np.swapaxes(frequency, -1, -2), np.swapaxes(phase, -1, -2)
            even = points
            for _ in range(STEPS):
                even = points - np.sin(even @ turned + late) @ amplitude
            points = even
        moved: np.ndarray = points @ np.swapaxes(matrix, -1, -2) + self.offset[images].reshape(-1, *extra, 1, 2)
        return moved

    @property
    def whole(self) -> Lookup:
        """For the pictures themselves."""
        everything = np.tile([0.0, 0.0, 1.0, 1.0], (len(self.matrix), 1))
        return self.lookup(np.arange(len(self.matrix)), everything, everything)

    def lookup(self, images: np.ndarray, old: np.ndarray, new: np.ndarray) -> Lookup:
        """For what lies in boxes `old` of the images before, drawn in boxes `new` of them after. images: int64 [n]; old, new:
        float [n, 4] (top, left, bottom, right)."""
        inverse = np.linalg.inv(self.matrix)[images]
        centre, half = (new[:, :2] + new[:, 2:]) / 2, (new[:, 2:] - new[:, :2]) / 2
        middle, reach = (old[:, :2] + old[:, 2:]) / 2, np.maximum(old[:, 2:] - old[:, :2], 1e-6) / 2
        turn = inverse * half[:, None] / reach[..., None]
        shift = (np.einsum("nij,nj->ni", inverse, centre - self.offset[images]) - middle) / reach
        theta = np.concatenate([turn, shift[..., None]], -1)[:, [1, 0]][:, :, [1, 0, 2]]
        waves = np.zeros((len(images), 0, 5))
        if self.waves is not None:
            amplitude, frequency, phase = np.split(self.waves[images], [2, 4], -1)
            later = phase + frequency @ middle[..., None]
            waves = np.concatenate([(amplitude / reach[:, None])[..., ::-1], (frequency * reach[:, None])[..., ::-1], later], -1)
        return Lookup(torch.from_numpy(theta.astype(np.float32)), torch.from_numpy(waves.astype(np.float32)))


def place(augmentation: Augmentation, images: int, rng: np.random.Generator) -> Placement:
    """Draw a zoom, a turn, a shift and a distortion for each of `images`."""
    zoom = np.log1p(augmentation.zoom) * rng.uniform(-1, 1, (images, 1))
    aspect = np.log1p(augmentation.aspect) * rng.uniform(-0.5, 0.5, (images, 1)) * np.array([[1.0, -1.0]])
    scale = np.exp(zoom + aspect)
    shift = augmentation.shift * rng.uniform(-1, 1, (images, 2))
    still = rng.random((images, 1)) < augmentation.untouched
    scale, shift = np.where(still, 1.0, scale), np.where(still, 0.0, shift)
    angle = np.radians(augmentation.turn) * rng.uniform(-1, 1, images) if augmentation.turn else np.zeros(images)
    angle = np.where(still[:, 0], 0.0, angle)
    sine, cosine = np.sin(angle), np.cos(angle)
    turn = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    middle = np.full((images, 2), 0.5)
    if augmentation.closer:
        near = ~still & (rng.random((images, 1)) < augmentation.closer)
        nearer = np.where(near, CLOSEST ** rng.random((images, 1)), 1.0)
        scale, middle = scale * nearer, middle + rng.uniform(-0.5, 0.5, (images, 2)) * (1 - 1 / nearer)
    matrix = turn * scale[:, None]
    waves = _waves(np.where(still, 0.0, augmentation.elastic), rng) if augmentation.elastic else None
    return Placement(matrix, 0.5 - np.einsum("nij,nj->ni", matrix, middle) + shift, waves)


def _waves(most: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Waves that together stretch no place by more than `most` float [images, 1]."""
    shape = (len(most), WAVES)
    frequency = 2 * np.pi * rng.uniform(*CYCLES, shape)
    amplitude = most * rng.uniform(0, 1, (len(most), 1)) / WAVES / frequency
    to, along = rng.uniform(0, 2 * np.pi, (2, *shape))
    parts = (amplitude * np.sin(to), amplitude * np.cos(to), frequency * np.sin(along), frequency * np.cos(along))
    return np.stack([*parts, rng.uniform(0, 2 * np.pi, shape)], -1)


def resample(images: Tensor, lookup: Lookup, size: int) -> Tensor:
    """Move images float [n, channels, h, w] and bring them to `size` x `size` pixels; what comes from outside is 0."""
    return functional.grid_sample(images, lookup.grid(size), align_corners=False)
