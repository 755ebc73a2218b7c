"""Answers written under the grammar: every one is four ordered locations and sixteen codes, or "none"."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from training.model.packing import Prefix, Segment, Segments, begin, logits_of, read, step
from training.model.special import SpecialTokens
from training.tokens.boxes import LOC_BINS
from training.tokens.grammar import CODES_PER_MASK

# The expected bin is taken over this neighbourhood of the likeliest one, so that two distant candidates are never averaged.
EXPECTATION_BINS = 24


@dataclass(frozen=True)
class Written:
    """One answer. presence: probability that the structure is there, 0..1; bins: (y0, x0, y1, x1); codes: 16 mask codes;
    box_spread: standard deviation of each edge [bins]; code_entropy: of each code [nats]; code_shares: float32 [16, codes of the
    codebook], how probable each code was at each place, where it was asked for."""

    presence: float
    bins: tuple[int, int, int, int]
    codes: tuple[int, ...]
    box_spread: tuple[float, ...]
    code_entropy: tuple[float, ...]
    code_shares: Tensor | None = field(default=None, compare=False, repr=False)


@torch.inference_mode()
def write(
    model: Any,
    tokens: SpecialTokens,
    prefix: Prefix,
    prompts: Sequence[tuple[int, ...]],
    *,
    batch: int = 32,
    expectation: bool = False,
    shares: bool = False,
) -> list[Written]:
    """Answer "segment" prompts about one image, greedily, `batch` at a time. shares: tell how probable every code was."""
    written: list[Written] = []
    for start in range(0, len(prompts), batch):
        chunk = Segments.of([Segment(p) for p in prompts[start : start + batch]], tokens.pad).to(prefix.features.device)
        written += _write(model, tokens, prefix, chunk, expectation, shares)
    return written


def _write(model: Any, tokens: SpecialTokens, prefix: Prefix, chunk: Segments, expectation: bool, shares: bool) -> list[Written]:
    device = chunk.ids.device
    loc, seg = tokens.loc.to(device), tokens.seg.to(device)
    now = begin(model, prefix, chunk, len(chunk.ids), copy.deepcopy(prefix.cache))
    first = now.logits.softmax(-1)
    there, none = first[:, loc].sum(-1), first[:, tokens.none]
    presence = there / (there + none).clamp_min(1e-12)
    ruler = torch.arange(LOC_BINS, device=device)
    bins: list[Tensor] = []
    spread: list[Tensor] = []
    for edge in range(4):
        if edge:
            now = step(model, now, loc[bins[-1]])
        scores = now.logits[:, loc]
        allowed = ruler[None] > bins[edge - 2][:, None] if edge >= 2 else (ruler < LOC_BINS - 1)[None].expand_as(scores)
        p = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
        best = p.argmax(-1)
        if expectation:
            near = p * ((ruler[None] - best[:, None]).abs() <= EXPECTATION_BINS)
            best = ((near * ruler).sum(-1) / near.sum(-1)).round().long()
            best = torch.minimum(torch.maximum(best, allowed.int().argmax(-1)), ruler[-1] if edge >= 2 else ruler[-2])
        bins.append(best)
        mean = (p * ruler).sum(-1, keepdim=True)
        spread.append((p * (ruler[None] - mean).square()).sum(-1).sqrt())
    codes: list[Tensor] = []
    entropy: list[Tensor] = []
    probable: list[Tensor] = []
    for place in range(CODES_PER_MASK):
        now = step(model, now, seg[codes[-1]] if place else loc[bins[-1]])
        scores = now.logits[:, seg].log_softmax(-1)
        codes.append(scores.argmax(-1))
        probable.append(scores.exp())
        entropy.append(-(probable[-1] * scores).sum(-1))
    rows = zip(
        presence.tolist(),
        torch.stack(bins, 1).tolist(),
        torch.stack(codes, 1).tolist(),
        torch.stack(spread, 1).tolist(),
        torch.stack(entropy, 1).tolist(),
        torch.stack(probable, 1).float().cpu() if shares else [None] * len(chunk.ids),
        strict=True,
    )
    return [Written(p, (b[0], b[1], b[2], b[3]), tuple(c), tuple(s), tuple(e), q) for p, b, c, s, e, q in rows]


@torch.inference_mode()
def speak(model: Any, tokens: SpecialTokens, prefix: Prefix, prompt: tuple[int, ...], most: int = 200) -> list[int]:
    """Answer any prompt freely and greedily, until the model ends its answer or after `most` tokens; returns the ids."""
    asked = Segments.of([Segment(prompt)], tokens.pad).to(prefix.features.device)
    now = begin(model, prefix, asked, 1, copy.deepcopy(prefix.cache))
    said: list[int] = []
    while len(said) < most:
        best = now.logits.argmax(-1)
        if int(best) == tokens.eos:
            break
        said.append(int(best))
        now = step(model, now, best)
    return said


@torch.inference_mode()
def score(model: Any, tokens: SpecialTokens, prefix: Prefix, segments: Sequence[Segment], *, batch: int = 64) -> list[float]:
    """Log-probability of each segment's answer after its prompt."""
    scores: list[float] = []
    for start in range(0, len(segments), batch):
        chunk = Segments.of(segments[start : start + batch], tokens.pad).to(prefix.features.device)
        hidden, _, _ = read(model, prefix, chunk, len(chunk.ids), copy.deepcopy(prefix.cache))
        row, position, wanted = chunk.targets()
        said = logits_of(model, hidden[row, position]).log_softmax(-1).gather(1, wanted[:, None])[:, 0]
        scores += torch.zeros(len(chunk.ids), device=said.device).index_add_(0, row, said).tolist()
    return scores
