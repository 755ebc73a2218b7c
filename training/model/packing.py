"""Many prompts behind one image: the image's keys and values are computed once and shared by every prompt.

The image tokens and <bos> see each other (image tokens those nearby, where a model has a reach: `training.model.nearby`); a
segment (prompt, newline, answer) sees them and itself, its prompt both ways, its answer causally. So the shared part never
depends on a prompt, and a segment's result is the same alone or among others.
A stock PaliGemma differs: there the image sees the prompt too, so nothing can be shared and each prompt brings its image along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from training.model.attention import NAME as SHARED
from training.model.nearby import within


@dataclass(frozen=True)
class Segment:
    """One question and, for training, its answer, as token ids. aim: what would have been right at each place of an answer that
    is not right everywhere; empty where it is."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...] = ()
    aim: tuple[int, ...] = ()


@dataclass(frozen=True)
class Segments:
    """Segments side by side, padded on the right: ids int64 [n, length]; prompt and total lengths int64 [n]; aims int64 [n,
    length], the ids that would have been right in their place."""

    ids: Tensor
    prompt: Tensor
    total: Tensor
    aims: Tensor

    @classmethod
    def of(cls, segments: Sequence[Segment], pad: int) -> Segments:
        """Lay segments side by side."""
        rows = [(*s.prompt, *s.answer) for s in segments]
        longest = max(map(len, rows))

        def side_by_side(rows: Sequence[tuple[int, ...]]) -> Tensor:
            return torch.tensor([(*row, *([pad] * (longest - len(row)))) for row in rows])

        ids = side_by_side(rows)
        aims = side_by_side([(*s.prompt, *(s.aim or s.answer)) for s in segments]) if any(s.aim for s in segments) else ids
        return cls(ids, torch.tensor([len(s.prompt) for s in segments]), torch.tensor([len(row) for row in rows]), aims)

    @classmethod
    def none(cls) -> Segments:
        """No segment at all."""
        nothing, none = torch.zeros(0, 0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
        return cls(nothing, none, none, nothing)

    def to(self, device: torch.device | str) -> Segments:
        """The same on another device."""
        return Segments(self.ids.to(device), self.prompt.to(device), self.total.to(device), self.aims.to(device))

    def targets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return (row, position, id), int64 [k] each: the id that ought to stand after `position` in `row`, for every answer
        token."""
        place = torch.arange(self.ids.shape[1] - 1, device=self.ids.device)
        wanted = (place[None] >= self.prompt[:, None] - 1) & (place[None] < self.total[:, None] - 1)
        row, position = wanted.nonzero(as_tuple=True)
        return row, position, self.aims[row, position + 1]


@dataclass
class Prefix:
    """What an image leaves behind for its prompts.

    cache: keys and values of image and <bos>, one row per image, None for a stock model; features: float [images, tokens,
    width], as the decoder reads them; vision: float [images, tokens, width] of the vision tower; length: tokens + 1.
    """

    cache: Any
    features: Tensor
    vision: Tensor
    length: int


@dataclass
class Decoding:
    """A batch of prompts in the middle of being answered. logits: float [n, vocabulary] of the next token."""

    cache: Any
    logits: Tensor
    seen: Tensor
    position: Tensor


def see(model: Any, pixels: Tensor, *, packed: bool = True) -> Prefix:
    """Look at images once. pixels: float [images, 3, size, size] in -1..1."""
    outputs = model.model.get_image_features(pixels, return_dict=True)
    return recall(model, outputs.pooler_output, outputs.last_hidden_state, packed=packed)


def recall(model: Any, features: Tensor, vision: Tensor, *, packed: bool = True) -> Prefix:
    """Like `see`, from features [images, tokens, width] computed before."""
    images, tokens, _ = features.shape
    if not packed:
        return Prefix(None, features, vision, tokens + 1)
    from transformers import DynamicCache

    hidden = torch.cat([features, _embed(model, _bos(model, images, features.device))], 1)
    everything = torch.ones(1, 1, tokens + 1, tokens + 1, dtype=torch.bool, device=hidden.device)
    if reach := getattr(model.config.get_text_config(), "reach", 0):
        everything[..., :tokens, :tokens] = within(round(tokens**0.5), reach, hidden.device)
    position = torch.arange(1, tokens + 2, device=hidden.device)[None]
    cache = DynamicCache()
    _decode(model, hidden, everything, position, cache)
    return Prefix(cache, features, vision, tokens + 1)


def read(model: Any, prefix: Prefix, segments: Segments, repeats: int, cache: Any = None) -> tuple[Tensor, Any, Tensor]:
    """Run segments behind their images: `repeats` segments per image, in the images' order.

    Returns hidden states float [n, length, width] of the segments, the filled cache, and bool [n, 1, 1, keys] of the keys that
    later tokens of each segment may see. A packed prefix serves this call and no other: its cache is taken over, unless a copy
    is given.
    """
    n, length = segments.ids.shape
    device = segments.ids.device
    place = torch.arange(length, device=device)
    own = (place[None, None] <= place[None, :, None]) | (place[None, None] < segments.prompt[:, None, None])
    valid = place[None] < segments.total[:, None]
    before = torch.ones(n, prefix.length, dtype=torch.bool, device=device)
    words = _embed(model, segments.ids)
    seen = torch.cat([before, valid], 1)[:, None, None]
    if prefix.cache is not None:
        cache = cache if cache is not None else prefix.cache
        cache.batch_repeat_interleave(repeats)
        mask = torch.cat([before[:, None].expand(n, length, -1), own], 2)[:, None]
        position = (prefix.length + 1 + place)[None].expand(n, -1)
        return _decode(model, words, mask, position, cache, {"shared": prefix.length, "repeats": repeats}), cache, seen
    from transformers import DynamicCache

    cache = DynamicCache()
    images = prefix.features.repeat_interleave(repeats, 0)
    hidden = torch.cat([images, _embed(model, _bos(model, n, device)), words], 1)
    prompt = torch.cat([before, place[None] < segments.prompt[:, None]], 1)
    causal = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool, device=device).tril()
    mask = (causal[None] | prompt[:, None])[:, None]
    position = torch.arange(1, hidden.shape[1] + 1, device=device)[None].expand(n, -1)
    return _decode(model, hidden, mask, position, cache)[:, prefix.length :], cache, seen


def begin(model: Any, prefix: Prefix, segments: Segments, repeats: int, cache: Any = None) -> Decoding:
    """Read prompts (with any answer so far) and stand before the next token of each."""
    hidden, cache, seen = read(model, prefix, segments, repeats, cache)
    last = hidden[torch.arange(len(hidden), device=hidden.device), segments.total - 1]
    return Decoding(cache, logits_of(model, last), seen, prefix.length + 1 + segments.total)


def step(model: Any, decoding: Decoding, ids: Tensor) -> Decoding:
    """Add one token to each answer. ids: int64 [n]."""
    seen = torch.cat([decoding.seen, torch.ones_like(decoding.seen[..., :1])], -1)
    hidden = _decode(model, _embed(model, ids[:, None]), seen, decoding.position[:, None], decoding.cache)
    return Decoding(decoding.cache, logits_of(model, hidden[:, -1]), seen, decoding.position + 1)


def logits_of(model: Any, hidden: Tensor) -> Tensor:
    """Scores of the vocabulary, float32 [..., vocabulary], Gemma 2's soft cap included."""
    logits = model.lm_head(hidden).float()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def _embed(model: Any, ids: Tensor) -> Tensor:
    embedded: Tensor = model.get_input_embeddings()(ids)
    return embedded


def _bos(model: Any, rows: int, device: torch.device) -> Tensor:
    return torch.full((rows, 1), model.config.get_text_config().bos_token_id, device=device)


@lru_cache
def _cache_name(decoder: type[Any]) -> str:
    """What a decoder of transformers calls its cache: 5.24 gave it a shorter name."""
    return "cache" if "cache" in signature(decoder.forward).parameters else "past_key_values"


def _decode(
    model: Any, hidden: Tensor, mask: Tensor, position: Tensor, cache: Any, folding: Mapping[str, int] | None = None
) -> Tensor:
    """Run the decoder. mask: bool [rows or 1, 1, queries, keys], True where a query may look; folding: what
    `attention.shared_attention` may know of the keys."""
    text = model.config.get_text_config()
    mask = mask.expand(hidden.shape[0], -1, -1, -1)
    shared = text._attn_implementation == SHARED
    if text._attn_implementation != "sdpa" and not shared:
        mask = torch.zeros_like(mask, dtype=hidden.dtype).masked_fill(~mask, torch.finfo(hidden.dtype).min)
    masks: Any = mask if getattr(text, "sliding_window", None) is None else {"full_attention": mask, "sliding_attention": mask}
    # Layers that are recomputed on the way back cannot fill a cache, and while training nobody reads it.
    recomputed = model.training and model.is_activation_checkpointing
    output = model.model.language_model(
        inputs_embeds=hidden,
        attention_mask=masks,
        position_ids=position,
        use_cache=not recomputed,
        **{_cache_name(type(model.model.language_model)): None if recomputed else cache},  # type: ignore[arg-type]
        **(folding if shared and folding else {}),
    )
    result: Tensor = output.last_hidden_state
    return result
