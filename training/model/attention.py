"""Attention of many segments behind one image, with the image's keys and values read once for all of them.

Repeating the image's keys for every prompt makes hundreds of small products; folding the prompts of an image into one product
does the same arithmetic several times as fast on a CPU. The results are those of `scaled_dot_product_attention` up to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "chexanatomy_shared"
"""Under this name transformers knows the function (`attn_implementation`)."""


def shared_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    shared: int = 0,
    repeats: int = 1,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers' attention functions; query float [n, heads, length, width], key and value [n, key heads, keys, width].

    shared: how many leading keys are the same in every `repeats` rows, and seen by every query; attention_mask: bool [n, 1,
    length, keys]. Without them, or with dropout, this is transformers' own function.
    """
    if shared == 0 or attention_mask is None or dropout:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    n, heads, length, width = query.shape
    kinds = key.shape[1]
    rows, images = heads // kinds * length, n // repeats
    scale = scaling if scaling is not None else width**-0.5
    own = query.reshape(n, kinds, rows, width) * scale
    folded = own.view(images, repeats, kinds, rows, width).transpose(1, 2).reshape(images, kinds, repeats * rows, width)
    seen = folded @ key[::repeats, :, :shared].transpose(-1, -2)
    seen = seen.view(images, kinds, repeats, rows, shared).transpose(1, 2).reshape(n, kinds, rows, shared)
    written = own @ key[:, :, shared:].transpose(-1, -2)
    allowed = attention_mask[:, :, None, :, shared:].expand(-1, kinds, heads // kinds, -1, -1).reshape(n, kinds, rows, -1)
    scores = torch.cat([seen, written.masked_fill(~allowed, torch.finfo(written.dtype).min)], -1)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    looked, recalled = weights.split([shared, key.shape[2] - shared], -1)
    looked = looked.reshape(images, repeats, kinds, rows, shared).transpose(1, 2).reshape(images, kinds, repeats * rows, shared)
    result = (looked @ value[::repeats, :, :shared]).view(images, kinds, repeats, rows, width).transpose(1, 2)
    result = result.reshape(n, kinds, rows, width) + recalled @ value[:, :, shared:]
    return result.view(n, heads, length, width).transpose(1, 2), None


AttentionInterface.register(NAME, shared_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
