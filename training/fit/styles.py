"""Features of one image in the style of another, so that what is learnt of them does not hang on it.

The mean and the spread of each channel over an image say how it was taken, rather than what is where in it. Images of a step take
them from each other (MixStyle: Zhou et al., "Domain generalization with MixStyle", arXiv 2104.02008), where a picture has become
features and where the decoder reads them, so that neither expects the styles of the bodies it was taught with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from training.model.evened import in_style, style_of


def draw_styles(images: int, chance: float, rng: np.random.Generator) -> Tensor:
    """How much of each image's style (columns) the images of a step (rows) get, float32 [images, images]: each with a chance a
    part of another's, evenly drawn between none and all."""
    part = rng.uniform(0, 1, images) * (rng.random(images) < chance)
    mixed = np.diag(1 - part)
    mixed[np.arange(images), rng.permutation(images)] += part
    return torch.from_numpy(mixed.astype(np.float32))


def restyled(features: Tensor, styles: Tensor) -> Tensor:
    """Features float [images, places, width] with means and standard deviations over places mixed as `draw_styles` says."""
    with torch.no_grad():
        spread, middle = style_of(features)
        mixed = styles.to(features.dtype)
        new = torch.einsum("ij,jpc->ipc", mixed, spread), torch.einsum("ij,jpc->ipc", mixed, middle)
    return in_style(features, (spread, middle), new)


@contextmanager
def exchanged(layer: nn.Module, styles: Tensor | None) -> Iterator[None]:
    """While it lasts, what a layer gives out, float [images, width, rows, columns], is restyled; None leaves it."""
    if styles is None:
        yield
        return

    def restyle(_layer: nn.Module, _given: object, out: Tensor) -> Tensor:
        return restyled(out.flatten(2).mT, styles).mT.reshape(out.shape)

    hook = layer.register_forward_hook(restyle)
    try:
        yield
    finally:
        hook.remove()
