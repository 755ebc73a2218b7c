"""What may happen to a radiograph between detector and reader, drawn at random while training.

Geometry is a zoom per axis, a turn and a shift; `training.fit.targets` says where the structures went. Mirroring is never done:
it would exchange left and right.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from training.model.preprocess import STRETCH

MOST_SORTED = 2**23
"""Pixels whose quantiles are asked for at once on a GPU: torch refuses from 16 million on."""


@dataclass(frozen=True)
class Augmentation:
    """Strength of each change; 0 switches it off. Chances are per image.

    zoom: largest relative magnification either way; aspect: the same between the axes; turn: largest angle [degrees]; shift:
    largest displacement, a share of the image's side; untouched: chance that an image keeps its place; gamma, curve, window:
    strengths of the exposure, S-shaped contrast and clipping changes; local_contrast, blur, noise, shading: strengths;
    collimation, marker, lines: chances of a border, a lead marker, and bright wires.
    """

    zoom: float = 0.25
    aspect: float = 0.08
    turn: float = 0.0
    shift: float = 0.12
    untouched: float = 0.2
    gamma: float = 0.5
    curve: float = 0.5
    window: float = 0.15
    local_contrast: float = 1.0
    blur: float = 1.2
    noise: float = 0.03
    shading: float = 0.25
    collimation: float = 0.25
    marker: float = 0.3
    lines: float = 0.2

    @classmethod
    def none(cls) -> Augmentation:
        """No change at all."""
        return cls(0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def without_geometry(self) -> Augmentation:
        """The photometric changes alone."""
        return replace(self, zoom=0.0, aspect=0.0, turn=0.0, shift=0.0, untouched=1.0)


@dataclass(frozen=True)
class Placement:
    """Where images went: new = matrix @ old + offset, matrix float64 [images, 2, 2], offset [images, 2] (row before column),
    positions as shares of the side."""

    matrix: np.ndarray
    offset: np.ndarray

    def points(self, points: np.ndarray, images: slice = slice(None)) -> np.ndarray:
        """Move points float [images, ..., n, 2]."""
        extra = (1,) * (points.ndim - 3)
        matrix = self.matrix[images].reshape(-1, *extra, 2, 2)
        moved: np.ndarray = points @ np.swapaxes(matrix, -1, -2) + self.offset[images].reshape(-1, *extra, 1, 2)
        return moved

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Move boxes float [images, n, 4] (top, left, bottom, right): exact without a turn, the box of the turned box with
        one."""
        middle = self.points((boxes[..., :2] + boxes[..., 2:]) / 2)
        half = (boxes[..., 2:] - boxes[..., :2]) / 2 @ np.swapaxes(np.abs(self.matrix), -1, -2)
        return np.concatenate([middle - half, middle + half], -1)

    @property
    def theta(self) -> Tensor:
        """What `affine_grid` takes, float32 [images, 2, 3]: where a new pixel comes from, column before row, in -1..1."""
        inverse = np.linalg.inv(self.matrix)
        shift = 2 * np.einsum("nij,nj->ni", inverse, 0.5 - self.offset) - 1
        theta = np.concatenate([inverse, shift[..., None]], -1)[:, [1, 0]][:, :, [1, 0, 2]]
        return torch.from_numpy(theta.astype(np.float32))


def place(augmentation: Augmentation, images: int, rng: np.random.Generator) -> Placement:
    """Draw a zoom, a turn and a shift for each of `images`."""
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
    matrix = turn * scale[:, None]
    return Placement(matrix, 0.5 - matrix @ np.array([0.5, 0.5]) + shift)


def resample(images: Tensor, theta: Tensor, size: int) -> Tensor:
    """Move images float [n, channels, h, w] by a Placement's theta and bring them to `size` x `size` pixels; what comes from
    outside is 0."""
    return functional.grid_sample(images, affine_grid(theta, size), align_corners=False)


