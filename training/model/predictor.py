"""Ask a model for anatomy by name, or for the name of what a box or a mask shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.anatomy import find, vocabulary
from training.anatomy import trainable as trainable_structures
from training.errors import BrokenModel, ChexanatomyError, UnknownStructure
from training.images import Radiograph
from training.model import decoding
from training.model.checkpoint import Checkpoint
from training.model.confidence import LOW_CONFIDENCE, Confidence
from training.model.loading import Say, load_checkpoint
from training.model.looks import LOOKS, Box, Look, moved
from training.model.marking import outlined, overlaid, sound_box
from training.model.packing import Prefix, Segment, recall, see
from training.model.parts import answered_by, united
from training.model.preprocess import Letterbox, letterbox, stretch
from training.model.special import SpecialTokens
from training.model.taught import Adapters, Weights
from training.progress import ProgressCallback, report
from training.tokens import Answer, bins_to_box, box_to_bins, tight_box, write_answer
from training.tokens.grammar import (
    NAME_BOX_PROMPT,
    NAME_MASK_PROMPT,
    VIEW_ANSWERS,
    VIEW_PROMPT,
    caption_box_prompt,
    caption_mask_prompt,
    clean_name,
    read_names,
    segment_prompt,
)

FRONTAL = "PA or AP"
SURE_OF_VIEW = 0.9
"""Views are told until they are together at least this probable."""


@dataclass(frozen=True)
class Finding:
    """What the model says about one structure in one image.

    structure: vocabulary key, or the free name an adapter has learnt; present: whether it is in the image, with at least a pixel;
    box: (top, left, bottom, right) [px] and mask: bool [row, column] at the image's size, None where absent; confidence: 0..1,
    the Dice that is to be expected of the mask (`training.model.confidence`; the probability of presence in a model that has not
    learnt it), where absent the probability of absence; tokens: the answer token by token; text: the answer; probability: float32
    [row, column], mean over altered looks at the image (`accurate`), else None; convention: "outline" where the answer is a lung
    as readers draw it, though the projected lung was asked for (`training.model.convention`). Of a structure that is put together
    from parts (`training.model.parts`) tokens and text hold an answer for each, confidence is the mean of those present.
    """

    structure: str
    present: bool
    box: Box | None
    mask: np.ndarray | None
    confidence: float
    tokens: tuple[str, ...]
    text: str
    probability: np.ndarray | None = None
    convention: str = ""

    @property
    def doubtful(self) -> bool:
        """True when the model says "there" and yet expects less of its mask than LOW_CONFIDENCE: to be looked at twice."""
        return self.present and self.confidence < LOW_CONFIDENCE


def load(
    spec: str | Path = "embedded", codebook: str | Path | None = None, device: str | None = None, say: Say | None = None
) -> Predictor:
    """Open a model: "embedded", a folder, a hub id, "base+adapter" or an adapter folder. codebook: path of a mask codebook
    (`vae-oid.npz` or ours) for models that come without one; device: "cpu", "cuda", by default the GPU where there is one;
    say: told before anything is fetched from the network, by default the log."""
    return Predictor(load_checkpoint(spec, codebook, say), device)


class Predictor:
    """A loaded model, ready to answer. It keeps what it saw of the last image, so that more questions about it cost little."""

    def __init__(self, checkpoint: Checkpoint, device: str | None = None) -> None:
        self.checkpoint = checkpoint
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model = checkpoint.model.to(self.device).eval()
        self.tokens = SpecialTokens(checkpoint.tokenizer, self.model.config.get_text_config().vocab_size)
        self.weights = Weights(self.model, checkpoint.taught)
        self._last: tuple[bytes, dict[Adapters, Prefix]] = (b"", {})

    @property
    def card(self) -> dict[str, Any]:
        """What is known about the model."""
        return self.checkpoint.card

    @property
    def stretches(self) -> bool:
        """Whether grey levels are spread before the model looks, as they were when it was taught."""
        return bool(self.card.get("stretch", self.checkpoint.packed))

    @property
    def learned(self) -> tuple[str, ...]:
        """Names outside the vocabulary that an adapter has taught the model."""
        return tuple(self.card.get("learned", ()))

    def segment(
        self,
        radiograph: Radiograph,
        structures: Sequence[str],
        batch: int = 32,
        *,
        expectation: bool = False,
        accurate: bool = False,
        progress: ProgressCallback | None = None,
    ) -> list[Finding]:
        """Box and mask of every named structure (key, display name or synonym), in the order asked. Structures that the card
        has under `in_parts` are put together from the answers to their parts, without adapters that were taught one of these.

        batch: prompts answered at the same time; expectation: average over neighbouring box bins instead of taking the likeliest;
        accurate: average len(LOOKS) slightly moved looks at the image, blending the codes between which each hesitates, in four
        to seven times the time.
        Raises UnknownStructure for names nobody knows, BrokenModel without a mask codebook, ChexanatomyError for a batch below 1.
        """
        if batch < 1:
            raise ChexanatomyError(f"{batch} structures cannot be answered at once: let the batch be 1 or more.")
        if self.checkpoint.codebook is None:
            raise BrokenModel(
                f"The model {self.checkpoint.name} came without a mask codebook: "
                "give the path of vae-oid.npz (--codebook, in Python codebook=...) to see its masks."
            )
        wanted = [(key, self._asked_as(key)) for key, _ in map(self._resolve, structures)]
        once = list(dict.fromkeys(question for _, questions in wanted for question in questions))
        asked = [self._resolve(part) for part, _ in once]
        if not asked:
            return []
        pixels, place = self.prepare(radiograph.pixels)
        looks = LOOKS if accurate else LOOKS[:1]
        findings: dict[int, Finding] = {}
        for adapters, places in self.weights.groups([answered for _, answered in once]).items():
            with self.weights.answering(adapters):
                prefixes = [self._see(moved(pixels, look), keep=look == LOOKS[0]) for look in looks]
                for start in range(0, len(places), batch):
                    report(progress, len(findings), len(asked), "Segmenting")
                    here = places[start : start + batch]
                    chunk = [asked[i] for i in here]
                    prompts = [self.tokens.prompt(segment_prompt(name)) for _, name in chunk]
                    answers = [
                        decoding.write(self.model, self.tokens, p, prompts, batch=batch, expectation=expectation, shares=accurate)
                        for p in prefixes
                    ]
                    plain = self._findings(chunk, answers[0], place)
                    seen = self._averaged(plain, answers, looks, place) if accurate else plain
                    findings |= zip(here, seen, strict=True)
        report(progress, len(asked), len(asked), "Segmenting")
        found = {question: findings[i] for i, question in enumerate(once)}
        return [united(key, [found[question] for question in questions]) for key, questions in wanted]

    def _averaged(
        self, plain: Sequence[Finding], answers: Sequence[Sequence[decoding.Written]], looks: Sequence[Look], place: Letterbox
    ) -> list[Finding]:
        """The plain findings with the mean mask over all looks; presence, tokens and text stay those of the plain look.

        The mask is where the mean is above one half or, where it nowhere is, above half of its highest value: then that is all
        the confidence there is.
        """
        from training.tokens.codebook import paste_logits

        assert self.checkpoint.codebook is not None
        guess = Confidence.from_card(self.card)
        drawn = []
        for written in answers:
            shares = torch.stack([w.code_shares for w in written if w.code_shares is not None])
            drawn.append(self.checkpoint.codebook.blend(shares).cpu().numpy())
        averaged = []
        for i, finding in enumerate(plain):
            total = np.zeros(place.shape, np.float32)
            trust = 0.0
            for look, written, logits in zip(looks, answers, drawn, strict=True):
                answer = written[i]
                box = look.back(bins_to_box(answer.bins, (place.size, place.size)), place.size)
                window, pasted = paste_logits(logits[i], place.out_of(box), place.shape)
                total[window] += answer.presence / len(looks) / (1 + np.exp(-pasted))
                trust += (guess(finding.structure, answer) if guess else answer.presence) / len(looks)
            if not finding.present or not total.any():
                averaged.append(replace(finding, probability=total))
                continue
            surest = float(total.max())
            mask, trust = (total > 0.5, trust) if surest > 0.5 else (total > surest / 2, min(trust, surest))
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = (float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1))
            averaged.append(replace(finding, box=box, mask=mask, confidence=trust, probability=total))
        return averaged

    def identify(
        self,
        radiograph: Radiograph,
        box: Box | None = None,
        mask: np.ndarray | None = None,
        structures: Sequence[str] | None = None,
        *,
        drawn: bool = False,
    ) -> list[tuple[str, float]]:
        """What a box (top, left, bottom, right) [px] or a mask [row, column], set where it is not 0, shows: (structure,
        probability), likeliest first.

        structures: the candidates, by default all the model knows; drawn: show box or mask in the picture instead of naming its
        tokens. The probabilities sum to 1 over the candidates. Raises ChexanatomyError for a box that is none.
        """
        rows, columns = radiograph.pixels.shape
        if mask is not None and mask.shape != (rows, columns):
            raise ChexanatomyError(
                f"The mask has {mask.shape} pixels, the radiograph {rows, columns}: draw it on this radiograph."
            )
        mask = None if mask is None else mask != 0
        box = box if mask is None else tight_box(mask)
        if box is None:
            raise ChexanatomyError("There is nothing to name: give a box, or a mask with at least one pixel.")
        box = sound_box(box, (rows, columns))
        from training.tokens.codebook import crop_mask

        side = self.checkpoint.image_size
        pixels, place = self.prepare(radiograph.pixels)
        square = place.into(box)
        crop = None if mask is None else torch.from_numpy(np.ascontiguousarray(crop_mask(mask, box)))
        if drawn:
            where, red = torch.tensor([square]).to(pixels) / side, torch.zeros(1, dtype=torch.long)
            pixels = outlined(pixels, where, red) if crop is None else overlaid(pixels, where, crop[None], red)
            prompts = [NAME_BOX_PROMPT if crop is None else NAME_MASK_PROMPT]
        else:
            bins = box_to_bins(square, (side, side))
            prompts = [caption_box_prompt(bins)]
            if crop is not None and self.checkpoint.codebook is not None:
                with torch.inference_mode():
                    prompts.append(caption_mask_prompt(self.checkpoint.codebook.encode(crop[None])[0].tolist(), bins))
        candidates = list(dict.fromkeys(self._resolve(s) for s in structures or (*self._known(), *self.learned)))
        answers = self._likely(pixels, prompts, [name for _, name in candidates])
        return sorted(((key, p) for (key, _), p in zip(candidates, answers, strict=True)), key=lambda pair: -pair[1])

    def view(self, radiograph: Radiograph) -> list[tuple[str, float]]:
        """How the radiograph was taken: (PA, AP, LATERAL or OBLIQUE, probability), likeliest first."""
        answers = self._likely(self.prepare(radiograph.pixels)[0], [VIEW_PROMPT], list(VIEW_ANSWERS.values()))
        return sorted(zip(VIEW_ANSWERS, answers, strict=True), key=lambda pair: -pair[1])

    def ask(self, radiograph: Radiograph, prompt: str) -> str:
        """What the model writes of itself after any prompt of `training.tokens.grammar`, such as "segment heart ; left clavicle".

        Nothing holds it to the grammar: read the text with `training.tokens.read_answer`, which counts what cannot be read.
        The last name in it that an adapter was taught decides which weights answer.
        """
        pixels, _ = self.prepare(radiograph.pixels)
        *_, adapters = self.weights.groups([self._asked_for(name) for name in read_names(prompt)] or [""])
        with self.weights.answering(adapters):
            said = decoding.speak(self.model, self.tokens, self._see(pixels), self.tokens.prompt(prompt))
        return self.tokens.text(said).strip()

    def _likely(self, pixels: torch.Tensor, prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
        """Probability of each text as the answer, the prompts' opinions averaged."""
        scores = torch.zeros(len(prompts), len(texts))
        for adapters, places in self.weights.groups(texts).items():
            segments = [
                Segment(self.tokens.prompt(prompt), (*self.tokens.encode(texts[i]), self.tokens.eos))
                for prompt in prompts
                for i in places
            ]
            with self.weights.answering(adapters):
                said = decoding.score(self.model, self.tokens, self._see(pixels), segments)
            scores[:, places] = torch.tensor(said).view(len(prompts), -1)
        probabilities: list[float] = scores.mean(0).softmax(0).tolist()
        return probabilities

    def _known(self) -> tuple[str, ...]:
        return tuple(self.card.get("structures", ())) or trainable_structures()

    def untaught(self, names: Sequence[str]) -> list[str]:
        """Return the keys of those structures that the model's card does not list: whatever it draws for them means nothing.

        Without a list in the card nothing is known and nothing returned. Raises UnknownStructure for names nobody knows.
        """
        taught = set(self.card.get("structures", ()))
        asked = [self._resolve(name) for name in names] if taught else []
        return [key for key, _ in asked if key not in taught and key not in self.learned]

    def _resolve(self, text: str) -> tuple[str, str]:
        """Return (key, name to ask for)."""
        if text in self.learned:
            return text, clean_name(text)
        try:
            structure = find(text)
        except UnknownStructure:
            folded = {name.casefold(): name for name in self.learned}
            if text.strip().casefold() in folded:
                name = folded[text.strip().casefold()]
                return name, clean_name(name)
            raise
        return structure.key, clean_name(structure.name)

    def _asked_as(self, key: str) -> tuple[tuple[str, str], ...]:
        """What is asked for a structure: keys, and under which name the weights that answer are looked for. Parts of a whole are
        answered by the model as it was before one of them was taught."""
        parts = answered_by(key, self.card)
        if len(parts) == 1:
            return ((parts[0], self._resolve(parts[0])[1]),)
        names = [self._resolve(part)[1] for part in parts]
        return tuple((part, "" if self.weights.of(name) else name) for part, name in zip(parts, names, strict=True))

    def _asked_for(self, text: str) -> str:
        try:
            return self._resolve(text)[1]
        except UnknownStructure:
            return text

    def forget(self) -> None:
        """Let go of what was seen of the last image."""
        self._last = (b"", {})

    def _see(self, pixels: torch.Tensor, keep: bool = True) -> Prefix:
        """Look at an image with the weights of the moment; what was seen of the last one is kept, for each of them."""
        key, weights, packed = pixels.numpy().tobytes(), self.weights, self.checkpoint.packed
        seen = self._last[1] if self._last[0] == key else {}
        if weights.active not in seen:
            with torch.inference_mode():
                if seen:  # adapters that come and go are in the decoder alone
                    before = next(iter(seen.values()))
                    prefix = recall(self.model, before.features, before.vision, packed=packed)
                else:
                    prefix = see(self.model, pixels.to(self.device, self.model.dtype), packed=packed)
            seen = {**seen, weights.active: prefix}
        self._last = (key, seen) if keep else self._last
        return seen[weights.active]

    def prepare(self, pixels: np.ndarray) -> tuple[torch.Tensor, Letterbox]:
        """What the model sees of pixels float [row, column]: float32 [1, 3, size, size] in -1..1, and where the image lies in
        it. Raises ChexanatomyError for pixels that are no numbers, or none."""
        if not pixels.size or not np.isfinite(pixels).all():
            raise ChexanatomyError("The radiograph has no pixels, or some that are no numbers (NaN, infinite): replace them.")
        seen = stretch(pixels) if self.stretches else np.clip(pixels, 0, 1)
        square, place = letterbox(seen, self.checkpoint.image_size)
        return torch.from_numpy(square * 2 - 1).expand(1, 3, -1, -1), place

    def _findings(self, asked: Sequence[tuple[str, str]], written: Sequence[decoding.Written], place: Letterbox) -> list[Finding]:
        from training.tokens.codebook import paste_mask

        assert self.checkpoint.codebook is not None
        with torch.inference_mode():
            logits = self.checkpoint.codebook.decode(torch.tensor([w.codes for w in written])).cpu().numpy()
        findings = []
        says_none = bool(self.card.get("negatives", self.checkpoint.packed))
        threshold = float(self.card.get("presence_threshold", 0.5))
        guess = Confidence.from_card(self.card)
        for (key, name), answer, logit in zip(asked, written, logits, strict=True):
            if says_none and answer.presence < threshold:
                text = write_answer(Answer(None, None, name, present=False))
                ids = (*self.tokens.encode(text), self.tokens.eos)
                findings.append(Finding(key, False, None, None, 1 - answer.presence, self.tokens.tokens(list(ids)), text))
                continue
            box = place.out_of(bins_to_box(answer.bins, (place.size, place.size)))
            mask = paste_mask(logit, box, place.shape)
            text = write_answer(Answer(answer.bins, answer.codes, name))
            tokens = self.tokens.tokens([*self.tokens.encode(text), self.tokens.eos])
            if not mask.any():  # nothing of it lies in the picture, such as an answer in the black beside it
                findings.append(Finding(key, False, None, None, 1 - answer.presence, tokens, text))
                continue
            confidence = guess(key, answer) if guess else answer.presence
            findings.append(Finding(key, True, place.cut(box), mask, confidence, tokens, text))
        return findings


def view_of(predictor: Predictor, radiograph: Radiograph) -> str:
    """The radiograph's own view or, where its file says nothing, what the model takes it for."""
    return radiograph.view or likely_views(predictor.view(radiograph))


def likely_views(ranked: Sequence[tuple[str, float]]) -> str:
    """What `Predictor.view` says, as far as it can be relied on: "PA or AP", "LATERAL", "LATERAL or OBLIQUE". ranked: (view,
    probability), likeliest first.

    PA and AP are told together: on real radiographs no probability, however high, tells one from the other.
    """
    kinds: dict[str, float] = {}
    for view, p in ranked:
        kind = FRONTAL if view in FRONTAL.split(" or ") else view
        kinds[kind] = kinds.get(kind, 0) + p
    ordered = sorted(kinds, key=lambda kind: -kinds[kind])
    count = next((n for n in range(1, len(ordered)) if sum(kinds[kind] for kind in ordered[:n]) >= SURE_OF_VIEW), len(ordered))
    return " or ".join(ordered[:count])


def display_name(key: str) -> str:
    """The name people read, for a vocabulary key or a learnt name."""
    known = vocabulary()
    return known[key].name if key in known else key
