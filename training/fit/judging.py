"""What few-shot learning is judged by: held-out images before and after, and whether other structures still look as they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from training.fit.examples import Example
from training.fit.lessons import rehearsed, see_features
from training.model import decoding
from training.model.packing import recall
from training.model.predictor import Finding, Predictor, display_name
from training.model.preprocess import Letterbox
from training.tokens import bins_to_box
from training.tokens.codebook import paste_mask
from training.tokens.grammar import clean_name, segment_prompt

MOST_WATCHED = 6
"""Images in which other structures are compared before and after."""
FORGOTTEN = 0.7
"""Below this mean agreement (Dice) with the masks from before, a structure counts as forgotten."""


@dataclass(frozen=True)
class Seen:
    """An example as the model sees it. features: float [1, tokens, width] of a vision tower that stays as it is, None where it is
    taught as well; pixels: float [1, 3, size, size]."""

    example: Example
    pixels: Tensor
    place: Letterbox
    features: Tensor | None

    @classmethod
    def of(cls, predictor: Predictor, example: Example, *, features: bool = True) -> Seen:
        """Look at an example once."""
        pixels, place = predictor.prepare(example.radiograph.pixels)
        return cls(example, pixels, place, see_features(predictor, pixels) if features else None)


@dataclass(frozen=True)
class Judgement:
    """dice: per image; masks: bool [row, column] per image, at the image's own size."""

    dice: dict[str, float] = field(default_factory=dict)
    masks: dict[str, np.ndarray] = field(default_factory=dict)


def judge(predictor: Predictor, images: Sequence[Seen], name: str) -> Judgement:
    """Ask for one structure and compare with what is drawn; two empty masks agree fully."""
    return _compared(images, [answers(predictor, seen, [name])[0] for seen in images])


def judge_in_parts(predictor: Predictor, images: Sequence[Seen], key: str) -> Judgement:
    """The same for a structure that the model puts together from its parts."""
    found = [predictor.segment(seen.example.radiograph, [key])[0] for seen in images]
    return _compared(images, [drawn(one, seen.place.shape) for one, seen in zip(found, images, strict=True)])


def drawn(finding: Finding, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of a finding, bool [row, column], empty where it is absent."""
    return np.zeros(shape, bool) if finding.mask is None else finding.mask


def _compared(images: Sequence[Seen], masks: Sequence[np.ndarray]) -> Judgement:
    judgement = Judgement()
    for number, (seen, mask) in enumerate(zip(images, masks, strict=True)):
        label = seen.example.label
        label = label if label not in judgement.dice else f"{label} ({number + 1})"
        judgement.masks[label], judgement.dice[label] = mask, overlap(mask, seen.example.mask)
    return judgement


@torch.inference_mode()
def answers(predictor: Predictor, seen: Seen, names: Sequence[str], *, coarse: bool = False) -> list[np.ndarray]:
    """Masks bool [row, column] of the named structures, empty where the model sees none; coarse: in the square that the model
    looks at, instead of the image's own size."""
    book = predictor.checkpoint.codebook
    assert book is not None
    training = predictor.model.training
    predictor.model.eval()
    features = seen.features if seen.features is not None else see_features(predictor, seen.pixels)
    features = features.to(predictor.device)
    asked = [clean_name(name) for name in names]
    said: dict[int, decoding.Written] = {}
    for adapters, places in predictor.weights.groups(asked).items():
        with predictor.weights.answering(adapters):
            prefix = recall(predictor.model, features, features, packed=predictor.checkpoint.packed)
            prompts = [predictor.tokens.prompt(segment_prompt(asked[i])) for i in places]
            said |= zip(places, decoding.write(predictor.model, predictor.tokens, prefix, prompts), strict=True)
    written = [said[i] for i in range(len(asked))]
    predictor.model.train(training)
    says_none = bool(predictor.card.get("negatives", predictor.checkpoint.packed))
    threshold = float(predictor.card.get("presence_threshold", 0.5))
    logits = book.decode(torch.tensor([answer.codes for answer in written])).cpu().numpy()
    square = (seen.place.size, seen.place.size)
    shape = square if coarse else seen.place.shape
    masks = []
    for answer, logit in zip(written, logits, strict=True):
        box = bins_to_box(answer.bins, square)
        there = not says_none or answer.presence >= threshold
        masks.append(paste_mask(logit, box if coarse else seen.place.out_of(box), shape) if there else np.zeros(shape, bool))
    return masks


@dataclass(frozen=True)
class Memory:
    """What the model said of other structures before it was taught. keys: their keys; masks: per image, one per structure."""

    images: tuple[Seen, ...]
    keys: tuple[str, ...]
    masks: tuple[list[np.ndarray], ...]

    @classmethod
    def of(cls, predictor: Predictor, images: Sequence[Seen], name: str) -> Memory:
        """Ask about up to MOST_WATCHED images."""
        watched = tuple(images[:MOST_WATCHED])
        keys = rehearsed(predictor, name)
        said = tuple(answers(predictor, seen, [display_name(k) for k in keys], coarse=True) for seen in watched) if keys else ()
        return cls(watched, keys, said)

    def agreement(self, predictor: Predictor) -> dict[str, float]:
        """How well the masks of today agree with those of before: structure -> mean Dice over the images that showed it."""
        if not self.keys:
            return {}
        seen: dict[str, list[float]] = {}
        for image, before in zip(self.images, self.masks, strict=True):
            now = answers(predictor, image, [display_name(k) for k in self.keys], coarse=True)
            for key, old, new in zip(self.keys, before, now, strict=True):
                if old.any():
                    seen.setdefault(key, []).append(overlap(new, old))
        return {key: round(float(np.mean(values)), 4) for key, values in seen.items()}


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks bool [row, column]; two empty ones agree fully."""
    both = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / both if both else 1.0
