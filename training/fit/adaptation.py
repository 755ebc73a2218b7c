"""Few-shot: teach a model one structure from a few radiographs with masks, and measure it on images it did not see."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training import __version__
from training.anatomy import find, vocabulary
from training.errors import BrokenModel, Cancelled, ChexanatomyError, UnknownStructure
from training.fit.adapters import HELD_OUT, write_card
from training.fit.examples import Adapter, AdaptSettings, Example, hold_out, mean_score
from training.fit.judging import FORGOTTEN, Judgement, Memory, Seen, judge, judge_in_parts
from training.fit.lessons import Lessons, Look, without_name
from training.fit.lora import adapter_weights, add_lora, origin, write_adapter
from training.fit.losses import code_aims, mask_loss, token_loss
from training.fit.optimiser import optimiser
from training.fit.settings import check_out
from training.folders import recover_folder, replacing_folder
from training.images import to_rle
from training.model.checkpoint import Checkpoint, save_checkpoint
from training.model.packing import Segments, logits_of, read, recall
from training.model.parts import answered_by
from training.model.predictor import Predictor, load
from training.model.taught import settled, taught_card
from training.plain import writable
from training.progress import ProgressCallback, report
from training.tokens.grammar import clean_name

SIGMA = 4.0
"""Spread of the aim at a location [bins]."""
SMOOTHING = 0.05
"""Label smoothing over the mask codes."""
SPOKEN = 0.15
"""Chance, per batch, that answers are written out with their names, as in pre-training."""
WARM_UP = 10
"""Steps until the full learning rate."""


def adapt(
    model: Predictor | str | Path,
    examples: Sequence[Example],
    structure: str,
    out: str | Path,
    settings: AdaptSettings | None = None,
    *,
    codebook: str | Path | None = None,
    name: str = "",
    progress: ProgressCallback | None = None,
) -> Adapter:
    """Teach `model` (which stays as it is) the named structure, new or known, and write an adapter folder.

    Without held-out examples among three or more, about a quarter is held out by chance. The best state on the held-out images
    is kept, and is compared with the model before, also in what it says of other structures. name: what the adapter is called.
    Stopped by the callback, it keeps the best so far. Raises ChexanatomyError for examples that cannot teach anything.
    """
    settings = settings or AdaptSettings()
    started = time.monotonic()
    predictor = model if isinstance(model, Predictor) else load(model, codebook)
    if predictor.checkpoint.codebook is None:
        raise BrokenModel(f"The model {predictor.checkpoint.name} has no mask codebook: give the path of vae-oid.npz.")
    key, called = _named(structure)
    out = _free(Path(out))
    examples = hold_out(examples, settings.seed)
    taught, kept = [e for e in examples if not e.held_out], [e for e in examples if e.held_out]
    if not any(e.mask.any() for e in taught):
        raise ChexanatomyError(f"None of the {len(taught)} images to learn from shows {called}: draw it on at least one.")
    report(progress, 0, settings.steps, "Looking at the images")
    frozen = settings.method != "model"
    held_out = [Seen.of(predictor, e, features=frozen) for e in kept]
    at_once = answered_by(key, predictor.card) == (key,)
    before = judge(predictor, held_out, called) if at_once else judge_in_parts(predictor, held_out, key)
    watched = held_out + [Seen.of(predictor, e, features=frozen) for e in taught]
    # An adapter answers for its own structure alone (`training.model.taught`); other weights are asked about the rest as well.
    memory = Memory.of(predictor, watched, called) if settings.method != "lora" else None
    lessons = Lessons.of(predictor, taught, called, settings.augmentation, settings.rehearsal, progress, settings.steps)
    pupil = _pupil(predictor)
    config = _trainable(pupil, settings)
    course = _Course(pupil, lessons, held_out, called, settings, started)
    course.run(progress)
    pupil.model.eval()
    after = judge(pupil, held_out, called)
    agreement = memory.agreement(pupil) if memory is not None else {}
    others = float(np.mean(list(agreement.values()))) if agreement else None
    kept_well = others is None or others >= FORGOTTEN
    card = {
        "adapter": writable(name or out.name),
        "structure": key,
        "learned": [] if key in vocabulary() else [key],
        "before": _scores(before),
        "after": _scores(after),
        "better": mean_score(after.dice) > mean_score(before.dice) and kept_well if after.dice else None,
        "others": {
            "mean": round(others, 4) if others is not None else None,
            "agreement": agreement,
            "forgotten": [k for k, value in agreement.items() if value < FORGOTTEN],
        },
        "note": "" if kept else "Nothing was held out: with fewer than three images there is no measure of what was learnt.",
        "images": {"learnt_from": [e.label for e in taught], "held_out": [e.label for e in kept]},
        "steps": course.step,
        "seconds": round(time.monotonic() - started, 1),
        "stopped_early": course.stopped,
        "curve": course.curve,
        "settings": asdict(settings),
        "made": time.strftime("%Y-%m-%d %H:%M:%S"),
        "software": __version__,
        **origin(predictor.checkpoint),
        "use": "Research only, not for diagnosis.",
    }
    _write(pupil, config, card, _comparison(held_out, before, after), out)
    closing = {"held_out_dice": mean_score(after.dice)} if after.dice else {}
    report(None if course.stopped else progress, settings.steps, settings.steps, "Adapter written", **closing)
    return Adapter(out, key, before.dice, after.dice, card)


@dataclass
class _Course:
    """The training loop. At its end the pupil has the best weights."""

    pupil: Predictor
    lessons: Lessons
    held_out: list[Seen]
    name: str
    settings: AdaptSettings
    started: float
    step: int = 0
    stopped: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)
    _looks: list[Look] = field(default_factory=list)

    @cached_property
    def _aims(self) -> Tensor:
        book = self.pupil.checkpoint.codebook
        assert book is not None
        return code_aims(book, SMOOTHING)

    def run(self, progress: ProgressCallback | None) -> None:
        """Train until time, steps or patience run out, or the callback says stop; then take the best state."""
        settings, model = self.settings, self.pupil.model
        rate = settings.learning_rate or _usual_rate(settings, self.pupil.checkpoint.packed)
        muon = settings.muon if settings.method != "lora" else 0.0
        optimizer = optimiser(model, rate, settings.weight_decay, muon, fused=False)
        parameters = [p for p in model.parameters() if p.requires_grad]
        average = [p.detach().clone() for p in parameters]
        rng = np.random.default_rng(settings.seed)
        best, best_score, since = None, -1.0, 0
        model.train()
        began = time.monotonic()
        try:
            while (done := self._fraction()) < 1 and since < settings.patience:
                for group in optimizer.param_groups:
                    group["lr"] = rate * min(1.0, (self.step + 1) / WARM_UP) * 0.5 * (1 + np.cos(np.pi * done))
                loss = self._loss(rng)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                keep = min(settings.average, (1 + self.step) / (10 + self.step))
                torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - keep)
                self.step += 1
                values = {"loss": float(loss.detach())}
                if self.step % settings.measure_steps == 0 or self._fraction() >= 1:
                    score = self._measure(parameters, average)
                    self.curve.append({"step": self.step, **values, **({"held_out_dice": score} if self.held_out else {})})
                    values |= {"held_out_dice": score} if self.held_out else {}
                    since += 1
                    if score > best_score or not self.held_out:
                        best, best_score, since = [a.clone() for a in average], score, 0
                report(progress, self.step, settings.steps, "Learning", seconds_left=self._left(began), **values)
        except (Cancelled, KeyboardInterrupt):
            if self.step == 0:
                raise
            self.stopped = True
        _put(parameters, best or average)

    def _fraction(self) -> float:
        """Finished part, 0..1, by steps or by the clock, whichever is further: so the rate always falls to nothing.

        On a machine that is busy with other things the clock waits for the least number of steps.
        """
        clock = (time.monotonic() - self.started) / self.settings.seconds
        return min(1.0, max(self.step / self.settings.steps, min(clock, self.step / self.settings.least_steps)))

    def _left(self, began: float) -> float:
        """Seconds left at most, judging by what is finished of the learning."""
        done = self._fraction()
        return (time.monotonic() - began) * (1 - done) / max(done, 1e-3)

    def _measure(self, parameters: list[Tensor], average: list[Tensor]) -> float:
        """Mean Dice of the averaged weights on the held-out images; 0 where there are none."""
        if not self.held_out:
            return 0.0
        now = [p.detach().clone() for p in parameters]
        _put(parameters, average)
        score = mean_score(judge(self.pupil, self.held_out, self.name).dice)
        _put(parameters, now)
        return score

    def _look(self, rng: np.random.Generator) -> Look:
        """A look made before, or, until there are enough, a new one; the first at each image is as it is."""
        images, number = len(self.lessons.records), len(self._looks)
        frozen = self.settings.method != "model"
        if number >= max(self.settings.views, images * self.settings.least_views):
            return self._looks[int(rng.integers(number))]
        self._looks.append(self.lessons.look(number % images, number >= images, rng, features=frozen))
        return self._looks[-1]

    def _loss(self, rng: np.random.Generator) -> Tensor:
        """Loss of one batch: the taught structure, and others as the model described them before."""
        settings, model, tokens = self.settings, self.pupil.model, self.pupil.tokens
        looks = [self._look(rng) for _ in range(settings.batch)]
        each = 1 + max(len(look.others) for look in looks)
        asked = [s for look in looks for s in (look.taught, *look.others, *[look.taught] * each)[:each]]
        # The name repeats the prompt and lengthens every row: a packed model, which learnt it that way, says it now and then.
        if self.pupil.checkpoint.packed and rng.random() >= SPOKEN:
            asked = [without_name(segment, tokens) for segment in asked]
        segments = Segments.of(asked, tokens.pad).to(self.pupil.device)
        seen = torch.stack([look.seen for look in looks]).to(self.pupil.device, model.dtype)
        features = seen if settings.method != "model" else model.model.get_image_features(seen, return_dict=True).pooler_output
        prefix = recall(model, features, features, packed=self.pupil.checkpoint.packed)
        hidden, _, _ = read(model, prefix, segments, each)
        row, position, wanted = segments.targets()
        logits = logits_of(model, hidden[row, position])
        loss, _ = token_loss(logits, wanted, tokens, SIGMA, self._aims)
        shown = {n * each: look.crop for n, look in enumerate(looks) if look.crop is not None}
        if settings.mask_loss and shown:
            book = self.pupil.checkpoint.codebook
            assert book is not None
            here = torch.isin(row, torch.tensor(list(shown), device=row.device)) & (tokens.code_of.to(row.device)[wanted] >= 0)
            codes = logits[here][:, tokens.seg.to(row.device)].view(len(shown), -1, len(tokens.seg))
            loss = loss + settings.mask_loss * mask_loss(codes, torch.stack(list(shown.values())).to(row.device), book)
        return loss


@torch.no_grad()
def _put(parameters: list[Tensor], values: list[Tensor]) -> None:
    torch._foreach_copy_(parameters, values)


def _usual_rate(settings: AdaptSettings, small: bool) -> float:
    """Rates that suit the embedded model (small) and PaliGemma."""
    if settings.method == "lora":
        return 5e-3 if small else 2e-4
    return 5e-4 if small else 2e-5


def _named(structure: str) -> tuple[str, str]:
    """(vocabulary key or the new name, the name to ask for)."""
    try:
        known = find(structure)
    except UnknownStructure:
        name = clean_name(structure)
        return name, name
    return known.key, known.name


def _free(out: Path) -> Path:
    """A folder may be replaced by a new adapter only if it is empty or an adapter itself."""
    check_out(out)
    recover_folder(out)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "chexanatomy.json").exists())):
        raise ChexanatomyError(f"{out} exists and is no adapter: choose a new folder.")
    return out


def _pupil(predictor: Predictor) -> Predictor:
    """A copy to train, so that the caller's model stays what it was; what adapters taught it before is part of its weights."""
    checkpoint = settled(predictor.checkpoint)
    if checkpoint is predictor.checkpoint:
        checkpoint = replace(checkpoint, model=copy.deepcopy(checkpoint.model))
    return Predictor(checkpoint, str(predictor.device))


