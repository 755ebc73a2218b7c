"""What one training step looks at."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from training.fit.augment import photograph, place, resample, spread
from training.fit.queries import Asker
from training.fit.records import UNKNOWN, Records
from training.fit.settings import PretrainConfig
from training.fit.targets import Moved
from training.model.packing import Segments
from training.tokens.codebook import CROP


@dataclass(frozen=True)
class Batch:
    """One step's work. pixels: float32 [images, 3, size, size]; segments: as many per image; crops: float32 [n, 64, 64], the
    masks that their answers draw, in their order; chosen: int64 [k], the structures that the dense loss looks at in this step;
    masks: float32 [images, k, side, side], its targets; known: bool [images, k]."""

    pixels: Tensor
    segments: Segments
    crops: Tensor
    chosen: Tensor
    masks: Tensor
    known: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(**{part.name: getattr(self, part.name).to(device) for part in fields(self)})


def make_batch(
    records: Records, asker: Asker | None, config: PretrainConfig, step: int, rank: int, world: int, size: int, side: int
) -> Batch:
    """What step `step` looks at: a function of the seed, the step and the process, so that a resumed run sees what it would
    have seen.

    asker: None where no questions are asked; size: edge of the images, side: edge of the dense targets [px].
    """
    rng = np.random.default_rng((config.seed, step, rank))
    places = (step * world + rank) * config.images + np.arange(config.images)
    epochs = places // len(records)
    order = {int(e): np.random.default_rng((config.seed, int(e))).permutation(len(records)) for e in set(epochs.tolist())}
    cases = np.array([order[int(e)][p % len(records)] for e, p in zip(epochs, places, strict=True)])
    placement = place(config.augmentation, len(cases), rng)
    images = resample(torch.from_numpy(records.images[cases].astype(np.float32))[:, None], placement, size)
    images = spread(photograph(images, config.augmentation, rng))
    pixels = (images * 2 - 1).repeat(1, 3, 1, 1)
    moved = Moved(records, cases, placement)
    segments, crops = asker.ask(moved, pixels, config.queries, rng) if asker else (Segments.none(), torch.empty(0, CROP, CROP))
    count = min(config.dense_structures, len(records.structures)) if config.dense else 0
    chosen = np.sort(rng.permutation(len(records.structures))[:count])
    known = records.state[cases][:, chosen] != UNKNOWN
    return Batch(pixels, segments, crops, torch.from_numpy(chosen), moved.dense(chosen, side), torch.from_numpy(known))
