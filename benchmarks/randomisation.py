"""What each change of the training images is worth on real radiographs: U-Nets taught alike, each without one group of changes.

python benchmarks/randomisation.py --dataset DATA... --radiographs FOLDER --lungs FOLDER [--steps 300] [--seeds 2]
    [--only ROW...] [--out FILE]

A U-Net learns in minutes what a model that writes tokens learns in hours, so it can be taught many times. All see the same
synthetic radiographs in the same order; the answer is the union of both lung outlines. What `synthesize` varies by itself (pose,
exposure, looks, collimation, markers, habitus) is in the data of all of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from training.evaluate.comparison import compare
from training.evaluate.sources import from_folders, pairs
from training.fit import Augmentation, PretrainConfig, pretrain
from training.fit.settings import emulates_bfloat16
from training.model.unet import load_unet

TARGET = "lung_outline_left+lung_outline_right"
STRUCTURES = ("lung_outline_left", "lung_outline_right", "heart", "clavicula_left", "clavicula_right")
FULL = Augmentation(turn=10.0)
VARIANTS = {
    "all changes": FULL,
    "without zoom, turn, shift": FULL.without_geometry(),
    "without exposure (gamma, curve, window)": replace(FULL, gamma=0.0, curve=0.0, window=0.0),
    "without shading and local contrast": replace(FULL, shading=0.0, local_contrast=0.0),
    "without blur and noise": replace(FULL, blur=0.0, noise=0.0),
    "without borders, markers, wires": replace(FULL, collimation=0.0, marker=0.0, lines=0.0),
    "no change at all": Augmentation.none(),
}


def main() -> None:
    """Print one line of JSON per U-Net, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", nargs="+", type=Path, required=True)
    parser.add_argument("--radiographs", type=Path, required=True)
    parser.add_argument("--lungs", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--images", type=int, default=8, help="per step")
    parser.add_argument("--size", type=int, default=192, help="edge of the images [px]")
    parser.add_argument("--limit", type=int, help="use so many radiographs of each data set")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="rows of the table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="folder for the decoded data sets")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in given.only}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(given.seeds):
            for name in given.only:
                config = PretrainConfig(
                    tuple(given.dataset), Path(scratch) / f"{seed}-{given.only.index(name)}", unet=True,
                    structures=STRUCTURES, image_size=given.size, images=given.images, cache_size=given.size * 9 // 8, seed=seed,
                    cache=given.cache or Path(scratch) / "cache", max_steps=given.steps, threads=given.threads,
                    bf16=not emulates_bfloat16(), limit=given.limit, ema=0.98, cooldown=0.5, validate_minutes=1e9,
                    validate_images=1, save_minutes=1e9,
                    augmentation=VARIANTS[name],
                )  # fmt: skip
                net = load_unet(pretrain(config))
                images = from_folders(pairs(given.radiographs, given.lungs), TARGET)
                score = compare({"U-Net": net}, images, "radiographs").models[0].structures[0]
                rows[name].append((score.dice, score.dice_low))
                line = json.dumps(
                    {"changes": name, "seed": seed, "dice": round(score.dice, 4), "worst_tenth": round(score.dice_low, 4)}
                )
                print(line, flush=True)
                if given.out:
                    with given.out.open("a", encoding="utf-8") as file:
                        file.write(line + "\n")
    print("\n| changes of the training images | Dice | worst tenth |\n|---|---|---|")
    for name, scores in rows.items():
        print(f"| {name} | {' and '.join(f'{d:.3f}' for d, _ in scores)} | {' and '.join(f'{w:.3f}' for _, w in scores)} |")


if __name__ == "__main__":
    main()
