"""What answers are compared with: near misses of a location count less than far ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from training.model.packing import Segments
from training.model.special import SpecialTokens
from training.tokens.boxes import LOC_BINS

if TYPE_CHECKING:
    from training.tokens.codebook import MaskCodebook


def token_loss(
    logits: Tensor, targets: Tensor, tokens: SpecialTokens, sigma: float, aims: Tensor | None, weight: Tensor | None = None
) -> tuple[Tensor, dict[str, tuple[float, int]]]:
    """Mean cross-entropy of answer tokens, and sums and counts of what is watched.

    logits: float32 [k, vocabulary]; targets: int64 [k]; locations are aimed at with a Gaussian of `sigma` bins, mask codes with
    `aims` (see `code_aims`; None: the right one alone), text plainly, and by `weight` float [k] where it is given.
    """
    scores = logits.log_softmax(-1)
    bins, codes = tokens.bin_of.to(targets.device)[targets], tokens.code_of.to(targets.device)[targets]
    is_box, is_code = bins >= 0, codes >= 0
    loss = -scores.gather(1, targets[:, None])[:, 0]
    words = ~is_box & ~is_code
    parts = [loss[words] if weight is None else weight[words] * loss[words]]
    watched: dict[str, tuple[float, int]] = {}
    if is_box.any():
        here = scores[is_box][:, tokens.loc.to(targets.device)]
        ruler = torch.arange(LOC_BINS, device=targets.device)
        if sigma > 0:
            aim = torch.exp(-0.5 * ((ruler - bins[is_box][:, None]) / sigma) ** 2)
            parts.append(-(here * aim / aim.sum(1, keepdim=True)).sum(1))
        else:
            parts.append(loss[is_box])
        error = (here.detach().argmax(1) - bins[is_box]).abs().float()
        watched["box_error"] = (float(error.sum()), len(error))
    if is_code.any():
        here = scores[is_code][:, tokens.seg.to(targets.device)]
        parts.append(loss[is_code] if aims is None else -(here * aims.to(here.device)[codes[is_code]]).sum(1))
        right = here.detach().argmax(1) == codes[is_code]
        watched["code_accuracy"] = (float(right.sum()), len(right))
    everything = torch.cat(parts)
    return everything.mean(), watched


def code_aims(codebook: MaskCodebook, smoothing: float, near: float = 0.0) -> Tensor:
    """What is aimed at for each right code, float32 [128, 128], rows of sum 1: the code, and others the more, the more alike they
    are. smoothing: share that all codes have alike; near: how far off a code's vector may be to count as alike, as a share of the
    codebook's mean squared distance, 0 for the right code alone."""
    vectors = codebook.embedding.detach().float().cpu()
    distance = torch.cdist(vectors, vectors) ** 2
    alike = torch.softmax(-distance / (near * distance.mean()), 1) if near else torch.eye(len(vectors))
    return (1 - smoothing) * alike + smoothing / len(vectors)


def names_alone(segments: Segments, tokens: SpecialTokens) -> Tensor:
    """bool [n]: answers that are a name and nothing else."""
    first = segments.aims[torch.arange(len(segments.aims), device=segments.aims.device), segments.prompt]
    bins, codes = (of.to(first.device)[first] for of in (tokens.bin_of, tokens.code_of))
    return (bins < 0) & (codes < 0) & (first != tokens.none)


def mask_loss(codes: Tensor, crops: Tensor, codebook: MaskCodebook) -> Tensor:
    """Cross-entropy and Dice of the mask that the codes are expected to draw: codes that draw nearly the same cost little.

    codes: float32 [n, 16, 128], scores of every code at every place; crops: float32 [n, 64, 64], the wanted mask in its box.
    """
    home, crops = codes.device, crops.to(codebook.embedding.device)
    drawn = codebook.logits(codes.to(crops.device).softmax(-1) @ codebook.embedding)
    p = torch.sigmoid(drawn)
    overlap = (2 * (p * crops).sum((1, 2)) + 1) / (p.sum((1, 2)) + crops.sum((1, 2)) + 1)
    return (functional.binary_cross_entropy_with_logits(drawn, crops) + 1 - overlap.mean()).to(home)
