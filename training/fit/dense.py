"""The auxiliary loss: coarse masks straight from the vision tower's tokens, while training only. The shipped model has no such
head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class DenseHead(nn.Module):
    """One linear layer from a vision token to factor x factor mask values per structure."""

    def __init__(self, width: int, structures: int, factor: int, linear: nn.Linear | None = None) -> None:
        """linear: the layer, where the model itself has it (`training.model.reading`)."""
        super().__init__()
        self.factor = factor
        self.linear = linear or nn.Linear(width, structures * self.factor**2)

    def forward(self, vision: Tensor, chosen: Tensor | None = None) -> Tensor:
        """vision float [images, grid * grid, width] to logits [images, structures, grid * factor, grid * factor]. chosen: int64
        [k], the structures wanted."""
        images, tokens, width = vision.shape
        grid = round(tokens**0.5)
        weight: Tensor = self.linear.weight
        bias: Tensor = self.linear.bias
        if chosen is not None:
            weight = weight.view(-1, self.factor**2, width)[chosen].flatten(0, 1)
            bias = bias.view(-1, self.factor**2)[chosen].flatten()
        scores = functional.linear(vision.float(), weight, bias).transpose(1, 2).reshape(images, -1, grid, grid)
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


@torch.inference_mode()
def dense_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice per image and structure, float [images, structures], NaN where there is none. logits: of the head; masks: float
    [images, structures, side, side] of any side."""
    logits = functional.interpolate(logits, masks.shape[-2:], mode="bilinear", align_corners=False)
    drawn, there = logits > 0, masks > 0.5
    area = drawn.sum((2, 3)) + there.sum((2, 3))
    dice = 2 * (drawn & there).sum((2, 3)) / area.clamp_min(1)
    return dice.masked_fill(~there.any(3).any(2), torch.nan)
