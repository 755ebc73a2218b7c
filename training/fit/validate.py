"""A quick look at a model in training: how far boxes, codes and masks are off on held-out subjects."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training.fit.augment import Augmentation, Overlays, photograph, spread
from training.fit.dense import DenseHead, dense_dice
from training.fit.losses import token_loss
from training.fit.parts import better_in_parts
from training.fit.placement import place, resample
from training.fit.queries import MAIN
from training.fit.records import ABSENT, PRESENT, Records
from training.fit.targets import Moved
from training.model import decoding
from training.model.checkpoint import Checkpoint
from training.model.confidence import Confidence
from training.model.packing import Segment, Segments, logits_of, read, see
from training.model.predictor import display_name
from training.model.special import SpecialTokens
from training.tokens import box_to_bins
from training.tokens.codebook import paste_mask
from training.tokens.grammar import segment_prompt

SIDE = 112
"""Edge of the masks that are compared [px]."""
LEAST_JUDGED = 50
"""Answers without which nothing is learnt about the confidence."""


@dataclass(frozen=True)
class Judged:
    """An answer, whether the structure is there, its Dice (0 where it is not), and the image it is about."""

    structure: str
    answer: decoding.Written
    there: bool
    dice: float
    image: int


@torch.inference_mode()
def validate(
    checkpoint: Checkpoint,
    records: Records,
    images: int,
    head: DenseHead | None = None,
    augmentation: Augmentation | None = None,
    judged: list[Judged] | None = None,
) -> dict[str, float]:
    """Ask for the main structures and a sample of the others in up to `images` cases.

    Returns box_error [bins] and dice (mean over structures, at SIDE pixels), dice/<main structure>, token_loss and
    code_accuracy (given the right box and the right codes before), dense_dice (of the auxiliary head, which is not shipped),
    absent (share of absent structures called absent), present (share of present ones called present); what counts as present is
    said by the card; what it puts together from parts is asked at once here. augmentation: changes the images before; judged:
    is given every answer.
    """
    codebook, model = checkpoint.codebook, checkpoint.model
    assert codebook is not None
    device = next(model.parameters()).device
    tokens = SpecialTokens(checkpoint.tokenizer, model.config.get_text_config().vocab_size)
    keys = [str(k) for k in records.structures]
    threshold = float(checkpoint.card.get("presence_threshold", 0.5))
    changes = augmentation or Augmentation.none()
    rng = np.random.default_rng(0)
    cases = np.linspace(0, len(records) - 1, min(images, len(records))).round().astype(int)
    seen: dict[str, list[float]] = defaultdict(list)
    dice: dict[str, list[float]] = defaultdict(list)
    dense: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        state = records.state[case]
        main = [i for i, k in enumerate(keys) if k in MAIN and state[i] == PRESENT]
        others = [i for i in np.flatnonzero(state == PRESENT) if i not in main]
        gone = np.flatnonzero(state == ABSENT)
        asked = [*main, *rng.permutation(others)[:12].tolist(), *rng.permutation(gone)[:4].tolist()]
        if not asked:
            continue
        placement = place(changes, 1, rng)
        overlays = Overlays.draw(changes, 1, checkpoint.image_size, rng)
        image = resample(
            torch.from_numpy(records.images[[int(case)]].astype(np.float32))[:, None], placement.whole, checkpoint.image_size
        )
        image = spread(photograph(image, changes, rng, overlays))
        pixels = (image * 2 - 1).expand(1, 3, -1, -1).to(device, model.dtype)
        prefix = see(model, pixels, packed=checkpoint.packed)
        prompts = [tokens.prompt(segment_prompt(display_name(keys[i]))) for i in asked]
        written = decoding.write(model, tokens, prefix, prompts)
        moved = Moved(records, np.array([case]), placement, overlays.field(checkpoint.image_size))
        masks = moved.dense(np.arange(len(keys)), SIDE) * overlays.open(SIDE, checkpoint.image_size)
        if head is not None:
            logits = head(prefix.vision)[:, : len(keys)]
            for key, value in zip(keys, dense_dice(logits, masks.to(device))[0].tolist(), strict=True):
                if not np.isnan(value):
                    dense[key].append(value)
        answers = []
        decoded = codebook.decode(torch.tensor([w.codes for w in written])).cpu().numpy()
        for i, prompt, answer, logits in zip(asked, prompts, written, decoded, strict=True):
            if state[i] == ABSENT:
                seen["absent"].append(answer.presence < threshold)
                if judged is not None:
                    judged.append(Judged(keys[i], answer, False, 0.0, int(case)))
                continue
            seen["present"].append(answer.presence >= threshold)
            box = moved.box(0, i)
            mask = masks[0, i].numpy() > 0.5
            if box is None or not mask.any():
                continue
            codes = codebook.encode(moved.crops(np.zeros(1, int), np.array([i]), box[None]))[0]
            bins = box_to_bins((float(box[0]), float(box[1]), float(box[2]), float(box[3])), (1, 1))
            answers.append(Segment(prompt, (*tokens.loc[list(bins)].tolist(), *tokens.seg[codes.cpu()].tolist())))
            seen["box_error"].append(float(np.abs(np.subtract(answer.bins, bins)).mean()))
            top, left, bottom, right = (v / 1023 * SIDE for v in answer.bins)
            drawn = paste_mask(logits, (top, left, bottom, right), (SIDE, SIDE)) & (answer.presence >= threshold)
            dice[keys[i]].append(float(2 * (drawn & mask).sum() / (drawn.sum() + mask.sum())))
            if judged is not None:
                judged.append(Judged(keys[i], answer, True, dice[keys[i]][-1], int(case)))
        if answers:
            right_ones = Segments.of(answers, tokens.pad).to(device)
            hidden, _, _ = read(model, prefix, right_ones, len(answers), copy.deepcopy(prefix.cache))
            row, position, wanted = right_ones.targets()
            loss, watched = token_loss(logits_of(model, hidden[row, position]), wanted, tokens, 0.0, None)
            total, count = watched["code_accuracy"]
            seen["token_loss"].append(float(loss))
            seen["code_accuracy"].append(total / count)
    names = ("box_error", "token_loss", "code_accuracy", "absent", "present")
    scores = {name: _mean(seen[name]) for name in names}
    scores |= {"dice": _mean([_mean(v) for v in dice.values()]), "dense_dice": _mean([_mean(v) for v in dense.values()])}
    return scores | {f"dice/{k}": _mean(dice[k]) for k in keys if k in MAIN and k in dice}


def calibrate(checkpoint: Checkpoint, records: Records, images: int, augmentation: Augmentation) -> dict[str, Any]:
    """Learn, on held-out images as they are and changed as in training, what an answer's certainty says about its mask, and from
    which probability on a structure is to be called there, both left out where there were too few answers; and, on half of the
    images, what is drawn better part by part. For the card."""
    judged: list[Judged] = []
    checkpoint.card.pop("presence_threshold", None)
    for changes in (None, augmentation):
        validate(checkpoint, records, images, None, changes, judged)
    learnt: dict[str, Any] = {}
    if sum(not j.there for j in judged) >= LEAST_JUDGED <= sum(j.there for j in judged):
        learnt["presence_threshold"] = presence_threshold(
            *zip(*((j.answer.presence, j.there, j.image) for j in judged), strict=True)
        )
    drawn = [j for j in judged if j.there and j.answer.presence >= learnt.get("presence_threshold", 0.5)]
    if len(drawn) >= LEAST_JUDGED:
        columns = zip(*((j.structure, j.answer, j.dice, j.image) for j in drawn), strict=True)
        learnt["confidence"] = Confidence.learn(*columns).to_dict()
    checkpoint.card.update(learnt)
    learnt["in_parts"] = checkpoint.card["in_parts"] = better_in_parts(checkpoint, records, images // 2)
    return learnt


def presence_threshold(presence: Sequence[float], there: Sequence[bool], images: Sequence[int]) -> float:
    """The probability from which on a structure is called there, 0.05 to 0.95: right about as many as possible of those that are
    and of those that are not, both counting alike however many there are of each. Of cuts that differ by less than the standard
    error of that share, the one nearest to 0.5: a higher one would deny what is there for no proven gain. images: which image
    each answer is about; answers about one image err together, so the error is that of so many images."""
    p, is_there, image = np.asarray(presence, float), np.asarray(there, bool), np.asarray(images)
    cuts = np.linspace(0.05, 0.95, 91)
    kept = np.array([(p[is_there] >= cut).mean() for cut in cuts])
    refused = np.array([(p[~is_there] < cut).mean() for cut in cuts])
    balanced = (kept + refused) / 2
    best = int(balanced.argmax())
    right = (p >= cuts[best]) == is_there
    variance = sum(_variance(right[kind], image[kind]) for kind in (is_there, ~is_there))
    as_good = cuts[balanced >= balanced[best] - variance**0.5 / 2 - 1e-9]
    return round(float(as_good[np.abs(as_good - 0.5).argmin()]), 2)


def _variance(values: np.ndarray, groups: np.ndarray) -> float:
    """Of the mean of values that are alike within a group."""
    _, group = np.unique(groups, return_inverse=True)
    off = np.bincount(group, values - values.mean())
    return float((off**2).sum()) / len(values) ** 2


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
