"""How fast a model answers: 20 structures in one image at once, against one question at a time.

python benchmarks/bench_model.py [--model SPEC] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from training.images import Radiograph
from training.model import Predictor, load
from training.tokens.grammar import segment_prompt

STRUCTURES = (
    "lung_left", "lung_right", "lung_field_left", "lung_field_right", "lung_outline_left", "lung_outline_right", "heart", "aorta",
    "trachea", "liver", "spleen", "stomach", "vertebrae_T5", "clavicula_left", "clavicula_right", "scapula_left", "scapula_right",
    "rib_left_5", "rib_right_5", "sternum",
)  # fmt: skip


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def picture(seed: int = 0) -> Radiograph:
    """Something with large and small structures, float32 [1024, 1024]."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, 1, 12, 12), dtype=np.float32))
    pixels = torch.nn.functional.interpolate(coarse, (1024, 1024), mode="bicubic").clamp(0, 1)[0, 0].numpy()
    return Radiograph(pixels)


def generate(predictor: Predictor, radiograph: Radiograph, name: str) -> torch.Tensor:
    """One call of transformers' own `generate`: the image is looked at again for every structure."""
    pixels, _ = predictor.prepare(radiograph.pixels)
    tokens = predictor.tokens
    image = torch.full((1, predictor.model.config.text_config.num_image_tokens), int(tokens.image or 0))
    prompt = torch.tensor([[tokens.bos, *tokens.prompt(segment_prompt(name))]])
    ids = torch.cat([image, prompt], 1)
    with torch.inference_mode():
        return predictor.model.generate(
            input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids), max_new_tokens=21, min_new_tokens=21,
            do_sample=False,
        )  # fmt: skip


def main() -> None:
    """Print the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    predictor = load(given.model)
    radiograph = picture()

    def at_once() -> list[tuple[str, ...]]:
        predictor.forget()
        return [f.tokens for f in predictor.segment(radiograph, STRUCTURES)]

    def one_by_one() -> list[tuple[str, ...]]:
        answers = []
        for name in STRUCTURES:
            predictor.forget()
            answers += [f.tokens for f in predictor.segment(radiograph, [name])]
        return answers

    same = at_once() == one_by_one()
    together, alone = timed(at_once, given.repeats), timed(one_by_one, max(1, given.repeats // 2))
    stock = timed(lambda: [generate(predictor, radiograph, name) for name in STRUCTURES], 1)
    accurate = timed(lambda: predictor.segment(radiograph, STRUCTURES, accurate=True), 1)
    say = [
        f"{len(STRUCTURES)} structures, {radiograph.pixels.shape[0]} px, {given.threads} threads, {given.model}",
        f"at once             {together:6.2f} s",
        f"one at a time       {alone:6.2f} s   {alone / together:.1f} times as long, same tokens: {same}",
        f"transformers' generate {stock:.2f} s   {stock / together:.1f} times as long (its own mask: the image sees the prompt)",
        f"accurate (5 looks)  {accurate:6.2f} s   {accurate / together:.1f} times as long",
    ]
    print("\n".join(say))


if __name__ == "__main__":
    main()
