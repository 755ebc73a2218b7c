"""Which questions an image is asked while training, and what the right answers are, as token ids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

from training.anatomy import vocabulary
from training.fit.records import ABSENT, VIEWS, Records
from training.fit.targets import Moved, Sketch
from training.model.marking import COLOURS, outlined, overlaid
from training.model.packing import Segment, Segments
from training.model.special import SpecialTokens
from training.tokens.boxes import box_to_bins
from training.tokens.codebook import CROP, MaskCodebook
from training.tokens.grammar import ABSENT as NONE
from training.tokens.grammar import (
    CODES_PER_MASK,
    NAME_BOX_PROMPT,
    NAME_MASK_PROMPT,
    SEPARATOR,
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


@dataclass(frozen=True)
class Tasks:
    """Shares of the questions. What is left over by the others is `segment`. Names: chance of a synonym instead of the
    display name; spoken: chance, per batch, that answers are written out: the names after the tokens (they repeat the
    prompt, and lengthen every row); several: chance that such a batch asks for two or three structures at a time, in a
    third as many questions, because every row is as long as the longest; marked: chance, per image, that a box or a mask is
    drawn into it and one of the questions asks for its name; emphasis: how many times as often the main structures are
    asked; first: structures, by their keys, that are asked about wherever they are seen."""

    absent: float = 0.1
    detect: float = 0.05
    caption_box: float = 0.06
    caption_mask: float = 0.02
    view: float = 0.02
    marked: float = 0.1
    slips: float = 0.0
    several: float = 0.3
    synonym: float = 0.3
    spoken: float = 0.15
    emphasis: float = 2.5
    first: tuple[str, ...] = ()

    @classmethod
    def segment_only(cls) -> Tasks:
        """Nothing but "segment", under the display name, answers in full."""
        return cls(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1)


@dataclass(frozen=True)
class Shown:
    """A structure in the picture. index: of the structure; box: its padded box float [4]; written: the one in its answer."""

    index: int
    box: np.ndarray
    written: np.ndarray

    def slipped(self, rng: np.random.Generator) -> Shown:
        """The same with a box whose edges are off, each by another part of its height or width."""
        size = np.tile(self.box[2:] - self.box[:2], 2)
        written = self.box + rng.normal(0, math.exp(rng.uniform(*np.log(SLIP))), 4) * size
        centre = (written[:2] + written[2:]) / 2
        least = np.maximum(written[2:] - written[:2], size[2:] / 2) / 2
        return replace(self, written=np.concatenate([centre - least, centre + least]).clip(0, 1))


@dataclass(frozen=True)
class Question:
    """One question about one image. about: what the answer shows; word: the view to be named, or the index of the structure that
    is not there."""

    kind: str
    about: tuple[Shown, ...] = ()
    word: str | int = ""


MARKED = ("drawn box", "overlaid mask")
SLIP = (0.004, 0.3)
"""How far an edge is off where the model is to go on from a wrong box, standard deviation, as a share of the box: from a good
answer about a synthetic radiograph to a bad one about a real one."""
FIRST = 1e9
"""How many times as often as others structures are asked that come first."""
MOST_AT_ONCE = 3
"""How many structures one question names at most."""
DRAWN = ("segment", "several")
SHOWN = (*DRAWN, "detect", "caption box", "caption mask", *MARKED)


@dataclass(frozen=True)
class Marks:
    """What is drawn into images, one thing into each. images: int64 [n]; masks: int64 [n], which of the questions' masks, or
    the box of which; boxes: float32 [n, 4], (top, left, bottom, right) as shares of the side; colours: int64 [n]."""

    images: Tensor
    masks: Tensor
    boxes: Tensor
    colours: Tensor

    @classmethod
    def of(cls, shown: Sequence[tuple[int, str, Shown]], kind: str, rng: np.random.Generator) -> Marks:
        """Those of the questions of a kind. shown: image, kind and structure of each of the questions' masks."""
        numbers = torch.tensor([i for i, (_, k, _) in enumerate(shown) if k == kind], dtype=torch.long)
        images = torch.tensor([shown[i][0] for i in numbers.tolist()], dtype=torch.long)
        boxes = np.array([shown[i][2].box for i in numbers.tolist()], np.float32).reshape(-1, 4)
        colours = torch.from_numpy(rng.integers(len(COLOURS), size=len(numbers)))
        return cls(images, numbers, torch.from_numpy(boxes), colours)


