"""Which questions an image is asked while training, and what the right answers are, as token ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from training.anatomy import vocabulary
from training.fit.augment import Placement
from training.fit.records import ABSENT, PRESENT, VIEWS, Records
from training.model.packing import Segment, Segments
from training.model.special import SpecialTokens
from training.tokens.boxes import LOC_BINS, box_to_bins
from training.tokens.grammar import (
    VIEW_ANSWERS,
    VIEW_PROMPT,
    caption_box_prompt,
    caption_mask_prompt,
    detect_prompt,
    segment_prompt,
)

MAIN = (
    "lung_left", "lung_right", "lung_field_left", "lung_field_right", "lung_outline_left", "lung_outline_right",
    "heart", "clavicula_left", "clavicula_right", "aorta", "trachea",
    "liver", "spine", "diaphragm", "spleen", "stomach", "scapula_left", "scapula_right",
)  # fmt: skip
"""Structures that are asked about more often and watched while training."""

# How far a box may reach over the image's edge, as a share of its side, and still count as whole.
OVERHANG = 0.006


@dataclass(frozen=True)
class Tasks:
    """Shares of the questions. What is left over by the others is `segment`. Names: chance of a synonym instead of the display
    name; spoken: chance, per batch, that the names after the tokens are trained on (they repeat the prompt, and lengthen every
    row); emphasis: how many times as often the main structures are asked."""

    absent: float = 0.1
    detect: float = 0.05
    caption_box: float = 0.06
    caption_mask: float = 0.02
    view: float = 0.02
    synonym: float = 0.3
    spoken: float = 0.15
    emphasis: float = 2.5

    @classmethod
    def segment_only(cls) -> Tasks:
        """Nothing but "segment", under the display name, answers in full."""
        return cls(0, 0, 0, 0, 0, 0, 1, 1)


@dataclass
class Asker:
    """Draws questions for images. names: structure key -> display name and synonyms, for structures outside the vocabulary."""

    records: Records
    tokens: SpecialTokens
    tasks: Tasks
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = vocabulary()
        keys = [str(k) for k in self.records.structures]
        self._names = [
            self.names.get(k) or ((known[k].name, *known[k].synonyms) if k in known else (k.replace("_", " "),)) for k in keys
        ]
        self._weight = np.array([self.tasks.emphasis if k in MAIN else 1.0 for k in keys])
        self._spoken = True
        self._loc, self._seg = self.tokens.loc.tolist(), self.tokens.seg.tolist()

    def ask(self, cases: np.ndarray, placement: Placement, count: int, rng: np.random.Generator) -> Segments:
        """Return `count` questions for each of `cases`, in their order."""
        boxes = placement.boxes(self.records.boxes[cases])
        self._spoken = rng.random() < self.tasks.spoken
        segments = [s for row, case in enumerate(cases) for s in self._about(int(case), boxes[row], count, rng)]
        return Segments.of(segments, self.tokens.pad)

    def _about(self, case: int, boxes: np.ndarray, count: int, rng: np.random.Generator) -> list[Segment]:
        state = self.records.state[case]
        there = state == PRESENT
        outside = there & ((boxes[:, :2] > 0.995).any(1) | (boxes[:, 2:] < 0.005).any(1))
        whole = there & (boxes[:, :2] > -OVERHANG).all(1) & (boxes[:, 2:] < 1 + OVERHANG).all(1)
        shown, missing = np.flatnonzero(whole), np.flatnonzero((state == ABSENT) | outside)
        view = VIEWS[self.records.view[case]]
        if not len(shown) and not len(missing):
            return [self._view(view or "PA")] * count
        kinds = self._kinds(count, rng, bool(len(shown)), bool(len(missing)), bool(view))
        order = iter(_draw(shown, self._weight, count, rng))
        segments = []
        for kind in kinds:
            if kind == "absent":
                segments.append(self._none(int(rng.choice(missing)), rng))
            elif kind == "view":
                segments.append(self._view(view))
            else:
                i = next(order)
                segments.append(self._present(kind, i, boxes[i], self.records.codes[case, i], rng))
        return segments

    def _kinds(self, count: int, rng: np.random.Generator, shown: bool, missing: bool, view: bool) -> list[str]:
        t = self.tasks
        shares = {
            "absent": t.absent * missing if shown else 1.0,
            "detect": t.detect * shown,
            "caption box": t.caption_box * shown,
            "caption mask": t.caption_mask * shown,
            "view": t.view * view,
        }
        shares["segment"] = max(0.0, 1 - sum(shares.values())) * shown
        p = np.array(list(shares.values()))
        return [str(k) for k in rng.choice(list(shares), count, p=p / p.sum())]

    def _name(self, i: int, rng: np.random.Generator) -> str:
        names = self._names[i]
        return names[0] if len(names) == 1 or rng.random() >= self.tasks.synonym else names[int(rng.integers(1, len(names)))]

    def _ending(self, name: str) -> tuple[int, ...]:
        return (*self.tokens.encode(f" {name}"), self.tokens.eos) if self._spoken else ()

    def _none(self, i: int, rng: np.random.Generator) -> Segment:
        name = self._name(i, rng)
        asked = detect_prompt(name) if rng.random() < 0.15 else segment_prompt(name)
        return Segment(self.tokens.prompt(asked), (*self.tokens.encode(f"none {name}"), self.tokens.eos))

    def _view(self, view: str) -> Segment:
        return Segment(self.tokens.prompt(VIEW_PROMPT), (*self.tokens.encode(VIEW_ANSWERS[view]), self.tokens.eos))

    def _present(self, kind: str, i: int, box: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> Segment:
        name = self._name(i, rng)
        place = box_to_bins((float(box[0]), float(box[1]), float(box[2]), float(box[3])), (1, 1))
        box_ids = tuple(self._loc[v] for v in place)
        code_ids = tuple(self._seg[int(c)] for c in codes)
        if kind == "detect":
            return Segment(self.tokens.prompt(detect_prompt(name)), (*box_ids, *self._ending(name)))
        if kind == "segment":
            return Segment(self.tokens.prompt(segment_prompt(name)), (*box_ids, *code_ids, *self._ending(name)))
        asked = caption_box_prompt(place)
        if kind == "caption mask":
            asked = caption_mask_prompt([int(c) for c in codes], place if rng.random() < 0.5 else None)
        return Segment(self.tokens.prompt(asked), (*self.tokens.encode(name), self.tokens.eos))


def _draw(shown: np.ndarray, weight: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Draw `count` structures by weight, without repeating one before all were drawn."""
    if not len(shown):
        return []
    drawn: list[int] = []
    while len(drawn) < count:
        p = weight[shown] / weight[shown].sum()
        drawn += rng.choice(shown, min(len(shown), count - len(drawn)), replace=False, p=p).tolist()
    return drawn


