"""Patches that see their neighbours alone: what lies far off tells them less of where a structure ought to be.

Where every patch sees every other, a tower can learn from synthetic bodies how structures usually lie beside each other, and
tell that instead of what is to be seen. Within a reach, a patch tells of its surroundings, which grow by the reach with every
layer; in the decoder <bos> still sees all, and all see it. What that was worth in a short trial is in docs/training.md. Windows
are as in Beltagy et al., "Longformer", arXiv 2004.05150, in two dimensions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def within(side: int, reach: int, device: torch.device | str = "cpu") -> Tensor:
    """Which patches of a square of side x side see each other, bool [patches, patches]: those no more than `reach` rows and no
    more than `reach` columns apart."""
    line = torch.arange(side, device=device)
    near = (line[:, None] - line[None]).abs() <= reach
    return (near[:, None, :, None] & near[None, :, None, :]).reshape(side * side, side * side)


def see_nearby(encoder: nn.Module, reach: int) -> None:
    """Have the patches in every layer of a SigLIP encoder see those within reach alone."""
    encoder.register_forward_pre_hook(partial(_masked, reach), with_kwargs=True)


def _masked(reach: int, encoder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    patches = kwargs["inputs_embeds"]
    images, count, _ = patches.shape
    seen = within(round(count**0.5), reach, patches.device)
    return args, {**kwargs, "attention_mask": seen.expand(images, 1, -1, -1)}
