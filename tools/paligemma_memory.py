"""Prints what teaching PaliGemma 2 takes: parameters, memory of one GPU and hours, as the tables of docs/paligemma.md.

python tools/paligemma_memory.py

Parameters are counted on transformers' own classes without allocating them; memory and time follow by the formulas below.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

from training.fit.lora import DECODER, RANK

GIB = 1 << 30
TEXT_TOKENS = 32
"""Prompt, 4 locations, 16 codes and the name."""
OVERHEAD = 1.15
"""CUDA context, fragmentation and the workspaces of matrix products, as a share."""


@dataclass(frozen=True)
class Size:
    """A Gemma 2 decoder, as published with PaliGemma 2 (arXiv 2412.03555)."""

    name: str
    width: int
    layers: int
    hidden: int
    heads: int
    key_heads: int
    head: int = 256


SIZES = (Size("3B", 2304, 26, 9216, 8, 4), Size("10B", 3584, 42, 14336, 16, 8))
PIXELS = (224, 448, 896)
GPUS = {"A100 80 GB": (312e12, 80), "H100 80 GB": (989e12, 80), "L40S 48 GB": (362e12, 48)}
"""Dense bfloat16 operations per second and memory [GB], from the makers' data sheets."""
USED = 0.35
"""Share of them that such training reaches."""


def config_of(size: Size, pixels: int) -> PaliGemmaConfig:
    """PaliGemma 2's configuration."""
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "patch_size": 14, "image_size": pixels, "vision_use_head": False,
    }  # fmt: skip
    text = {
        "model_type": "gemma2", "hidden_size": size.width, "intermediate_size": size.hidden, "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads, "num_key_value_heads": size.key_heads, "head_dim": size.head, "vocab_size": 257216,
    }  # fmt: skip
    return PaliGemmaConfig(vision_config=vision, text_config=text, projection_dim=size.width, hidden_size=size.width)


def lora_parameters(model: torch.nn.Module) -> int:
    """Of rank-16 adapters on the seven projections of the decoder."""
    import re

    linear = [m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and re.fullmatch(DECODER, n)]
    return sum(RANK * (m.in_features + m.out_features) for m in linear)


@dataclass(frozen=True)
class Need:
    """parameters, trained: counts; weights, optimiser, kept, peak: GiB; flops: of one answer, forward, recomputed and back."""

    parameters: int
    trained: int
    tokens: int
    weights: float
    optimiser: float
    kept: float
    peak: float
    flops: float

    def total(self, batch: int) -> float:
        """GiB on one GPU with `batch` answers at a time."""
        return OVERHEAD * (self.weights + self.optimiser + batch * (self.kept + self.peak))


def need(size: Size, pixels: int) -> Need:
    """Work it out.

    Kept with recomputation: one hidden state per layer [tokens, width] in bfloat16. Peak, while one layer is computed again: its
    gate, up and product [tokens, hidden], queries, keys and values, and the attention scores [heads, tokens, tokens], twice in
    float32 (Gemma 2's soft cap forbids fused attention). Logits are taken at answer tokens only, 20 x vocabulary in float32,
    three times. The vision tower is frozen: no activations are kept. Operations: 2 per weight and token forward, again when
    recomputed, and 2 on the way back to the adapters (the frozen weights need no gradients), attention beside it.
    """
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config_of(size, pixels))
    parameters = sum(p.numel() for p in model.parameters())
    trained = lora_parameters(model)
    vision = sum(p.numel() for n, p in model.named_parameters() if "vision_tower" in n)
    embeddings = 257216 * size.width
    tokens = (pixels // 14) ** 2 + TEXT_TOKENS
    kept = 2 * size.layers * tokens * size.width
    mlp = 3 * 2 * tokens * size.hidden
    attention = 2 * tokens * size.head * (size.heads + 2 * size.key_heads) + 2 * 4 * size.heads * tokens**2
    logits = 3 * 4 * 20 * 257216
    decoder = parameters - vision - embeddings
    per_pass = 2 * decoder * tokens + 4 * size.layers * size.heads * size.head * tokens**2
    flops = 3 * per_pass + 2 * vision * (pixels // 14) ** 2 + 3 * 2 * embeddings * 20
    gib = [x / GIB for x in (2 * parameters, trained * (4 + 4 + 8), kept, mlp + attention + logits)]
    return Need(parameters, trained, tokens, *gib, flops)


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=1_000_000, help="answers to teach, for the hours")
    given = parser.parse_args()
    lines = [
        "| model | pixels | tokens | parameters | trained | weights | optimiser | per answer | batch 1 | batch 4 | batch 16 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    hours = [f"| model | pixels | TFLOP per answer | {' | '.join(GPUS)} |", "|---|---|---|" + "---|" * len(GPUS)]
    for size in SIZES:
        for pixels in PIXELS:
            n = need(size, pixels)
            totals = " | ".join(f"{n.total(batch):.0f} GiB" for batch in (1, 4, 16))
            counts = f"{n.tokens} | {n.parameters / 1e9:.2f} G | {n.trained / 1e6:.1f} M"
            memory = f"{n.weights:.1f} GiB | {n.optimiser:.2f} GiB | {n.kept + n.peak:.2f} GiB"
            lines.append(f"| {size.name} | {pixels} | {counts} | {memory} | {totals} |")
            times = [given.answers * n.flops / (speed * USED) / 3600 for speed, _ in GPUS.values()]
            hours.append(f"| {size.name} | {pixels} | {n.flops / 1e12:.1f} | " + " | ".join(f"{t:.0f} h" for t in times) + " |")
    print("\n".join([*lines, "", *hours]))


if __name__ == "__main__":
    main()