@dataclass(frozen=True)
class Asked:
    """Questions whose codes are not written yet. segments: in their ids, -1 - (16 i + j) stands for code j of mask i; masks: a
    sketch of these masks in their boxes; answered: bool [masks], drawn by an answer; outlined, overlaid: what the questions point
    at, by a drawn box and by a mask laid over."""

    segments: Segments
    masks: Sketch
    answered: Tensor
    outlined: Marks
    overlaid: Marks

    @classmethod
    def nothing(cls) -> Asked:
        """No question."""
        none = Marks.of((), "", np.random.default_rng())
        return cls(Segments.none(), Sketch.none(CROP), torch.zeros(0, dtype=torch.bool), none, none)

    def answers(self, crops: Tensor, codebook: MaskCodebook, seg: Tensor) -> tuple[Segments, Tensor]:
        """The questions with their codes, and the masks that the answers draw, float32 [n, 64, 64], in the order of their codes.

        crops: the masks, drawn; codebook: where they are; seg: int64 [128], the ids of the codes.
        """
        if not len(crops):
            return self.segments, crops
        codes = seg.to(crops.device)[codebook.encode(crops).flatten()]

        def with_codes(ids: Tensor) -> Tensor:
            return torch.where(ids < 0, codes[(-1 - ids).clamp_min(0)], ids)

        written = replace(self.segments, ids=with_codes(self.segments.ids), aims=with_codes(self.segments.aims))
        return written, crops[self.answered]

    def mark(self, pixels: Tensor, crops: Tensor) -> None:
        """Draw what the questions point at into pixels float [images, 3, side, side] in -1..1, in place. crops: the masks,
        drawn."""
        box, laid = self.outlined, self.overlaid
        if len(box.images):
            pixels[box.images] = outlined(pixels[box.images], box.boxes, box.colours)
        if len(laid.images):
            pixels[laid.images] = overlaid(pixels[laid.images], laid.boxes, crops[laid.masks], laid.colours)

    def pointed(self, images: int, side: int) -> tuple[Tensor, Tensor]:
        """The boxes that are pointed at, float32 [images, side, side], and in which images something is, bool [images]."""
        boxes = torch.cat([self.outlined.boxes, self.overlaid.boxes])[..., None]
        where = torch.cat([self.outlined.images, self.overlaid.images])
        place = (torch.arange(side, device=boxes.device) + 0.5) / side
        rows, columns = ((place > boxes[:, :2]) & (place < boxes[:, 2:])).float().unbind(1)
        drawn, known = boxes.new_zeros(images, side, side), torch.zeros(images, dtype=torch.bool, device=boxes.device)
        drawn[where] = rows[:, :, None] * columns[:, None]
        known[where] = True
        return drawn, known


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
        self._weight = np.array([FIRST if k in self.tasks.first else self.tasks.emphasis if k in MAIN else 1.0 for k in keys])
        self._loc = self.tokens.loc.tolist()

    def ask(self, moved: Moved, count: int, rng: np.random.Generator) -> Asked:
        """Up to `count` questions about each image of `moved`, as many about each, in their order."""
        spoken = bool(rng.random() < self.tasks.spoken)
        several = spoken and bool(rng.random() < self.tasks.several)
        count = max(1, count // MOST_AT_ONCE) if several else count
        asked = [(image, q) for image in range(len(moved.cases)) for q in self._questions(moved, image, count, several, rng)]
        shown = [(image, q.kind, one) for image, q in asked for one in q.about]
        if not shown:
            segments = [self._segment(q, (), spoken, rng) for _, q in asked]
            return replace(Asked.nothing(), segments=Segments.of(segments, self.tokens.pad))
        images, structures = np.array([s[0] for s in shown]), np.array([s[2].index for s in shown])
        there = np.stack([s[2].written for s in shown]) - np.tile(moved.strays(images, structures), 2)
        masks = moved.crop_sketch(images, structures, there)
        answered = torch.tensor([kind in DRAWN for _, kind, _ in shown])
        marks = (Marks.of(shown, kind, rng) for kind in MARKED)
        numbers = iter(range(len(shown)))
        segments = [self._segment(q, tuple(islice(numbers, len(q.about))), spoken, rng) for _, q in asked]
        return Asked(Segments.of(segments, self.tokens.pad), masks, answered, *marks)

    def _questions(self, moved: Moved, image: int, count: int, several: bool, rng: np.random.Generator) -> list[Question]:
        case = moved.cases[image]
        missing = np.flatnonzero((self.records.state[case] == ABSENT) | moved.gone[image])
        view = VIEWS[self.records.view[case]]
        shown = self._shown(moved, image, count * MOST_AT_ONCE if several else count, rng)
        kinds = self._kinds(count, bool(shown), bool(len(missing)), bool(view), several, rng)
        if shown and rng.random() < self.tasks.marked and not moved.strays(image, slice(None)).any():
            kinds[int(rng.integers(count))] = MARKED[int(rng.integers(2))]
        order = cycle(shown)
        questions = []
        for kind in kinds:
            if kind in SHOWN:
                named = min(int(rng.integers(2, MOST_AT_ONCE + 1)), len(shown)) if kind == "several" else 1
                about = tuple(islice(order, named))
                if kind in DRAWN and self.tasks.slips:
                    about = tuple(one.slipped(rng) if rng.random() < self.tasks.slips else one for one in about)
                questions.append(Question(kind, about))
            elif kind == "absent":
                questions.append(Question(kind, word=int(rng.choice(missing))))
            else:
                questions.append(Question("view", word=view or "PA"))
        return questions

    def _shown(self, moved: Moved, image: int, count: int, rng: np.random.Generator) -> list[Shown]:
        """Up to `count` structures in the picture, drawn by weight."""
        there = np.flatnonzero(moved.whole[image] | moved.cut[image])
        # The largest of weighted exponential keys are a weighted draw without repeating one (Efraimidis and Spirakis 2006).
        order = there[np.argsort(rng.exponential(size=len(there)) / self._weight[there])]
        boxes = ((int(i), moved.box(image, int(i))) for i in order)
        found = ((i, (box + np.tile(moved.strays(image, i), 2)).clip(0, 1)) for i, box in boxes if box is not None)
        return list(islice((Shown(i, box, box) for i, box in found), count))

    def _kinds(self, count: int, shown: bool, missing: bool, view: bool, several: bool, rng: np.random.Generator) -> list[str]:
        t = self.tasks
        shares = {
            "absent": t.absent * missing if shown else float(missing),
            "detect": t.detect * shown,
            "caption box": t.caption_box * shown,
            "caption mask": t.caption_mask * shown,
            "view": t.view * view,
        }
        shares["several" if several else "segment"] = max(0.0, 1 - sum(shares.values())) * shown
        p = np.array(list(shares.values()))
        return [str(k) for k in rng.choice(list(shares), count, p=p / p.sum())] if p.sum() else ["view"] * count

    def _name(self, i: int, rng: np.random.Generator) -> str:
        names = self._names[i]
        return names[0] if len(names) == 1 or rng.random() >= self.tasks.synonym else names[int(rng.integers(1, len(names)))]

    def _segment(self, question: Question, masks: tuple[int, ...], spoken: bool, rng: np.random.Generator) -> Segment:
        """masks: number of the mask of each structure that the question is about."""
        encode, eos, kind = self.tokens.encode, self.tokens.eos, question.kind
        if kind == "view":
            return Segment(self.tokens.prompt(VIEW_PROMPT), (*encode(VIEW_ANSWERS[str(question.word)]), eos))
        if kind == "absent":
            name = self._name(int(question.word), rng)
            asked = detect_prompt(name) if rng.random() < 0.15 else segment_prompt(name)
            return Segment(self.tokens.prompt(asked), (*encode(f"{NONE} {name}"), eos))
        names = [self._name(one.index, rng) for one in question.about]
        # A box alone leaves room for the name in every row; without it, nothing would teach that no mask follows.
        written_out = spoken or kind == "detect"
        answer: list[int] = []
        aim: list[int] = []
        for number, (mask, one, name) in enumerate(zip(masks, question.about, names, strict=True)):
            place = _bins(one.box)
            said = [-1 - (CODES_PER_MASK * mask + code) for code in range(CODES_PER_MASK)]
            for written, box in ((answer, one.written), (aim, one.box)):
                written += encode(SEPARATOR) if number else ()
                written += [self._loc[v] for v in _bins(box)]
                written += [] if kind == "detect" else said
                written += encode(f" {name}") if written_out else ()
        if kind in ("segment", "several", "detect"):
            asked = detect_prompt(names[0]) if kind == "detect" else segment_prompt(names)
            end = (eos,) if written_out else ()
            return Segment(self.tokens.prompt(asked), (*answer, *end), (*aim, *end) if aim != answer else ())
        asked = {
            "caption box": caption_box_prompt(place),
            "caption mask": caption_mask_prompt([0] * CODES_PER_MASK, place if rng.random() < 0.5 else None),
            "drawn box": NAME_BOX_PROMPT,
            "overlaid mask": NAME_MASK_PROMPT,
        }[kind]
        still = iter(said)
        prompt = tuple(next(still) if self.tokens.code_of[i] >= 0 else i for i in self.tokens.prompt(asked))
        return Segment(prompt, (*encode(names[0]), eos))


def _bins(box: np.ndarray) -> tuple[int, int, int, int]:
    """A box as shares of the side, as locations."""
    top, left, bottom, right = (float(edge) for edge in box)
    return box_to_bins((top, left, bottom, right), (1, 1))
