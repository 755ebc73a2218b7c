"""The first layers of chexanatomy-tiny's vision tower: convolutions in place of one big patch embedding.

A small tower that learns from nothing finds edges sooner through overlapping strided convolutions (Xiao et al., "Early
convolutions help transformers see better", arXiv 2106.14881). Everything behind them is transformers' SigLIP, unchanged.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from training.errors import BrokenModel
from training.model.evened import EvenedProjector
from training.model.nearby import see_nearby
from training.model.reading import ReadingProjector

GROUPS = 8


class Stem(nn.Module):
    """Halves the picture until a patch is one position: float [n, 3, size, size] to [n, width, size / patch, size / patch]."""

    def __init__(self, width: int, patch: int, depth: int = 1) -> None:
        """depth: residual convolutions at each of the two coarsest sizes; one at the sizes before, none at half the picture's.

        Raises BrokenModel for a patch that is no power of two, or a width that does not fit it.
        """
        super().__init__()
        halvings = patch.bit_length() - 1
        if halvings < 1 or patch != 1 << halvings:
            raise BrokenModel(f"With a stem, patch is a power of two from 2 px on; got {patch}.")
        if width % (GROUPS << (halvings - 1)):
            raise BrokenModel(f"With a stem, vision_width is a multiple of {GROUPS << (halvings - 1)}; got {width}.")
        widths = [3, *(width >> (halvings - 1 - i) for i in range(halvings))]
        self.layers = nn.ModuleList(
            _Halving(a, b, depth if i >= halvings - 2 else min(i, 1)) for i, (a, b) in enumerate(pairwise(widths))
        )

    @property
    def weight(self) -> Tensor:
        """SigLIP reads its patch embedding's precision off this."""
        weight: Tensor = self.layers[0].get_submodule("down").get_parameter("weight")
        return weight

    def forward(self, pixels: Tensor) -> Tensor:
        """Return one vector per patch."""
        for layer in self.layers:
            pixels = layer(pixels)
        return pixels


class _Halving(nn.Module):
    """A strided convolution, then residual ones (none at full size, where they would cost most)."""

    def __init__(self, before: int, after: int, depth: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(before, after, 3, 2, 1)
        self.blocks = nn.ModuleList(_Residual(after) for _ in range(depth))
        self.norm = nn.GroupNorm(GROUPS, after)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x if len(self.blocks) else functional.gelu(x)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.conv = nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(functional.gelu(self.norm(x)))


class StemmedPaliGemma(PaliGemmaForConditionalGeneration):
    """PaliGemma whose vision tower begins with a `Stem` if its `vision_config` says `"stem": true`, whose patches see each other
    within what it says under "reach" (`training.model.nearby`), and whose decoder reads the shares of as many structures as it
    says under "reading" (`ReadingProjector`), or features evened out by the share that it says under "evened"
    (`EvenedProjector`)."""

    def __init__(self, config: PaliGemmaConfig) -> None:
        super().__init__(config)
        vision = config.vision_config
        if reach := getattr(vision, "reach", 0):
            see_nearby(self.model.vision_tower.encoder, reach)
        if getattr(vision, "stem", False):
            self.model.vision_tower.embeddings.patch_embedding = Stem(
                vision.hidden_size, vision.patch_size, getattr(vision, "stem_depth", 1)
            )
        if channels := getattr(vision, "reading", 0):
            self.model.multi_modal_projector = ReadingProjector(
                self.model.multi_modal_projector.linear,
                (vision.image_size // vision.patch_size) ** 2,
                channels,
                getattr(vision, "reading_factor", 4),
                getattr(vision, "reading_blend", 1.0),
            )
        elif evened := getattr(vision, "evened", 0.0):
            self.model.multi_modal_projector = EvenedProjector(self.model.multi_modal_projector.linear, evened)
