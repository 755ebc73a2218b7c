"""Average the weights of models that were taught from the same beginning, and learn the confidence of the average.

python tools/average_weights.py RUN/checkpoint RUN/checkpoint --dataset phb phc --out shipped

Models that began with the same weights lie in one valley, and their mean is often better than each of them (Wortsman et al.,
"Model soups", arXiv 2203.05482). The card is that of the first; its confidence, its threshold for "absent", what it draws part by
part and its validation are made anew on the held-out cases of the data sets, as the end of a run does it.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from training.anatomy import trainable
from training.errors import BrokenModel
from training.fit.augment import Augmentation
from training.fit.records import load_records
from training.fit.validate import calibrate, validate
from training.model.checkpoint import Checkpoint, save_checkpoint
from training.model.loading import load_checkpoint

CALIBRATED, VALIDATED = 64, 16
"""Views on which confidence and threshold are learnt, and views of which the card has figures."""


def averaged(folders: list[str]) -> Checkpoint:
    """The first model with the mean of all models' weights. Raises BrokenModel where they have not the same shapes, or use
    them in other ways."""
    models = [load_checkpoint(folder) for folder in folders]
    weights = [model.model.state_dict() for model in models]
    if len({_use(model) for model in models}) > 1:
        raise BrokenModel("Only models of the same reach, and whose features are evened out or read alike, can be averaged.")
    shapes = [{name: value.shape for name, value in each.items()} for each in weights]
    if any(shape != shapes[0] for shape in shapes):
        raise BrokenModel("Only models of one shape can be averaged.")
    # All means before any is written: a matrix that stands under two names, as the word embedding does, is one in memory.
    means = {
        name: torch.stack([w[name].float() for w in weights]).mean(0) for name, v in weights[0].items() if v.is_floating_point()
    }
    with torch.no_grad():
        for name, mean in means.items():
            weights[0][name].copy_(mean)
    made = [model.card.get("training", {}) for model in models]
    if len(made) > 1:  # of one model, only what is learnt at the end of a run is made anew
        models[0].card["averaged"] = [{"steps": m.get("steps"), "seed": m.get("settings", {}).get("seed")} for m in made]
    return models[0]


def _use(model: Checkpoint) -> tuple[float, ...]:
    """What of a model's configuration changes what its weights do, but none of their shapes."""
    vision, text = model.model.config.vision_config, model.model.config.text_config
    named = (getattr(vision, name, usual) for name, usual in (("reach", 0), ("evened", 0.0), ("reading_blend", 1.0)))
    return (*named, getattr(text, "reach", 0))


def main() -> None:
    """Average, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--dataset", type=Path, nargs="*", default=[], help="learn the confidence on the held-out cases of these")
    parser.add_argument("--size", type=int, default=320, help="edge of the images kept decoded [px]")
    parser.add_argument("--cache", type=Path, help="folder for them")
    parser.add_argument("--turn", type=float, default=10.0, help="largest angle of changed images [degrees]")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    checkpoint = averaged(options.models)
    if options.dataset:
        checkpoint.model.eval()
        cache = options.cache or options.out.with_name(options.out.name + "-cache")
        records = load_records(options.dataset, "val", trainable(), options.size, cache, 1, 2 * CALIBRATED)
        checkpoint.card |= calibrate(checkpoint, records, CALIBRATED, replace(Augmentation(), turn=options.turn))
        figures = validate(checkpoint, records, VALIDATED)
        checkpoint.card["validation"] = {name: round(value, 4) for name, value in figures.items() if value == value}
    save_checkpoint(checkpoint, options.out)
    print(f"{options.out}: the mean of {len(options.models)} models")


if __name__ == "__main__":
    main()