def _trainable(pupil: Predictor, settings: AdaptSettings) -> Any:
    """Choose what is trained; returns peft's configuration of a low-rank adapter, None where weights are trained themselves."""
    if settings.method == "lora":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return add_lora(pupil.model, settings.rank, freeze_vision=True)
    for n, p in pupil.model.named_parameters():
        p.requires_grad_(settings.method == "model" or "language_model" in n or "lm_head" in n)
    return None


def _comparison(held_out: Sequence[Seen], before: Judgement, after: Judgement) -> dict[str, Any]:
    """Held-out image -> what is drawn and what the model said before and after, as run-length codes."""
    drawn = dict(zip(after.masks, (seen.example.mask for seen in held_out), strict=True))
    return {
        label: {"drawn": to_rle(drawn[label]), "before": to_rle(before.masks[label]), "after": to_rle(after.masks[label])}
        for label in after.masks
    }


def _write(pupil: Predictor, config: Any, card: dict[str, Any], comparison: dict[str, Any], out: Path) -> None:
    """Write beside the target, then put it in place as a whole."""
    import json

    with replacing_folder(out) as partial:
        if config is not None:
            write_adapter(partial, adapter_weights(pupil.model), config, pupil.checkpoint, card)
        else:
            checkpoint: Checkpoint = pupil.checkpoint
            known = taught_card(checkpoint.card, card["structure"])
            card = {**card, "learned": known.get("learned", []), "name": checkpoint.name, "packed": checkpoint.packed}
            card = {**known, **card, "image_size": checkpoint.image_size}
            checkpoint.card = card
            save_checkpoint(checkpoint, partial)
        write_card(partial, card)
        (partial / HELD_OUT).write_text(json.dumps(comparison), encoding="utf-8")


def _scores(judgement: Judgement) -> dict[str, Any]:
    scores = judgement.dice
    return {"dice": mean_score(scores) if scores else None, "per_image": {k: round(v, 6) for k, v in scores.items()}}
