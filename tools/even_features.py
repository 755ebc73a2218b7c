"""Give a model evened features: every image's style drawn towards the usual one before the decoder reads it.

python tools/even_features.py MODEL --dataset phantoms people --share 0.5 --out evened

What is usual is the mean over views of the data sets, as they are (`training.model.evened`). The confidence in the card is that
of the model as it was: `tools/average_weights.py evened --dataset ...` learns it anew. `chexanatomy train --set evened=0.5
start=evened` goes on from there.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from training.dataset import Dataset
from training.errors import BrokenModel
from training.model import Predictor, load
from training.model.checkpoint import Checkpoint, save_checkpoint
from training.model.packing import see
from training.model.stem import StemmedPaliGemma


def main() -> None:
    """Look at the views, write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--dataset", type=Path, nargs="+", required=True)
    parser.add_argument("--share", type=float, default=0.5, help="0 leaves features as they are, 1 gives all images one style")
    parser.add_argument("--images", type=int, default=80, help="views of each data set to learn the usual style from")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    predictor = load(options.model)
    made = evened(predictor.checkpoint, options.share)
    made.model.model.multi_modal_projector.learn(features(predictor, options.dataset, options.images))
    save_checkpoint(made, options.out)
    print(f"{options.out}: {options.model} with features evened out by {options.share:g}")


def evened(checkpoint: Checkpoint, share: float) -> Checkpoint:
    """The same model with a projector that evens features out. Raises BrokenModel for a share beyond 0..1 and for a model whose
    decoder reads shares of structures, or evened features already."""
    config = copy.deepcopy(checkpoint.model.config)
    if not 0 < share <= 1:
        raise BrokenModel(f"The share is a number above 0 and up to 1; got {share:g}.")
    if getattr(config.vision_config, "reading", 0) or getattr(config.vision_config, "evened", 0):
        raise BrokenModel("This model's decoder reads no plain features: take the one that it was made from.")
    config.vision_config.evened = share
    fresh = StemmedPaliGemma(config)
    fresh.load_state_dict(checkpoint.model.state_dict(), strict=False)
    return replace(checkpoint, model=fresh.eval())


def features(predictor: Predictor, folders: list[Path], images: int) -> Iterator[Tensor]:
    """What the vision tower makes of evenly spread views, float [1, places, width] each."""
    for dataset in map(Dataset.open, folders):
        kept = dataset.kept()
        for case in kept[:: max(1, len(kept) // images)][:images]:
            pixels, _ = predictor.prepare(dataset.image(case).pixels)
            with torch.inference_mode():
                yield see(predictor.model, pixels, packed=predictor.checkpoint.packed).vision


if __name__ == "__main__":
    main()
