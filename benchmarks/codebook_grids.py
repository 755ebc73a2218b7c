"""What 4 x 4 and 8 x 8 mask codes can do at best: both codebooks trained alike, and measured on the same masks.

python benchmarks/codebook_grids.py DATASET... [--steps 1000] [--crops 6000] [--masks 1500]

Prints a table in Markdown: the mean Dice, at full size, of held-out masks with themselves after being written as box and codes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from training.anatomy import vocabulary
from training.dataset import Dataset
from training.fit.codebook import CodebookRecipe, dataset_masks, mask_crops, reconstruction_ceiling, train_codebook
from training.tokens.codebook import OWN_WIDTHS

GROUPS = {
    "lungs": ("lung_left", "lung_right", "lung_outline_left", "lung_outline_right", "lung_field_left", "lung_field_right"),
    "heart": ("heart",),
    "clavicles": ("clavicula_left", "clavicula_right"),
    "single ribs": tuple(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)),
    "single vertebrae": tuple(key for key in vocabulary() if key.startswith("vertebrae_")),
    "scapulae": ("scapula_left", "scapula_right"),
    "spine": ("spine",),
    "aorta": ("aorta",),
    "trachea": ("trachea",),
    "all ribs of a side": ("ribs_left", "ribs_right"),
    "costal cartilages": ("costal_cartilages",),
    "lung vessels": ("lung_vessels",),
}


def main() -> None:
    """Train both, and print what they reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--crops", type=int, default=6000, help="training crops from each data set")
    parser.add_argument("--masks", type=int, default=1500, help="held-out masks from each data set")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    datasets = [Dataset.open(folder) for folder in options.datasets]
    crops = np.concatenate([mask_crops(d, options.crops).masks for d in datasets])
    kept = [d for d in datasets if any(case.split == "val" for case in d.cases)]
    reached: dict[str, dict[str, float]] = {}
    for name, widths in (("4 x 4", OWN_WIDTHS), ("8 x 8", OWN_WIDTHS[:-1])):
        with tempfile.TemporaryDirectory() as folder:
            recipe = CodebookRecipe(widths=widths)
            codebook = train_codebook(crops, Path(folder) / "codebook.safetensors", options.steps, recipe)
        scores: dict[str, list[float]] = defaultdict(list)
        for dataset in kept:
            for structure, dice in reconstruction_ceiling(codebook, dataset_masks(dataset, options.masks, 3, "val")).items():
                scores[structure].append(dice)
        reached[name] = {structure: float(np.mean(values)) for structure, values in scores.items()}
    print(f"{len(crops)} crops, {options.steps} steps; held-out masks of {', '.join(d.folder.name for d in kept)}\n")
    print(f"| structure | {' | '.join(reached)} |\n|---|{'---|' * len(reached)}")
    rows = {"mean of all structures": tuple(next(iter(reached.values()))), **GROUPS}
    for row, members in rows.items():
        means = [[scores[m] for m in members if m in scores] for scores in reached.values()]
        if all(means):
            print(f"| {row} | {' | '.join(f'{np.mean(values):.3f}' for values in means)} |")


if __name__ == "__main__":
    main()
