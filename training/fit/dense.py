"""The auxiliary loss: coarse masks straight from the vision tower's tokens, while training only. The shipped model has no such
head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class DenseHead(nn.Module):
    """One linear layer from a vision token to factor x factor mask values per structure."""

    factor = 4

    def __init__(self, width: int, structures: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, structures * self.factor**2)

    def forward(self, vision: Tensor) -> Tensor:
        """vision float [images, grid * grid, width] to logits [images, structures, grid * factor, grid * factor]."""
        images, tokens, _ = vision.shape
        grid = round(tokens**0.5)
        scores: Tensor = self.linear(vision.float()).transpose(1, 2).reshape(images, -1, grid, grid)
        return functional.pixel_shuffle(scores, self.factor)


def dense_loss(logits: Tensor, masks: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy plus Dice over the known structures. logits, masks: float [images, structures, side, side]; known:
    bool [images, structures]."""
    known = known & (masks.flatten(2).amax(-1) > 0)
    if not known.any():
        return logits.sum() * 0
    scores, aim = logits[known], masks[known]
    entropy = functional.binary_cross_entropy_with_logits(scores, aim)
    p = torch.sigmoid(scores)
    overlap = 2 * (p * aim).sum((1, 2)) / (p.sum((1, 2)) + aim.sum((1, 2)) + 1)
    return entropy + 1 - overlap.mean()
