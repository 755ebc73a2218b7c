"""What one training step looks at: planned anywhere, developed where the arithmetic is done."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import count
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.fit.augment import Augmentation, Overlays, photograph, spread
from training.fit.placement import Lookup, place, resample
from training.fit.queries import Asked, Asker
from training.fit.records import UNKNOWN, Records
from training.fit.settings import PretrainConfig
from training.fit.styles import draw_styles
from training.fit.targets import Moved, Sketch
from training.model.packing import Segments
from training.tokens.codebook import MaskCodebook

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """One step's work. pixels: float32 [images, 3, size, size]; segments: as many per image; crops: float32 [n, 64, 64], the
    masks that their answers draw, in their order; chosen: int64 [k], what the dense loss looks at in this step, structures and,
    last, what is pointed at; masks: float32 [images, k, side, side], its targets; known: bool [images, k]; apart: int64
    [images, structures, 2], by how many parts of a patch each structure is read somewhere else, None where none is;
    blend: float32 [images], how much of what is read are shares of structures, None where none are read; styles: float32 [images,
    images], how much of each other's style their features get (`training.fit.styles`), None where they keep their own."""

    pixels: Tensor
    segments: Segments
    crops: Tensor
    chosen: Tensor
    masks: Tensor
    known: Tensor
    apart: Tensor | None = None
    blend: Tensor | None = None
    styles: Tensor | None = None


@dataclass(frozen=True)
class Plan:
    """A step's work before the arithmetic, small enough to be handed from process to process. images: float16 [images, 1, rows,
    columns], as they are kept; lookup: where they are moved to; size: edge of the pictures [px]; changes, overlays, seed: how
    they are exposed and what lies over them; asked: the questions; chosen, masks, known, apart, blend, styles: as in Batch, the
    masks as a sketch and without what is pointed at."""

    images: Tensor
    lookup: Lookup
    size: int
    changes: Augmentation
    overlays: Overlays
    seed: tuple[int, ...]
    asked: Asked
    chosen: Tensor
    masks: Sketch
    known: Tensor
    apart: Tensor | None = None
    blend: Tensor | None = None
    styles: Tensor | None = None

    def to(self, device: torch.device) -> Plan:
        """The same on a device."""
        return _each(self, lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> Plan:
        """The same where a GPU can fetch it from by itself."""
        return _each(self, Tensor.pin_memory)

    def developed(self, codebook: MaskCodebook | None, seg: Tensor | None) -> Batch:
        """Expose the images, draw the masks, write the codes, where the plan is. codebook, seg: as `Asked.answers` takes them,
        None where nothing is asked."""
        images = resample(self.images.float(), self.lookup, self.size)
        images = spread(photograph(images, self.changes, np.random.default_rng(self.seed), self.overlays))
        pixels = (images * 2 - 1).repeat(1, 3, 1, 1)
        segments, crops = self.asked.segments, self.asked.masks.drawn()[0]
        self.asked.mark(pixels, crops)
        masks, known = self.masks.drawn(), self.known
        masks.mul_(self.overlays.open(masks.shape[-1], self.size)[:, None])
        if len(self.chosen) > masks.shape[1]:
            pointed, where = self.asked.pointed(len(pixels), masks.shape[-1])
            masks, known = torch.cat([masks, pointed[:, None]], 1), torch.cat([known, where[:, None]], 1)
        if codebook is not None and seg is not None:
            segments, crops = self.asked.answers(crops, codebook, seg)
        return Batch(pixels, segments, crops, self.chosen, masks, known, self.apart, self.blend, self.styles)


def _each(thing: T, change: Callable[[Tensor], Tensor]) -> T:
    """The same with every tensor in it changed."""
    if isinstance(thing, Tensor):
        return change(thing)  # type: ignore[return-value]
    if not is_dataclass(thing) or isinstance(thing, type):
        return thing
    changed: Any = replace(thing, **{f.name: _each(getattr(thing, f.name), change) for f in fields(thing)})
    return changed


def make_plan(
    records: Records, asker: Asker | None, config: PretrainConfig, step: int, rank: int, world: int, size: int, side: int
) -> Plan:
    """What step `step` looks at: a function of the seed, the step and the process, so that a resumed run sees what it would
    have seen.

    asker: None where no questions are asked; size: edge of the images, side: edge of the dense targets [px].
    """
    seed = (config.seed, step, rank)
    rng = np.random.default_rng(seed)
    places = (step * world + rank) * config.images + np.arange(config.images)
    epochs = places // len(records)
    order = {int(e): np.random.default_rng((config.seed, int(e))).permutation(len(records)) for e in set(epochs.tolist())}
    cases = np.array([order[int(e)][p % len(records)] for e, p in zip(epochs, places, strict=True)])
    placement = place(config.augmentation, len(cases), rng)
    overlays = Overlays.draw(config.augmentation, len(cases), size, rng)
    moved = Moved(records, cases, placement, overlays.field(size))
    if config.reading and config.augmentation.apart:
        moved = moved.parted(config.augmentation.apart, 1 / side, rng)
    asked = asker.ask(moved, config.queries, rng) if asker else Asked.nothing()
    chosen = np.sort(rng.permutation(len(records.structures))[: config.dense_structures if config.auxiliary else 0])
    blend = config.reading + config.reading_spread * rng.uniform(-1, 1, len(cases)) if config.reading else None
    styles = draw_styles(len(cases), config.augmentation.styles, rng) if config.augmentation.styles else None
    looked_at = np.append(chosen, len(records.structures)) if asker and config.points else chosen
    return Plan(
        torch.from_numpy(records.images[cases])[:, None],
        placement.whole,
        size,
        config.augmentation,
        overlays,
        (*seed, 1),
        asked,
        torch.from_numpy(looked_at),
        moved.sketch(chosen, side),
        torch.from_numpy(records.state[cases][:, chosen] != UNKNOWN),
        None if moved.apart is None else torch.from_numpy(np.round(moved.apart * side).astype(np.int64)),
        None if blend is None else torch.from_numpy(blend.clip(0, 1).astype(np.float32)),
        styles,
    )


def batches(
    plan: Callable[[int], Plan], develop: Callable[[Plan], Batch], first: int, processes: int, device: torch.device
) -> Generator[Batch]:
    """What step `first` and all steps after it look at: planned ahead by a thread, which without a GPU develops them too, or by
    so many forked processes."""
    if processes:
        loader = DataLoader(
            _Steps(plan),
            batch_size=None,
            sampler=count(first),  # type: ignore[arg-type]
            num_workers=processes,
            multiprocessing_context="fork",
            pin_memory=device.type == "cuda",
        )
        for planned in loader:
            yield develop(planned.to(device))
        return
    with ThreadPoolExecutor(1) as ahead:
        at_once = device.type == "cpu"
        prepare: Callable[[int], Any] = (lambda step: develop(plan(step))) if at_once else plan
        upcoming = ahead.submit(prepare, first)
        for step in count(first + 1):
            ready, upcoming = upcoming.result(), ahead.submit(prepare, step)
            yield ready if at_once else develop(ready.to(device))


@dataclass(frozen=True)
class _Steps(Dataset[Plan]):
    plan: Callable[[int], Plan]

    def __getitem__(self, step: int) -> Plan:
        return self.plan(step)
