"""What a training step costs: many questions packed behind an image against one image per question, and what makes it cheap.

python benchmarks/bench_training.py [--image-size 224] [--queries 24] [--threads 1] [--rounds 5]

Takes turns between the variants in one run and prints processor seconds (they suffer less from other work on the machine than the
clock does). Images and answers are random: a step costs the same whatever it teaches.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.anatomy import trainable, vocabulary
from training.fit.batches import Batch
from training.fit.optimiser import optimiser
from training.fit.pupils import TokenPupil
from training.fit.settings import PretrainConfig
from training.model.attention import NAME as FOLDED
from training.model.loading import EMBEDDED_FOLDER
from training.model.packing import Segment, Segments
from training.tokens.grammar import segment_prompt


@dataclass(frozen=True)
class Variant:
    """images: looked at in a step; queries: questions about each; attention: transformers' name of the decoder's attention."""

    name: str
    images: int
    queries: int
    bf16: bool
    attention: str


def variants(images: int, queries: int) -> list[Variant]:
    """What is compared, the recipe's own way last."""
    return [
        Variant("one image per question, float32", queries, 1, False, "sdpa"),
        Variant("one image per question, bfloat16", queries, 1, True, "sdpa"),
        Variant("packed, float32, image's keys repeated", images, queries, False, "sdpa"),
        Variant("packed, bfloat16, image's keys repeated", images, queries, True, "sdpa"),
        Variant("packed, float32, prompts folded", images, queries, False, FOLDED),
        Variant("packed, bfloat16, prompts folded", images, queries, True, FOLDED),
    ]


def step_of(variant: Variant, size: int, folder: Path) -> Callable[[], None]:
    """One optimiser step of a variant, as `training.fit.pretraining` takes it, without the dense loss."""
    config = PretrainConfig(
        (), folder, EMBEDDED_FOLDER / "codebook.safetensors", image_size=size, stem=True, stem_depth=2, vision_depth=6,
        vision_width=256, text_width=256, images=variant.images, queries=variant.queries, muon=7.0, dense=0.0,
        bf16=variant.bf16, max_steps=1,
    )  # fmt: skip
    pupil = TokenPupil(config, trainable())
    pupil.checkpoint.model.config.get_text_config()._attn_implementation = variant.attention
    optimizer = optimiser(pupil.learner, config.learning_rate, config.weight_decay, config.muon, False, config.bf16)
    rng = np.random.default_rng(0)
    tokens = pupil._tokens
    names = [vocabulary()[key].name for key in trainable()]

    def question() -> Segment:
        place, codes = np.sort(rng.integers(0, 1024, 4)), rng.integers(0, 128, 16)
        answer = (*tokens.loc[place.tolist()].tolist(), *tokens.seg[codes.tolist()].tolist())
        return Segment(tokens.prompt(segment_prompt(str(rng.choice(names)))), answer)

    segments = Segments.of([question() for _ in range(variant.images * variant.queries)], tokens.pad)
    pixels = torch.randn(variant.images, 3, size, size)
    no_masks = (torch.zeros(0).long(), torch.zeros(variant.images, 0, 8, 8), torch.zeros(variant.images, 0).bool())
    batch = Batch(pixels, segments, torch.zeros(0, 64, 64), *no_masks)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.bf16):
            loss, _ = pupil.learner(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Print answers per processor second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--queries", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    compared = variants(options.images, options.queries)
    seconds: dict[str, list[float]] = {v.name: [] for v in compared}
    with tempfile.TemporaryDirectory() as folder:
        steps = {v.name: step_of(v, options.image_size, Path(folder)) for v in compared}
        for step in steps.values():
            step()
        for _ in range(options.rounds):
            for name, step in steps.items():
                start = time.process_time()
                step()
                seconds[name].append(time.process_time() - start)
    print(f"{options.image_size} px, {options.threads} thread(s), torch {torch.__version__}; medians of {options.rounds} turns\n")
    print("| step | answers in it | processor seconds | answers per second |\n|---|---|---|---|")
    for v in compared:
        took, answers = statistics.median(seconds[v.name]), v.images * v.queries
        print(f"| {v.name} | {answers} | {took:.2f} | {answers / took:.0f} |")


if __name__ == "__main__":
    main()