def affine_grid(theta: Tensor, size: int) -> Tensor:
    """As torch's `affine_grid` for pictures of `size` x `size`, from theta float32 [n, 2, 3]; ten times as fast on a CPU."""
    line = (2 * torch.arange(size, device=theta.device) + 1) / size - 1
    x, y = line[None, None, :, None], line[None, :, None, None]
    a, b, c = (theta[:, None, None, :, i] for i in range(3))
    return a * x + b * y + c


def photograph(images: Tensor, augmentation: Augmentation, rng: np.random.Generator, overlays: Overlays | None = None) -> Tensor:
    """Change exposure, contrast, sharpness and noise, and lay borders, markers and wires over images float [n, 1, s, s] in
    0..1, on any device. overlays: drawn before, where drawing would hold up the device."""
    a = augmentation
    n, _, size, _ = images.shape
    home = images.device

    def draw(low: float, high: float) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, 1, 1, 1)).astype(np.float32)).to(home)

    def some(share: float) -> Tensor:
        return draw(0, 1) < share

    x = images
    if a.window:
        low = draw(-a.window, a.window)
        high = 1 + draw(-a.window, a.window)
        x = ((x - low) / (high - low)).clamp(0, 1)
    if a.gamma:
        x = x.clamp_min(1e-4) ** torch.exp(draw(-a.gamma, a.gamma))
    if a.curve:
        steep = 1 + 8 * a.curve * draw(0, 1)
        middle = draw(0.35, 0.65)
        low, high = torch.sigmoid(-steep * middle), torch.sigmoid(steep * (1 - middle))
        x = torch.where(some(0.5), (torch.sigmoid(steep * (x - middle)) - low) / (high - low), x)
    if a.shading:
        x = x * (1 + a.shading * _clouds(n, size, rng, home))
    if a.local_contrast:
        around = _blur(x, size / 12)
        x = torch.where(some(0.5), x + a.local_contrast * draw(-0.3, 1.0) * (x - around), x)
    if a.blur:
        x = torch.where(some(0.3), _blur(x, float(rng.uniform(0.3, a.blur))), x)
    if a.noise:
        seed = int(rng.integers(2**62))
        grain = torch.randn(x.shape, generator=torch.Generator(home).manual_seed(seed), device=home)
        x = x + some(0.5) * draw(0, a.noise) * grain
    return (overlays or Overlays.draw(a, n, size, rng)).laid_over(x.clamp(0, 1))


