"""What one training step looks at."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import count

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.fit.augment import photograph, place, resample, spread
from training.fit.queries import Asker
from training.fit.records import UNKNOWN, Records
from training.fit.settings import PretrainConfig
from training.fit.targets import Moved, Sketch
from training.model.packing import Segments
from training.tokens.codebook import CROP


@dataclass(frozen=True)
class Batch:
    """One step's work. pixels: float32 [images, 3, size, size]; segments: as many per image; crops: float32 [n, 64, 64], the
    masks that their answers draw, in their order; chosen: int64 [k], the structures that the dense loss looks at in this step;
    sketch: of its targets [images, k, side, side]; known: bool [images, k]."""

    pixels: Tensor
    segments: Segments
    crops: Tensor
    chosen: Tensor
    sketch: Sketch
    known: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(**{part.name: getattr(self, part.name).to(device, non_blocking=True) for part in fields(self)})

    def pin_memory(self) -> Batch:
        """The same where a GPU can fetch it from by itself."""
        return Batch(**{part.name: getattr(self, part.name).pin_memory() for part in fields(self)})


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
    return Batch(pixels, segments, crops, torch.from_numpy(chosen), moved.sketch(chosen, side), torch.from_numpy(known))


def batches(make: Callable[[int], Batch], first: int, processes: int) -> Generator[Batch]:
    """What step `first` and all steps after it look at, prepared ahead: by a thread, which draws the masks as well, or by so many
    forked processes (which a GPU needs, or it waits; there it draws the masks)."""
    if processes:
        yield from DataLoader(
            _Steps(make),
            batch_size=None,
            sampler=count(first),  # type: ignore[arg-type]
            num_workers=processes,
            multiprocessing_context="fork",
            pin_memory=torch.cuda.is_available(),
        )
        return

    def prepare(step: int) -> Batch:
        batch = make(step)
        _ = batch.sketch.masks
        return batch

    with ThreadPoolExecutor(1) as ahead:
        upcoming = ahead.submit(prepare, first)
        for step in count(first + 1):
            batch, upcoming = upcoming.result(), ahead.submit(prepare, step)
            yield batch


@dataclass(frozen=True)
class _Steps(Dataset[Batch]):
    make: Callable[[int], Batch]

    def __getitem__(self, step: int) -> Batch:
        return self.make(step)
