"""Radiographs taken a little differently: the shifts under which two models are compared."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from training.evaluate.sources import Scored

EXPOSURE_MIDDLE = 1.0


@dataclass(frozen=True)
class Sweep:
    """One kind of shift. name, unit: for the page; levels: how strong, `still` is the level that changes nothing."""

    name: str
    unit: str
    levels: tuple[float, ...]
    still: float


SWEEPS = (
    Sweep("rotation", "degrees", (-20.0, -10.0, 0.0, 10.0, 20.0), 0.0),
    Sweep("magnification", "times", (0.6, 0.8, 1.0, 1.25, 1.5), 1.0),
    Sweep("crop", "share of each side cut away", (0.0, 0.08, 0.16, 0.24), 0.0),
    Sweep("exposure", "gamma", (0.4, 0.65, 1.0, 1.6, 2.5), 1.0),
    Sweep("noise", "standard deviation, share of full scale", (0.0, 0.03, 0.06, 0.12), 0.0),
)


def shifted(scored: Scored, kind: str, level: float) -> Scored:
    """The radiograph and its references under one shift; the noise depends on the radiograph's id alone."""
    pixels = scored.radiograph.pixels
    if kind in ("rotation", "magnification"):
        turn, zoom = (level, 1.0) if kind == "rotation" else (0.0, level)
        references = {k: _warped(m.astype(np.float32), turn, zoom, 0) > 0.5 for k, m in scored.references.items()}
        spacing = scored.radiograph.spacing
        spacing = (spacing[0] / zoom, spacing[1] / zoom) if spacing else None
        radiograph = replace(scored.radiograph, pixels=_warped(pixels, turn, zoom, 1), spacing=spacing)
        return replace(scored, radiograph=radiograph, references=references)
    if kind == "crop":
        rows, columns = (round(level * n) for n in pixels.shape)
        window = (slice(rows, pixels.shape[0] - rows), slice(columns, pixels.shape[1] - columns))
        radiograph = replace(scored.radiograph, pixels=np.ascontiguousarray(pixels[window]))
        return replace(scored, radiograph=radiograph, references={k: m[window] for k, m in scored.references.items()})
    if kind == "exposure":
        return replace(scored, radiograph=replace(scored.radiograph, pixels=(pixels**level).astype(np.float32)))
    if kind == "noise":
        rng = np.random.default_rng(zlib.crc32(scored.id.encode()))
        noisy = np.clip(pixels + level * rng.standard_normal(pixels.shape), 0, 1).astype(np.float32)
        return replace(scored, radiograph=replace(scored.radiograph, pixels=noisy))
    raise ValueError(f"There is no shift called {kind}.")


def _warped(image: np.ndarray, degrees: float, zoom: float, order: int) -> np.ndarray:
    """Turn and magnify about the centre, float32 of the same size; what comes from outside is 0."""
    from scipy import ndimage

    angle = np.radians(degrees)
    inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
    middle = (np.array(image.shape) - 1) / 2
    moved: np.ndarray = ndimage.affine_transform(image, inverse, middle - inverse @ middle, order=order, output=np.float32)
    return moved