def spread(images: Tensor) -> Tensor:
    """`training.model.preprocess.stretch` for a batch float [n, 1, s, s]."""
    flat = images.flatten(1)
    if flat.device.type == "cpu":
        # numpy looks for two places where torch would sort everything.
        ends = torch.from_numpy(np.quantile(flat.numpy(), STRETCH, axis=1).astype(np.float32))
    else:
        shares = torch.tensor(STRETCH, device=flat.device)
        some = max(1, MOST_SORTED // flat.shape[1])
        ends = torch.cat([torch.quantile(part, shares, dim=1) for part in flat.split(some)], 1)
    low, high = ends[0].view(-1, 1, 1, 1), ends[1].view(-1, 1, 1, 1)
    return ((images - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def _clouds(n: int, size: int, rng: np.random.Generator, home: torch.device) -> Tensor:
    coarse = torch.from_numpy(rng.uniform(-1, 1, (n, 1, 3, 3)).astype(np.float32)).to(home)
    return functional.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `sigma` pixels; wide ones on a coarser grid, where they cost nothing."""
    size = images.shape[-1]
    coarser = max(1, int(sigma // 2))
    small = functional.avg_pool2d(images, coarser) if coarser > 1 else images
    s = sigma / coarser
    reach = max(1, round(2.5 * s))
    ruler = torch.arange(-reach, reach + 1, dtype=torch.float32, device=images.device)
    weights = torch.exp(-0.5 * (ruler / s) ** 2)
    weights = weights / weights.sum()
    small = functional.pad(small, (reach,) * 4, mode="replicate")
    small = functional.conv2d(functional.conv2d(small, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
    return functional.interpolate(small, (size, size), mode="bilinear", align_corners=False) if coarser > 1 else small


@dataclass(frozen=True)
class Overlays:
    """What lies over n images. wires, letters: uint8 [k, s, s], with the images int64 [k] that they belong to; edges: int64
    [n, 4], rows and columns hidden at the top, left, bottom, right; grey: float32 [n], what hides them."""

    wires: Tensor
    wired: Tensor
    letters: Tensor
    lettered: Tensor
    edges: Tensor
    grey: Tensor

    @classmethod
    def draw(cls, a: Augmentation, n: int, size: int, rng: np.random.Generator) -> Overlays:
        """Draw borders, markers and wires, by their chances."""
        wires, letters = [], []
        edges, grey = np.zeros((n, 4), np.int64), np.zeros(n, np.float32)
        for i in range(n):
            if rng.random() < a.lines:
                wires.append((i, _wires(size, rng)))
            if rng.random() < a.marker:
                letters.append((i, _letters(size, rng)))
            if rng.random() < a.collimation:
                edges[i] = (rng.uniform(0, 0.1, 4) * (rng.random(4) < 0.6) * size).round()
                grey[i] = rng.choice([0.0, 0.05, 1.0], p=[0.6, 0.2, 0.2])
        return cls(*_stacked(wires, size), *_stacked(letters, size), torch.from_numpy(edges), torch.from_numpy(grey))

    def field(self, size: int) -> np.ndarray:
        """What borders leave open, float64 [n, 4] (top, left, bottom, right) as shares of the side."""
        top, left, bottom, right = self.edges.numpy().T / size
        return np.stack([top, left, 1 - bottom, 1 - right], 1)

    def open(self, side: int, size: int) -> Tensor:
        """The same as pixels, bool [n, side, side], of pictures of `size` pixels."""
        place = (torch.arange(side, device=self.edges.device) + 0.5) * size / side
        top, left, bottom, right = (edge[:, None] for edge in self.edges.unbind(1))
        rows, columns = ((place > low) & (place < size - high) for low, high in ((top, bottom), (left, right)))
        return rows[:, :, None] & columns[:, None]

    def laid_over(self, images: Tensor) -> Tensor:
        """Images float [n, 1, s, s] with what lies over them."""
        x = images[:, 0].clone()
        if len(self.wired):
            under = x[self.wired]
            x[self.wired] = under + (1 - under) * (self.wires.float() / 255) * 0.8
        if len(self.lettered):
            x[self.lettered] = torch.maximum(x[self.lettered], self.letters.float() / 255)
        return torch.where(self.open(x.shape[-1], x.shape[-1]), x, self.grey[:, None, None])[:, None]


def _stacked(drawn: list[tuple[int, Image.Image]], size: int) -> tuple[Tensor, Tensor]:
    pictures = np.stack([np.asarray(picture) for _, picture in drawn]) if drawn else np.zeros((0, size, size), np.uint8)
    return torch.from_numpy(pictures), torch.tensor([i for i, _ in drawn], dtype=torch.long)


def _wires(size: int, rng: np.random.Generator) -> Image.Image:
    canvas = Image.new("L", (size, size))
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(1, 5))):
        ends = rng.uniform(-0.1, 1.1, (3, 2)) * size
        t = np.linspace(0, 1, 24)[:, None]
        path = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
        pen.line([(float(x), float(y)) for x, y in path], fill=int(rng.integers(60, 200)), width=int(rng.integers(1, 3)))
        if rng.random() < 0.5:
            x, y = path[-1]
            r = float(rng.uniform(0.008, 0.02)) * size
            pen.ellipse((x - r, y - r, x + r, y + r), fill=220)
    return canvas


def _letters(size: int, rng: np.random.Generator) -> Image.Image:
    canvas = Image.new("L", (size, size))
    text = str(rng.choice(["L", "R", "PA", "AP", "STEHEND", "PORTABLE", "09:41"]))
    corner = (float(rng.uniform(0, 0.9)) * size, float(rng.uniform(0, 0.15) + (0.8 if rng.random() < 0.3 else 0)) * size)
    height = float(rng.uniform(0.04, 0.09)) * size
    ImageDraw.Draw(canvas).text(corner, text, fill=int(rng.integers(150, 256)), font_size=height)
    return canvas
