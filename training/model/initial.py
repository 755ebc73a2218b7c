"""How chexanatomy-tiny starts: weights at random, but what is known of places and codes is written into the embeddings.

Positions in the image, location tokens and mask codes have neighbours; a table of random vectors would have to learn which.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model.special import SpecialTokens
from training.tokens.codebook import MaskCodebook

TOKEN_SCALE = 0.02
"""Root mean square of token embeddings, Gemma's own."""


@torch.no_grad()
def inform(model: Any, tokens: SpecialTokens, codebook: MaskCodebook | None) -> None:
    """Give a new model smooth embeddings of places and codes, places as strong as what is seen there (SigLIP starts them at a
    tenth of that), and a decoder scaled to its width (Gemma's 0.02 suits widths of thousands)."""
    vision, text = model.config.vision_config, model.config.get_text_config()
    positions = model.model.vision_tower.embeddings.position_embedding.weight
    positions.copy_(place_waves(vision.image_size // vision.patch_size, vision.hidden_size))
    table = model.get_input_embeddings().weight
    table[tokens.loc] = bin_waves(len(tokens.loc), text.hidden_size) * TOKEN_SCALE
    if codebook is not None:
        codes = codebook.embedding.detach().float().cpu()
        codes = (codes - codes.mean(0)) / codes.std()
        turned = codes @ torch.linalg.qr(torch.randn(max(codes.shape[1], text.hidden_size), codes.shape[1]))[0].T
        turned = turned[:, : text.hidden_size]
        table[tokens.seg] = turned / turned.square().mean().sqrt() * TOKEN_SCALE
    for name, module in model.model.language_model.named_modules():
        if isinstance(module, nn.Linear):
            deep = (2 * text.num_hidden_layers) ** -0.5 if name.endswith(("o_proj", "down_proj")) else 1.0
            module.weight.normal_(0, deep * module.in_features**-0.5)
    projector = model.model.multi_modal_projector.linear
    projector.weight.normal_(0, projector.in_features**-0.5)


def place_waves(side: int, width: int) -> Tensor:
    """Sines and cosines of row and column, float32 [side * side, width] with unit root mean square."""
    frequency = (1 / 100) ** (torch.arange(width // 4) / max(1, width // 4 - 1)) * torch.pi
    waves = [f(torch.arange(side)[:, None] * frequency[None]) for f in (torch.sin, torch.cos)]
    line = torch.cat(waves, 1) * 2**0.5
    rows, columns = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    table = torch.cat([rows, columns], -1).reshape(side * side, -1)
    return functional.pad(table, (0, width - table.shape[1]))


def bin_waves(bins: int, width: int) -> Tensor:
    """Sines and cosines of a position along one side, float32 [bins, width] with unit root mean square: neighbours are alike."""
    frequency = torch.pi * 0.5 * 64 ** (torch.arange(width // 2) / max(1, width // 2 - 1))
    phase = torch.linspace(0, 1, bins)[:, None] * frequency[None]
    return torch.cat([torch.sin(phase), torch.cos(phase)], 1) * 2**0.5
