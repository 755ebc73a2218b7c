"""From a detector's signal to a picture on a light box: log, equalisation, local contrast, window, curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.drr.exposure import BODY_ATTENUATION
from training.drr.smoothing import block_means, gaussian_blur
from training.errors import ChexanatomyError

EDGE_OF_BODY = 0.25
"""Rays weaker than this share of the median through the body graze it."""
RIM = 20.0
"""What lies nearer to the edge of the body or of the picture has no say in the window [mm at the detector]."""
WINDOW_PITCH = 3.0
"""Pixels of this size decide on the window, so that neither noise nor the number of pixels does [mm at the detector]."""

MOST = np.float32(80)
"""Exponent beyond which float32 soon overflows: black long before."""


@dataclass(frozen=True)
class Presentation:
    """How a signal becomes grey, bone bright. Each step has an off position.

    log: show the attenuation -ln(I/I0), off: the signal I itself, turned over; equalisation: share of large-scale brightness
    taken out, as digital systems do so that lung and mediastinum show in one picture, 0..0.9, 0 is off; reach: scale of what
    counts as large [mm at the detector]; detail: how much more contrast structures below detail_reach [mm at the detector] get,
    0..3, 0 is off; window: off, a straight line from no attenuation (0) to the strongest in the picture (1); darkest, brightest:
    percentiles of the rays through the body's bulk that the window's ends lie at; contrast: slope of an S-curve in the middle of
    the window, 1 that of DICOM's sigmoid (PS3.3 C.11.2.1.3.1), which no tissue burns out in, 0..4, 0 is a straight line.
    """

    log: bool = True
    equalisation: float = 0.6
    reach: float = 30.0
    detail: float = 2.0
    detail_reach: float = 3.0
    window: bool = True
    darkest: float = 0.5
    brightest: float = 99.8
    contrast: float = 0.8

    def __post_init__(self) -> None:
        if not (0 <= self.equalisation <= 0.9 and 0 <= self.detail <= 3 and 0 <= self.contrast <= 4):
            raise ChexanatomyError("A presentation takes equalisation in 0..0.9, detail in 0..3 and contrast in 0..4.")
        if min(self.reach, self.detail_reach) <= 0:
            raise ChexanatomyError("The reach of equalisation and of detail is above 0 mm.")
        if not 0 <= self.darkest < self.brightest <= 100:
            raise ChexanatomyError("The percentiles darkest and brightest must rise and lie between 0 and 100.")


PRESENTATIONS: Mapping[str, Presentation] = {
    "digital": Presentation(),
    "film": Presentation(equalisation=0.0, detail=0.0, contrast=1.4),
    "raw": Presentation(equalisation=0.0, detail=0.0, window=False, contrast=0.0),
}
"""What a digital system shows, what a film shows, and attenuation on a straight scale."""


def present(attenuation: np.ndarray, pitch: float | tuple[float, float], presentation: Presentation | None = None) -> np.ndarray:
    """Return float32 [row, column] in 0..1, bone bright, from attenuation -ln(I/I0) [row, column].

    pitch: of the pixels, along (row, column) where they are not square [mm].
    """
    row, column = np.broadcast_to(pitch, 2)
    pitch = float(row), float(column)
    look = presentation or Presentation()
    values = attenuation if look.log else 1 - np.exp(-attenuation)
    body = attenuation > BODY_ATTENUATION
    if not body.any():
        return np.zeros_like(attenuation, dtype=np.float32)
    if look.equalisation:
        values = values - np.float32(look.equalisation) * _surroundings(values, body, _pixels(look.reach, pitch))
    if look.detail:
        values = values + np.float32(look.detail) * (values - gaussian_blur(values, _pixels(look.detail_reach, pitch)))
    if not look.window:
        return np.clip(values / max(float(values.max()), 1e-6), 0, 1).astype(np.float32)
    low, high = _window(attenuation, values, pitch, look)
    grey = (values - low) / np.float32(max(high - low, 1e-6))
    if look.contrast:
        grey = 1 / (1 + np.exp(np.minimum((0.5 - grey) * np.float32(4 * look.contrast), MOST)))
    else:
        grey = np.clip(grey, 0, 1)
    return np.where(body, grey, grey * np.clip(attenuation / BODY_ATTENUATION, 0, 1)).astype(np.float32)


def _pixels(length: float, pitch: tuple[float, float]) -> tuple[float, float]:
    """A length [mm] in pixels along (row, column)."""
    return length / pitch[0], length / pitch[1]


def _surroundings(values: np.ndarray, body: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """Gaussian mean over the body alone, so that neither its edge nor the end of a CT gets a halo; sigma [pixels]."""
    inside = body.astype(np.float32)
    shares = gaussian_blur(inside, sigma)
    return gaussian_blur(values * inside, sigma) / np.maximum(shares, np.float32(1e-3))


def _window(attenuation: np.ndarray, values: np.ndarray, pitch: tuple[float, float], look: Presentation) -> tuple[float, float]:
    """What of values becomes black and what white."""
    strides = _whole(_pixels(WINDOW_PITCH, pitch))
    blocks = block_means(attenuation, strides)
    if not (blocks > BODY_ATTENUATION).any():  # a body smaller than a block: its own pixels decide
        return _ends(values[_bulk(attenuation)], look)
    bulk = _bulk(blocks)
    deep = _eroded(bulk, _whole(_pixels(RIM, (strides[0] * pitch[0], strides[1] * pitch[1]))))
    return _ends(block_means(values, strides)[deep if deep.any() else bulk], look)


def _whole(pixels: tuple[float, float]) -> tuple[int, int]:
    return max(1, round(pixels[0])), max(1, round(pixels[1]))


def _bulk(attenuation: np.ndarray) -> np.ndarray:
    """Rays, bool [row, column], that do not merely graze the body."""
    return np.asarray(attenuation > EDGE_OF_BODY * np.median(attenuation[attenuation > BODY_ATTENUATION]))


def _eroded(mask: np.ndarray, reach: tuple[int, int]) -> np.ndarray:
    """What of a mask [row, column] lies further than a reach [pixels] from its edge and the picture's, diagonally nearer."""
    from scipy import ndimage

    down, across = np.ogrid[-reach[0] : reach[0] + 1, -reach[1] : reach[1] + 1]
    near = abs(down) * reach[1] + abs(across) * reach[0] <= reach[0] * reach[1]
    return np.asarray(ndimage.binary_erosion(mask, near))


def _ends(values: np.ndarray, look: Presentation) -> tuple[float, float]:
    low, high = np.percentile(values, (look.darkest, look.brightest))
    return float(low), float(high)
