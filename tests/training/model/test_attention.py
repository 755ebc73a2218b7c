"""Folding an image's prompts into one product changes the speed of attention, not what it says."""

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from training.fit.batches import Batch
from training.fit.pupils import TokenPupil
from training.fit.settings import PretrainConfig
from training.model.attention import NAME, shared_attention

IMAGES, REPEATS, LENGTH, SHARED, WIDTH = 3, 4, 7, 10, 16


class Attention:
    """What the functions read off a layer: four query heads share one key head, or two do."""

    is_causal, training = True, True

    def __init__(self, groups):
        self.num_key_value_groups = groups


@pytest.mark.parametrize("key_heads", [1, 2])
def test_shared_attention_and_its_gradients_equal_the_plain_one(key_heads):
    torch.manual_seed(0)
    n = IMAGES * REPEATS
    query = torch.randn(n, 4, LENGTH, WIDTH, requires_grad=True)
    image = [torch.randn(IMAGES, key_heads, SHARED, WIDTH, requires_grad=True) for _ in range(2)]
    own = [torch.randn(n, key_heads, LENGTH, WIDTH, requires_grad=True) for _ in range(2)]
    key, value = (torch.cat([i.repeat_interleave(REPEATS, 0), o], 2) for i, o in zip(image, own, strict=True))
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril().expand(n, 1, LENGTH, LENGTH)
    mask = torch.cat([torch.ones(n, 1, LENGTH, SHARED, dtype=torch.bool), causal], -1)
    layer = Attention(4 // key_heads)

    plain, _ = sdpa_attention_forward(layer, query, key, value, mask)
    shared, _ = shared_attention(layer, query, key, value, mask, shared=SHARED, repeats=REPEATS)

    torch.testing.assert_close(shared, plain)
    weight = torch.randn_like(plain)
    inputs = [query, *image, *own]
    for a, b in zip(
        torch.autograd.grad((shared * weight).sum(), inputs, retain_graph=True),
        torch.autograd.grad((plain * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_model_in_training_uses_it_and_learns_the_same(tmp_path, codebook_file, monkeypatch):
    from training.model import packing
    from training.model.packing import Segment, Segments

    config = PretrainConfig(
        (), tmp_path, codebook_file, image_size=32, patch=16, vision_width=32, vision_depth=1, text_width=32, text_depth=2,
        text_hidden=64, heads=4, queries=2, dense=0.0, max_steps=1,
    )  # fmt: skip
    pupil = TokenPupil(config, ("heart", "liver"))
    assert pupil.checkpoint.model.config.get_text_config()._attn_implementation == NAME
    tokens = pupil._tokens
    asked = [
        Segment(tokens.prompt(f"segment {name}"), (*tokens.encode(f"none {name}"), tokens.eos)) for name in ("heart", "liver")
    ]
    segments = Segments.of(asked * 2, tokens.pad)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    no_masks = (torch.zeros(0, 64, 64), torch.zeros(0).long(), torch.zeros(2, 0, 8, 8), torch.zeros(2, 0).bool())
    batch = Batch(pixels, segments, *no_masks)
    folded: list[object] = []
    original = packing._decode
    monkeypatch.setattr(packing, "_decode", lambda *a, **k: (folded.append(a[5:]), original(*a, **k))[1])

    shared, _ = pupil.learner(batch)
    pupil.checkpoint.model.config.get_text_config()._attn_implementation = "sdpa"
    plain, _ = pupil.learner(batch)

    assert ({"shared": 5, "repeats": 2},) in folded
    torch.testing.assert_close(shared, plain, atol=1e-5, rtol=1e-5)
