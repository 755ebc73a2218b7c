"""Many prompts behind one image give what each gives alone."""

from __future__ import annotations

import copy

import pytest
import torch

from training.model.checkpoint import Checkpoint, create
from training.model.packing import Segment, Segments, begin, logits_of, read, see, step
from training.model.special import SpecialTokens
from training.tokens.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    tokenizer = build_tokenizer()
    sizes = {"image_size": 64, "vision_width": 32, "vision_depth": 2, "text_width": 32, "text_depth": 2, "text_hidden": 64}
    return create(tokenizer, None, seed=3, **sizes)


@pytest.fixture(scope="module")
def tokens(checkpoint: Checkpoint) -> SpecialTokens:
    return SpecialTokens(checkpoint.tokenizer)


def segments_of(tokens: SpecialTokens) -> list[Segment]:
    return [
        Segment(
            tokens.prompt("segment heart"), (*tokens.encode("<loc0010><loc0100><loc0500><loc0600><seg001> heart"), tokens.eos)
        ),
        Segment(tokens.prompt("segment upper lobe of the right lung"), (*tokens.encode("<loc0010><loc0100>"),)),
        Segment(tokens.prompt("name the view"), (*tokens.encode("PA"), tokens.eos)),
    ]


def alone(checkpoint: Checkpoint, pixels: torch.Tensor, segment: Segment) -> torch.Tensor:
    """Logits [length, vocabulary] of one segment through transformers' own forward, with the whole mask written out."""
    model = checkpoint.model
    n = model.config.text_config.num_image_tokens + 1
    ids = torch.tensor(
        [[*[model.config.image_token_index] * (n - 1), model.config.text_config.bos_token_id, *segment.prompt, *segment.answer]]
    )
    length, prompt_end = ids.shape[1], n + len(segment.prompt)
    mask = torch.zeros(length, length, dtype=torch.bool)
    for query in range(length):
        for key in range(length):
            both_image = query < n and key < n
            own_prompt = query >= n and key < prompt_end
            mask[query, key] = both_image or own_prompt or (query >= n and key <= query)
    position = torch.arange(1, length + 1)[None]
    out = model(input_ids=ids, pixel_values=pixels[None], attention_mask=mask[None, None], position_ids=position)
    return out.logits[0, n:]


@torch.inference_mode()
def test_packed_logits_equal_one_by_one_logits(checkpoint: Checkpoint, tokens: SpecialTokens) -> None:
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    asked = segments_of(tokens)
    together = Segments.of([*asked, *asked[::-1]], tokens.pad)
    hidden, _, _ = read(checkpoint.model, see(checkpoint.model, pixels), together, 3)
    packed = logits_of(checkpoint.model, hidden)
    for row, (image, segment) in enumerate([*((0, s) for s in asked), *((1, s) for s in asked[::-1])]):
        single = alone(checkpoint, pixels[image], segment)
        assert torch.allclose(packed[row, : len(single)], single, atol=1e-5)


@torch.inference_mode()
def test_an_image_shared_in_the_cache_answers_like_full_recomputation(checkpoint: Checkpoint, tokens: SpecialTokens) -> None:
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    prefix = see(checkpoint.model, pixels)
    prompts = [Segment(s.prompt) for s in segments_of(tokens)]
    now = begin(checkpoint.model, prefix, Segments.of(prompts, tokens.pad), 3, copy.deepcopy(prefix.cache))
    written: list[list[int]] = [[], [], []]
    for _ in range(5):
        best = now.logits.argmax(-1)
        for row, segment in enumerate(prompts):
            single = alone(checkpoint, pixels[0], Segment(segment.prompt, tuple(written[row])))[-1]
            assert torch.allclose(now.logits[row], single, atol=1e-5)
            written[row].append(int(best[row]))
        now = step(checkpoint.model, now, best)


@torch.inference_mode()
def test_without_packing_the_image_sees_the_prompt_as_in_stock_paligemma(checkpoint: Checkpoint, tokens: SpecialTokens) -> None:
    model = checkpoint.model
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    segment = segments_of(tokens)[0]
    hidden, _, _ = read(model, see(model, pixels, packed=False), Segments.of([segment], tokens.pad), 1)
    n = model.config.text_config.num_image_tokens + 1
    ids = torch.tensor([[*[model.config.image_token_index] * (n - 1), tokens.bos, *segment.prompt, *segment.answer]])
    types = torch.tensor([[0] * (n + len(segment.prompt)) + [1] * len(segment.answer)])
    stock = model(input_ids=ids, pixel_values=pixels, token_type_ids=types, attention_mask=torch.ones_like(ids)).logits[0, n:]
    assert torch.allclose(logits_of(model, hidden)[0], stock, atol=1e-5)
    packed, _, _ = read(model, see(model, pixels), Segments.of([segment], tokens.pad), 1)
    assert not torch.allclose(logits_of(model, packed)[0], stock, atol=1e-3)


def test_targets_are_the_answer_tokens_and_nothing_else(tokens: SpecialTokens) -> None:
    asked = segments_of(tokens)
    row, position, wanted = Segments.of(asked, tokens.pad).targets()
    for i, segment in enumerate(asked):
        assert tuple(wanted[row == i].tolist()) == segment.answer
        assert position[row == i][0] == len(segment.prompt) - 1


def test_the_image_gets_gradients_from_every_question(checkpoint: Checkpoint, tokens: SpecialTokens) -> None:
    pixels = torch.randn(1, 3, 64, 64, requires_grad=True)
    together = Segments.of(segments_of(tokens), tokens.pad)
    hidden, _, _ = read(checkpoint.model, see(checkpoint.model, pixels), together, 3)
    for row in range(3):
        (gradient,) = torch.autograd.grad(hidden[row, -1].sum(), pixels, retain_graph=True)
        assert gradient.abs().max() > 0
