"""What may happen to a radiograph between detector and reader, drawn at random while training. (Where it is moved to:
`training.fit.placement`.)"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from training.errors import ChexanatomyError
from training.model.preprocess import STRETCH

CLOSEST = 2.5
"""The largest magnification of a part that fills the frame (`Augmentation.closer`)."""
MOST_SORTED = 2**23
"""Pixels whose quantiles are asked for at once on a GPU: torch refuses from 16 million on."""


@dataclass(frozen=True)
class Augmentation:
    """Strength of each change; 0 switches it off. Chances are per image.

    zoom: largest relative magnification either way; aspect: the same between the axes; turn: largest angle [degrees]; shift:
    largest displacement, a share of the image's side; elastic: a smooth distortion's largest relative stretch of any place, below
    1; untouched: chance that an image keeps its place; closer: chance that a part of it, wherever, fills the frame, magnified by
    up to `CLOSEST`; gamma, curve, window: strengths of the exposure, S-shaped contrast and clipping changes; local_contrast,
    blur, noise, shading: strengths; collimation, marker, lines: chances of a border, a lead marker, and bright wires; apart:
    chance that structures are read away from their places, each on its own, by a model that reads (`training.model.reading`);
    styles: chance that an image's features get a part of another's style (`training.fit.styles`).
    """

    zoom: float = 0.25
    aspect: float = 0.08
    turn: float = 0.0
    shift: float = 0.12
    elastic: float = 0.0
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
    apart: float = 0.0
    styles: float = 0.0
    closer: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.elastic < 1:
            raise ChexanatomyError(f"elastic is a stretch from 0 to below 1; got {self.elastic}.")

    @classmethod
    def none(cls) -> Augmentation:
        """No change at all."""
        return cls(0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)

    def without_geometry(self) -> Augmentation:
        """The photometric changes alone."""
        return replace(self, zoom=0.0, aspect=0.0, turn=0.0, shift=0.0, elastic=0.0, untouched=1.0, closer=0.0)


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
