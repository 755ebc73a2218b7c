"""Patches that see their neighbours alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.errors import ChexanatomyError
from training.fit import PretrainConfig
from training.model.checkpoint import create, save_checkpoint
from training.model.loading import load_checkpoint
from training.model.nearby import within
from training.model.packing import see
from training.tokens.tokenizer import build_tokenizer

SIZES = {
    "image_size": 128, "patch": 16, "vision_width": 16, "vision_depth": 2, "text_width": 16, "text_depth": 2, "text_hidden": 32,
    "heads": 2,
}  # fmt: skip


def test_patches_within_reach_are_neighbours_in_rows_and_columns():
    seen = within(5, 1)
    assert seen.shape == (25, 25)
    assert torch.equal(seen, seen.T)
    assert seen[12].nonzero()[:, 0].tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    assert seen[0].nonzero()[:, 0].tolist() == [0, 1, 5, 6]
    assert not seen[4, 5]  # side by side in memory, at both ends of the picture
    assert within(5, 4).all()


@torch.inference_mode()
def changed(reach: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Which patches' features, bool [8, 8], and which of their keys in the decoder's last layer change with the corner patch."""
    model = create(build_tokenizer(), None, **SIZES, **reach).model
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    other = pixels.clone()
    other[..., :16, :16] = 0
    looks = [see(model, p) for p in (pixels, other)]
    vision = (looks[0].vision - looks[1].vision).abs().amax(-1)[0] > 1e-6
    keys = [look.cache.layers[-1].keys[0, 0, :-1] for look in looks]
    return vision.view(8, 8), ((keys[0] - keys[1]).abs().amax(-1) > 1e-6).view(8, 8)


def corner(reach: int) -> torch.Tensor:
    near = torch.arange(8) <= reach
    return near[:, None] & near[None]


def test_what_a_patch_says_depends_on_what_its_reach_goes_to_in_as_many_steps_as_there_are_layers():
    vision, keys = changed({})
    assert vision.all()
    assert keys.all()
    vision, keys = changed({"vision_reach": 1})
    assert torch.equal(vision, corner(2))
    assert keys.all()
    vision, keys = changed({"vision_reach": 1, "text_reach": 2})
    assert torch.equal(vision, corner(2))
    # The keys of the second layer are made of what went through the first. <bos> sees all, and only later layers see that.
    assert torch.equal(keys, corner(4))


def test_a_model_keeps_its_reach(tmp_path: Path):
    made = create(build_tokenizer(), None, **SIZES, vision_reach=1, text_reach=2)
    opened = load_checkpoint(save_checkpoint(made, tmp_path / "model")).model.float()
    pixels = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before, after = (see(model, pixels) for model in (made.model, opened))
    assert torch.allclose(before.vision, after.vision, atol=0.02)
    assert torch.allclose(before.cache.layers[-1].keys, after.cache.layers[-1].keys, atol=0.05)
    assert (opened.config.vision_config.reach, opened.config.text_config.reach) == (1, 2)


def test_only_our_own_model_has_a_reach(tmp_path: Path):
    plain = PretrainConfig(datasets=(tmp_path,), out=tmp_path / "run", vision_reach=2)
    with pytest.raises(ChexanatomyError, match="leave out vision_reach"):
        replace(plain, unet=True)
    with pytest.raises(ChexanatomyError, match="leave out vision_reach"):
        replace(plain, base="somewhere")
    with pytest.raises(ChexanatomyError, match="text_reach"):
        replace(plain, text_reach=-1)