def token_loss(
    logits: Tensor, targets: Tensor, tokens: SpecialTokens, sigma: float, smoothing: float
) -> tuple[Tensor, dict[str, tuple[float, int]]]:
    """Mean cross-entropy of answer tokens, and sums and counts of what is watched.

    logits: float32 [k, vocabulary]; targets: int64 [k]; locations are aimed at with a Gaussian of `sigma` bins, mask codes with
    label smoothing over the codes, text plainly.
    """
    scores = logits.log_softmax(-1)
    bins, codes = tokens.bin_of.to(targets.device)[targets], tokens.code_of.to(targets.device)[targets]
    is_box, is_code = bins >= 0, codes >= 0
    loss = -scores.gather(1, targets[:, None])[:, 0]
    parts = [loss[~is_box & ~is_code]]
    watched: dict[str, tuple[float, int]] = {}
    if is_box.any():
        here = scores[is_box][:, tokens.loc.to(targets.device)]
        ruler = torch.arange(LOC_BINS, device=targets.device)
        if sigma > 0:
            aim = torch.exp(-0.5 * ((ruler - bins[is_box][:, None]) / sigma) ** 2)
            parts.append(-(here * aim / aim.sum(1, keepdim=True)).sum(1))
        else:
            parts.append(loss[is_box])
        error = (here.detach().argmax(1) - bins[is_box]).abs().float()
        watched["box_error"] = (float(error.sum()), len(error))
    if is_code.any():
        here = scores[is_code][:, tokens.seg.to(targets.device)]
        parts.append((1 - smoothing) * loss[is_code] - smoothing * here.mean(1))
        right = here.detach().argmax(1) == codes[is_code]
        watched["code_accuracy"] = (float(right.sum()), len(right))
    everything = torch.cat(parts)
    return everything.mean(), watched
