"""Features evened out before the decoder reads them: the style of an image drawn towards the usual one.

The mean and the spread of each channel over an image say how it was taken. On real radiographs they are others than on the
synthetic ones that a model was taught with, and a decoder that leans on them misplaces what the vision tower sees. Measured in
docs/training.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

LEAST = 1e-5
Style = tuple[Tensor, Tensor]
"""Standard deviation and mean over an image's places, float [images, 1, width] each."""


def style_of(features: Tensor) -> Style:
    """The styles of features float [images, places, width]."""
    spread, middle = torch.std_mean(features, dim=1, keepdim=True)
    return spread, middle


def in_style(features: Tensor, own: Style, new: Style) -> Tensor:
    """Features of one style in another one."""
    return (features - own[1]) * (new[0] / (own[0] + LEAST)) + new[1]


class EvenedProjector(nn.Module):
    """PaliGemma's projector, behind features whose style is, by a share, the usual one.

    linear: PaliGemma's own layer, features to embeddings; middle, spread: the usual mean and standard deviation of each channel,
    float [width]; share: 0 leaves features as they are, 1 gives every image the usual style.
    """

    middle: Tensor
    spread: Tensor

    def __init__(self, linear: nn.Linear, share: float) -> None:
        super().__init__()
        self.linear, self.share = linear, share
        self.register_buffer("middle", torch.zeros(linear.in_features))
        self.register_buffer("spread", torch.ones(linear.in_features))

    def forward(self, features: Tensor) -> Tensor:
        """features float [images, places, width] to what the decoder reads, float [images, places, width of the decoder]."""
        spread, middle = own = style_of(features)
        new = torch.lerp(spread, self.spread, self.share), torch.lerp(middle, self.middle, self.share)
        embedded: Tensor = self.linear(in_style(features, own, new))
        return embedded

    @torch.no_grad()
    def learn(self, features: Iterable[Tensor]) -> None:
        """Take for usual what features float [images, places, width] have in the mean over images."""
        styles = [style_of(seen.float()) for seen in features]
        for usual, parts in zip((self.spread, self.middle), zip(*styles, strict=True), strict=True):
            usual.copy_(torch.cat(parts).mean((0, 1)))
