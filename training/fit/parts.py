"""Which structures a model draws better part by part, found out on held-out images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np

from training.fit.augment import Augmentation
from training.fit.judging import drawn, overlap
from training.fit.placement import place
from training.fit.records import PRESENT, Records
from training.fit.targets import Moved
from training.images import Radiograph
from training.model.checkpoint import Checkpoint
from training.model.parts import parts_of, united
from training.model.predictor import Predictor


def better_in_parts(checkpoint: Checkpoint, records: Records, images: int) -> dict[str, list[str]]:
    """The structures, and their parts, whose mask has a higher mean Dice put together from the masks of the parts than drawn at
    once, on up to `images` held-out cases and by more than twice the standard error; for the card's `in_parts`."""
    keys = [str(key) for key in records.structures]
    parts = {key: made_of for key in keys if (made_of := parts_of(key, keys))}
    if not parts:
        return {}
    predictor = Predictor(
        replace(checkpoint, card={**checkpoint.card, "in_parts": {}}), str(next(checkpoint.model.parameters()).device)
    )
    asked = list(dict.fromkeys([*parts, *(part for made_of in parts.values() for part in made_of)]))
    gains: dict[str, list[float]] = defaultdict(list)
    for case in np.linspace(0, len(records) - 1, min(images, len(records))).round().astype(int):
        picture = Radiograph(records.images[[int(case)]][0].astype(np.float32))
        still = place(Augmentation.none(), 1, np.random.default_rng(0))
        masks = Moved(records, np.array([case]), still).dense(np.arange(len(keys)), picture.pixels.shape[0])[0].numpy() > 0.5
        found = dict(zip(asked, predictor.segment(picture, asked), strict=True))
        for key, made_of in parts.items():
            mask = masks[keys.index(key)]
            if records.state[case][keys.index(key)] == PRESENT and mask.any():
                at_once, together = found[key], united(key, [found[part] for part in made_of])
                gains[key].append(overlap(drawn(together, mask.shape), mask) - overlap(drawn(at_once, mask.shape), mask))
    proven = [key for key, gain in gains.items() if len(gain) > 1 and np.mean(gain) > 2 * np.std(gain, ddof=1) / len(gain) ** 0.5]
    return {key: list(parts[key]) for key in proven}
