"""Few-shot examples made ready to learn from: altered looks at every image, with the answers where the image went.

Masks are kept as in pre-training (`training.fit.records`), so that boxes and codes follow turns, zooms and shifts alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.fit.augment import Augmentation, Overlays, photograph, spread
from training.fit.examples import Example
from training.fit.placement import Placement, place, resample
from training.fit.queries import MAIN
from training.fit.records import PRESENT, Records, decode, gather
from training.fit.targets import Moved
from training.model.packing import Segment
from training.model.parts import answered_by
from training.model.predictor import Predictor, display_name
from training.model.preprocess import stretch
from training.model.special import SpecialTokens
from training.progress import ProgressCallback, report
from training.tokens import box_to_bins
from training.tokens.grammar import ABSENT as NONE
from training.tokens.grammar import CODES_PER_MASK, segment_prompt

MASK_TOKENS = 4 + CODES_PER_MASK
"""Tokens of an answer before the name."""
FINER = 1.4
"""Images are kept this much finer than the model sees them, so that a zoomed look stays sharp."""


@dataclass(frozen=True)
class Look:
    """One altered look. seen: float [tokens, width] of the vision tower's features, or float [3, size, size] pixels; taught: the
    question to learn; others: what is rehearsed; crop: float32 [64, 64], the taught mask in its box, None where it is absent."""

    seen: Tensor
    taught: Segment
    others: tuple[Segment, ...]
    crop: Tensor | None


@dataclass
class Lessons:
    """Examples of one structure (the first of the records' structures; the others are rehearsed with the model's own answers)."""

    predictor: Predictor
    records: Records
    names: tuple[str, ...]
    augmentation: Augmentation
    rehearsal: int

    @classmethod
    def of(
        cls,
        predictor: Predictor,
        examples: Sequence[Example],
        name: str,
        augmentation: Augmentation,
        rehearsal: int,
        progress: ProgressCallback | None = None,
        total: int = 0,
    ) -> Lessons:
        """Ask the model about what it knows, so that this can be rehearsed. name: what the taught structure is called."""
        known = rehearsed(predictor, name) if rehearsal else ()
        size = round(FINER * predictor.checkpoint.image_size)
        decoded = []
        for number, example in enumerate(examples):
            report(progress, 0, total, f"Looking at image {number + 1} of {len(examples)}")
            found = predictor.segment(example.radiograph, known) if known else []
            masks = {f.structure: f.mask for f in found if f.mask is not None and f.mask.any()}
            masks |= {name: example.mask} if example.mask.any() else {}
            absent = set() if example.mask.any() else {name}
            # Stretched before padding is added, as the model will see it.
            pixels = stretch(example.radiograph.pixels) if predictor.stretches else example.radiograph.pixels
            decoded.append(decode(pixels, masks, absent, [name, *known], size, example.radiograph.view))
        ids = [e.label for e in examples]
        records = gather(decoded, [name, *known], ids)
        return cls(predictor, records, (name, *map(display_name, known)), augmentation, rehearsal)

    def look(self, example: int, altered: bool, rng: np.random.Generator, *, features: bool = True) -> Look:
        """Look at one example. altered: not as it is; features: run the vision tower."""
        changes = self.augmentation if altered else Augmentation.none()
        size = self.predictor.checkpoint.image_size
        overlays = Overlays.draw(changes, 1, size, rng)
        moved = self._moved(example, changes, overlays.field(size), rng)
        image = torch.from_numpy(self.records.images[[example]].astype(np.float32))[:, None]
        image = photograph(resample(image, moved.placement.whole, size), changes, rng, overlays)
        if self.predictor.stretches:
            image = spread(image)
        pixels = (image * 2 - 1).expand(1, 3, -1, -1)
        there = [i for i in range(1, len(self.names)) if moved.whole[0, i] or moved.cut[0, i]]
        chosen = [0, *rng.permutation(there)[: self.rehearsal].tolist()] if there else [0]
        boxes = {i: box for i in chosen if (box := self._box(moved, i)) is not None}
        crops = {}
        if boxes:
            asked = np.array(list(boxes))
            masks = moved.crops(np.zeros(len(asked), int), asked, np.stack(list(boxes.values())))
            crops = dict(zip(asked.tolist(), masks, strict=True))
        segments = {i: self._segment(i, boxes[i], crops[i]) for i in boxes}
        taught = segments.pop(0, None) or self._none(0)
        seen = see_features(self.predictor, pixels)[0] if features else pixels[0]
        return Look(seen, taught, tuple(segments.values()), crops.get(0))

    def _moved(self, example: int, changes: Augmentation, field: np.ndarray, rng: np.random.Generator) -> Moved:
        """A placement that leaves the most of the taught structure in the picture, or none at all."""
        for _ in range(4):
            moved = Moved(self.records, np.array([example]), place(changes, 1, rng), field)
            if moved.whole[0, 0] or self.records.state[example, 0] != PRESENT:
                return moved
        return Moved(self.records, np.array([example]), _still(rng), field)

    @staticmethod
    def _box(moved: Moved, structure: int) -> np.ndarray | None:
        state = moved.records.state[moved.cases[0], structure]
        return moved.box(0, structure) if state == PRESENT and not moved.gone[0, structure] else None

    def _segment(self, structure: int, box: np.ndarray, crop: Tensor) -> Segment:
        tokens, book = self.predictor.tokens, self.predictor.checkpoint.codebook
        assert book is not None
        bins = box_to_bins((float(box[0]), float(box[1]), float(box[2]), float(box[3])), (1, 1))
        codes = book.encode(crop[None])[0].tolist()
        place = (*tokens.loc[list(bins)].tolist(), *tokens.seg[codes].tolist())
        return Segment(self._prompt(structure), (*place, *tokens.encode(f" {self.names[structure]}"), tokens.eos))

    def _none(self, structure: int) -> Segment:
        tokens = self.predictor.tokens
        return Segment(self._prompt(structure), (*tokens.encode(f"{NONE} {self.names[structure]}"), tokens.eos))

    def _prompt(self, structure: int) -> tuple[int, ...]:
        return self.predictor.tokens.prompt(segment_prompt(self.names[structure]))


def without_name(segment: Segment, tokens: SpecialTokens) -> Segment:
    """A question whose answer ends with the mask; one that says "none" stays as it is."""
    drawn = int(tokens.bin_of[segment.answer[0]]) >= 0
    return Segment(segment.prompt, segment.answer[:MASK_TOKENS]) if drawn else segment


@torch.inference_mode()
def see_features(predictor: Predictor, pixels: Tensor) -> Tensor:
    """What the vision tower says of pixels float [n, 3, size, size], float [n, tokens, width] on the CPU."""
    looked = predictor.model.model.get_image_features(pixels.to(predictor.device, predictor.model.dtype), return_dict=True)
    features: Tensor = looked.pooler_output
    return features.cpu()


def rehearsed(predictor: Predictor, taught: str) -> tuple[str, ...]:
    """Structures that are not to be forgotten: the main ones of those the model knows and answers at once, and what it was taught
    before."""
    known = set(predictor.card.get("structures", ()))
    main = [key for key in MAIN if key in known and answered_by(key, predictor.card) == (key,)]
    return tuple(key for key in (*main, *predictor.learned) if taught not in (key, display_name(key)))


def _still(rng: np.random.Generator) -> Placement:
    return place(Augmentation.none(), 1, rng)
