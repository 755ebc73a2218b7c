"""Turn a model whose decoder reads the vision tower's features into one that reads shares of structures, to be taught further.

python tools/begin_reading.py RUN/checkpoint --head RUN --dataset phantoms people --out begun

What the decoder reads is what the head of the run's auxiliary loss sees (`training.model.reading`), written as closely as it
can be to what the decoder was used to: the least squares over views of the data sets, changed as in training.
`chexanatomy train --set reading=1.0 start=begun` goes on from there.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import torch

from training.anatomy import trainable
from training.errors import BrokenModel
from training.fit.batches import make_plan
from training.fit.dense import DenseHead
from training.fit.pupils import take_weights
from training.fit.records import load_records
from training.fit.settings import PretrainConfig
from training.fit.state import averaged
from training.model.checkpoint import Checkpoint, save_checkpoint
from training.model.loading import load_checkpoint
from training.model.reading import ReadingProjector
from training.model.stem import StemmedPaliGemma


def reading(checkpoint: Checkpoint, run: Path, factor: int) -> Checkpoint:
    """The same model with the head of a run in its projector. Raises BrokenModel where the head does not fit."""
    weights = averaged(run, "head")
    model = checkpoint.model
    channels, left = divmod(len(weights["linear.bias"]), factor**2)
    if left:
        raise BrokenModel(f"The head of {run} has not {factor} x {factor} values of each structure in a patch.")
    config = copy.deepcopy(model.config)
    config.vision_config.reading, config.vision_config.reading_factor = channels, factor
    fresh = StemmedPaliGemma(config)
    fresh.load_state_dict(model.state_dict(), strict=False)
    projector: ReadingProjector = fresh.model.multi_modal_projector
    take_weights(DenseHead(config.vision_config.hidden_size, channels, factor, projector.read), weights, run)
    return replace(checkpoint, model=fresh.eval())


def main() -> None:
    """Take the head, find what writes it, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--head", type=Path, required=True, help="the run whose head of the auxiliary loss is to be read")
    parser.add_argument("--factor", type=int, default=4, help="the head's values per side of a patch (dense_factor)")
    parser.add_argument("--dataset", type=Path, nargs="+", required=True)
    parser.add_argument("--structures", nargs="+", help="of the data sets, by default all that can be taught")
    parser.add_argument("--size", type=int, default=320, help="edge of the images kept decoded [px]")
    parser.add_argument("--cache", type=Path, help="folder for them")
    parser.add_argument("--images", type=int, default=240, help="views to learn from")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = reading(load_checkpoint(options.model), options.head, options.factor)
    config = PretrainConfig(tuple(options.dataset), options.out)
    cache = options.cache or options.out.with_name(options.out.name + "-cache")
    records = load_records(options.dataset, "train", options.structures or trainable(), options.size, cache, 1, None)
    tower = checkpoint.model.model.vision_tower
    seen = []
    with torch.inference_mode():
        for step in range(-(-options.images // config.images)):
            plan = make_plan(records, None, config, step, 0, 1, checkpoint.image_size, 1)
            seen.append(tower(plan.developed(None, None).pixels).last_hidden_state)
    checkpoint.model.model.multi_modal_projector.imitate(seen)
    save_checkpoint(checkpoint, options.out)
    print(f"{options.out}: reads what the head of {options.head} sees, as written for {len(seen) * config.images} views")


if __name__ == "__main__":
    main()
