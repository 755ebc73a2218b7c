"""How often a model names what it is shown, the view, and several structures at once: the tasks beside segmentation.

python benchmarks/naming.py DATASET [--model embedded] [--cases 20] [--structures 6] [--split all]

Prints a table in Markdown: the share of first answers that are right, and of right ones among the first three.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from training.anatomy import vocabulary
from training.dataset import Dataset
from training.model import load
from training.tokens import read_answer, tight_box
from training.tokens.grammar import segment_prompt


def main() -> None:
    """Ask and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--structures", type=int, default=6, help="per case, drawn at random")
    parser.add_argument("--split", default="all")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    predictor, dataset = load(options.model), Dataset.open(options.dataset)
    known = set(predictor.card.get("structures", ()))
    cases = [case for case in dataset.cases if options.split in ("all", case.split)]
    cases = [cases[int(i)] for i in np.linspace(0, len(cases) - 1, min(options.cases, len(cases)))]
    rng = np.random.default_rng(0)
    ranks: dict[str, list[int]] = defaultdict(list)
    several: list[bool] = []
    for case in cases:
        radiograph = dataset.image(case)
        ranks["view"].append([name for name, _ in predictor.view(radiograph)].index(case.view.upper()))
        asked = [str(s) for s in rng.permutation([s for s in case.present if s in known])[: options.structures]]
        for structure, mask in dataset.masks(case, asked).items():
            box = tight_box(mask)
            if box is None:
                continue
            for way, drawn in (("tokens", False), ("picture", True)):
                for shown, what in (("box", {"box": box}), ("mask", {"mask": mask})):
                    named = predictor.identify(radiograph, drawn=drawn, **what)
                    ranks[f"{shown}, {'as tokens' if way == 'tokens' else 'in the picture'}"].append(
                        [key for key, _ in named].index(structure)
                    )
        names = [vocabulary()[s].name for s in asked[:3]]
        answers, invalid = read_answer(predictor.ask(radiograph, segment_prompt(names)))
        several.append(invalid == 0 and [a.name for a in answers] == names)
    print(f"{len(cases)} radiographs of {options.dataset.name}, {len(known)} candidates\n")
    print("| shown | n | first answer right | among the first three |\n|---|---|---|---|")
    for shown, found in sorted(ranks.items()):
        at = np.array(found)
        print(f"| {shown} | {len(at)} | {(at == 0).mean():.0%} | {(at < 3).mean():.0%} |")
    print(f"| three structures in one prompt: all named, in order, nothing invalid | {len(several)} | {np.mean(several):.0%} | |")


if __name__ == "__main__":
    main()
