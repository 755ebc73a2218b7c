"""Few-shot: teach a model one structure from a few radiographs with masks, and measure it on images it did not see."""

from __future__ import annotations

import copy
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training import __version__
from training.anatomy import find, vocabulary
from training.errors import BrokenModel, Cancelled, ChexanatomyError, UnknownStructure
from training.fit.augment import Augmentation, photograph, place, resample, spread
from training.fit.examples import Adapter, AdaptSettings, Example, hold_out, mean_score
from training.fit.lora import adapter_weights, add_lora, write_adapter
from training.fit.losses import token_loss
from training.fit.queries import MAIN
from training.model import decoding
from training.model.checkpoint import Checkpoint, read_card, save_checkpoint
from training.model.packing import Prefix, Segment, Segments, logits_of, read, recall
from training.model.predictor import Predictor, display_name, load
from training.model.preprocess import letterbox
from training.progress import ProgressCallback, report
from training.tokens import bins_to_box, box_to_bins, tight_box
from training.tokens.codebook import crop_mask, paste_mask
from training.tokens.grammar import clean_name, segment_prompt


@dataclass(frozen=True)
class _Views:
    """features: float [views, tokens, width]; segments: per view the questions about it, the taught structure first."""

    features: Tensor
    segments: list[list[Segment]]


def adapt(
    model: Predictor | str | Path,
    examples: Sequence[Example],
    structure: str,
    out: str | Path,
    settings: AdaptSettings | None = None,
    *,
    codebook: str | Path | None = None,
    progress: ProgressCallback | None = None,
) -> Adapter:
    """Teach `model` (which stays as it is) the named structure, new or known, and write an adapter folder.

    Without held-out examples among three or more, about a quarter is held out by chance. The best state on the held-out images
    is kept, and is compared with the model before. Stopped by the callback, it keeps the best so far.
    Raises ChexanatomyError for examples that cannot teach anything.
    """
    settings = settings or AdaptSettings()
    predictor = model if isinstance(model, Predictor) else load(model, codebook)
    if predictor.checkpoint.codebook is None:
        raise BrokenModel(f"The model {predictor.checkpoint.name} has no mask codebook: give the path of vae-oid.npz.")
    key, name = _named(structure)
    out = _free(Path(out))
    examples = hold_out(examples, settings.seed)
    taught, kept = [e for e in examples if not e.held_out], [e for e in examples if e.held_out]
    if not any(e.mask.any() for e in taught):
        raise ChexanatomyError(f"None of the {len(taught)} images to learn from shows {name}: draw it on at least one.")
    started = time.monotonic()
    report(progress, 0, settings.steps, "Looking at the images")
    before = _measure(predictor, _held_out(predictor, kept), name)
    views = _views(predictor, taught, name, settings, progress)
    held_out = _held_out(predictor, kept)
    pupil = _pupil(predictor)
    config = _trainable(pupil, settings)
    best, steps, curve, stopped = _learn(pupil, views, held_out, name, settings, started, progress)
    _restore(pupil.model, best)
    pupil.model.eval()
    after = _measure(pupil, held_out, name)
    card = {
        "structure": key,
        "learned": [] if key in vocabulary() else [key],
        "before": _scores(before),
        "after": _scores(after),
        "better": mean_score(after) > mean_score(before) if after else None,
        "note": "" if kept else "Nothing was held out: with fewer than three images there is no measure of what was learnt.",
        "images": {"learnt_from": [e.label for e in taught], "held_out": [e.label for e in kept]},
        "steps": steps,
        "seconds": round(time.monotonic() - started, 1),
        "stopped_early": stopped,
        "curve": curve,
        "settings": asdict(settings),
        "software": __version__,
        "use": "Research only, not for diagnosis.",
    }
    _write(pupil, config, best, predictor.checkpoint.source or predictor.checkpoint.name, card, out)
    report(progress, settings.steps, settings.steps, "Adapter written", **({"held_out_dice": mean_score(after)} if after else {}))
    return Adapter(out, key, before, after, read_card(out))


def _learn(
    pupil: Predictor,
    views: _Views,
    held_out: list[_HeldOut],
    name: str,
    settings: AdaptSettings,
    started: float,
    progress: ProgressCallback | None,
) -> tuple[dict[str, Tensor], int, list[dict[str, float]], bool]:
    """Train until time, steps or patience run out. Returns the best weights, steps done, the curve, and whether it was
    stopped."""
    model, tokens = pupil.model, pupil.tokens
    parameters = [p for p in model.parameters() if p.requires_grad]
    rate = settings.learning_rate or (2e-3 if pupil.checkpoint.packed else 2e-4)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    rng = np.random.default_rng(settings.seed)
    best, best_score, since, step, losses = _snapshot(model), -1.0, 0, 0, 0.0
    curve: list[dict[str, float]] = []
    try:
        while step < settings.steps and time.monotonic() - started < settings.seconds and since < settings.patience:
            warm = min(1.0, (step + 1) / 10)
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * 0.5 * (1 + np.cos(np.pi * step / settings.steps))
            chosen = rng.integers(0, len(views.segments), min(settings.batch, len(views.segments)))
            asked = Segments.of([s for v in chosen for s in views.segments[v]], tokens.pad).to(pupil.device)
            features = views.features[torch.from_numpy(chosen)].to(pupil.device)
            prefix = recall(model, features, features, packed=pupil.checkpoint.packed)
            hidden, _, _ = read(model, prefix, asked, len(views.segments[0]))
            row, position, wanted = asked.targets()
            loss, _ = token_loss(logits_of(model, hidden[row, position]), wanted, tokens, sigma=4.0, smoothing=0.05)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            losses = float(loss.detach())
            values = {"loss": losses}
            if step % settings.measure_steps == 0 or step == settings.steps:
                score = mean_score(_measure(pupil, held_out, name)) if held_out else -losses
                curve.append({"step": step, "loss": losses, **({"held_out_dice": score} if held_out else {})})
                values |= {"held_out_dice": score} if held_out else {}
                since += best_score > 0
                if score > best_score or not held_out:
                    best, best_score, since = _snapshot(model), score, 0
            report(progress, step, settings.steps, "Learning", **values)
    except (Cancelled, KeyboardInterrupt):
        if step == 0:
            raise
        if not curve:
            best = _snapshot(model)
        return best, step, curve, True
    if not curve:
        best = _snapshot(model)
    return best, step, curve, False


@dataclass(frozen=True)
class _HeldOut:
    example: Example
    features: Tensor
    place: Any


@torch.inference_mode()
def _held_out(predictor: Predictor, examples: Sequence[Example]) -> list[_HeldOut]:
    looked = []
    for example in examples:
        pixels, where = predictor.prepare(example.radiograph.pixels)
        looked.append(_HeldOut(example, _features(predictor, pixels).cpu(), where))
    return looked


@torch.inference_mode()
def _measure(predictor: Predictor, held_out: list[_HeldOut], name: str) -> dict[str, float]:
    """Dice of each held-out image at its own size; two empty masks agree fully."""
    book = predictor.checkpoint.codebook
    assert book is not None
    training = predictor.model.training
    predictor.model.eval()
    scores = {}
    for number, item in enumerate(held_out):
        features = item.features.to(predictor.device)
        prefix = recall(predictor.model, features, features, packed=predictor.checkpoint.packed)
        (answer,) = decoding.write(predictor.model, predictor.tokens, prefix, [predictor.tokens.prompt(segment_prompt(name))])
        mask = np.zeros(item.place.shape, bool)
        if answer.presence >= 0.5 or not predictor.checkpoint.packed:
            box = item.place.out_of(bins_to_box(answer.bins, (item.place.size, item.place.size)))
            mask = paste_mask(book.decode(torch.tensor([answer.codes]))[0].cpu().numpy(), box, item.place.shape)
        both = int(mask.sum()) + int(item.example.mask.sum())
        label = item.example.label if item.example.label not in scores else f"{item.example.label} ({number + 1})"
        scores[label] = 2 * int((mask & item.example.mask).sum()) / both if both else 1.0
    predictor.model.train(training)
    return scores


def _features(predictor: Predictor, pixels: Tensor) -> Tensor:
    looked = predictor.model.model.get_image_features(pixels.to(predictor.device, predictor.model.dtype), return_dict=True)
    features: Tensor = looked.pooler_output
    return features


@torch.inference_mode()
def _views(
    predictor: Predictor, examples: Sequence[Example], name: str, settings: AdaptSettings, progress: ProgressCallback | None
) -> _Views:
    """Look at altered copies of every image, and write the right answers for each."""
    rng = np.random.default_rng(settings.seed)
    tokens, size = predictor.tokens, predictor.checkpoint.image_size
    features, segments = [], []
    for number, example in enumerate(examples):
        report(progress, 0, settings.steps, f"Looking at image {number + 1} of {len(examples)}")
        square, where = letterbox(example.radiograph.pixels, size)
        box = tight_box(example.mask)
        known = _answers(predictor, example, name, settings.rehearsal)
        boxes = np.array([*([where.into(box)] if box else []), *(b for _, b, _ in known)]).reshape(-1, 4) / size
        codes = _codes(predictor, example.mask, box) if box else ()
        for view in range(settings.views):
            placement = place(settings.augmentation if view else Augmentation.none(), 1, rng)
            moved = placement.boxes(boxes[None])[0]
            if len(moved) and box and (moved[0].min() < -0.01 or moved[0].max() > 1.01):
                placement = place(Augmentation.none(), 1, rng)
                moved = boxes
            image = resample(torch.from_numpy(square)[None, None], placement, size)
            image = photograph(image, settings.augmentation, rng) if view else image
            image = spread(image) if predictor.card.get("stretch", predictor.checkpoint.packed) else image
            features.append(_features(predictor, (image * 2 - 1).expand(1, 3, -1, -1)).cpu())
            prompt = tokens.prompt(segment_prompt(name))
            absent = Segment(prompt, (*tokens.encode(f"none {name}"), tokens.eos))
            asked = [_segment(predictor, name, moved[0], codes) if box else absent]
            others = [
                _segment(predictor, other, place_, c)
                for (other, _, c), place_ in zip(known, moved[1 if box else 0 :], strict=True)
                if place_.min() > -0.01 and place_.max() < 1.01
            ]
            picked = rng.permutation(len(others))[: settings.rehearsal]
            asked += [others[i] for i in picked]
            asked += [asked[0]] * (1 + settings.rehearsal - len(asked))
            segments.append(asked)
    return _Views(torch.cat(features), segments)


def _answers(predictor: Predictor, example: Example, name: str, rehearsal: int) -> list[tuple[str, Any, tuple[int, ...]]]:
    """What the model says now about the main structures of an image: (name, box in pixels of the square, codes)."""
    known = [display_name(k) for k in MAIN if k in set(predictor.card.get("structures", ())) and display_name(k) != name]
    if not rehearsal or not known:
        return []
    pixels, where = predictor.prepare(example.radiograph.pixels)
    features = _features(predictor, pixels)
    prefix: Prefix = recall(predictor.model, features, features, packed=predictor.checkpoint.packed)
    prompts = [predictor.tokens.prompt(segment_prompt(n)) for n in known]
    written = decoding.write(predictor.model, predictor.tokens, prefix, prompts)
    size = (where.size, where.size)
    return [(n, bins_to_box(w.bins, size), w.codes) for n, w in zip(known, written, strict=True) if w.presence >= 0.5]


def _codes(predictor: Predictor, mask: np.ndarray, box: Any) -> tuple[int, ...]:
    assert predictor.checkpoint.codebook is not None
    return tuple(predictor.checkpoint.codebook.encode(torch.from_numpy(crop_mask(mask, box))[None])[0].tolist())


def _segment(predictor: Predictor, name: str, box: np.ndarray, codes: tuple[int, ...]) -> Segment:
    tokens = predictor.tokens
    bins = box_to_bins((float(box[0]), float(box[1]), float(box[2]), float(box[3])), (1, 1))
    ids = [int(tokens.loc[b]) for b in bins] + [int(tokens.seg[c]) for c in codes]
    return Segment(tokens.prompt(segment_prompt(name)), (*ids, *tokens.encode(f" {name}"), tokens.eos))


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
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "chexanatomy.json").exists())):
        raise ChexanatomyError(f"{out} exists and is no adapter: choose a new folder.")
    return out


def _pupil(predictor: Predictor) -> Predictor:
    """A copy to train, so that the caller's model stays what it was."""
    checkpoint = copy.copy(predictor.checkpoint)
    checkpoint.model = copy.deepcopy(predictor.model)
    return Predictor(checkpoint, str(predictor.device))


def _trainable(pupil: Predictor, settings: AdaptSettings) -> Any:
    if settings.lora:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            return add_lora(pupil.model, settings.rank, freeze_vision=True)
    for n, p in pupil.model.named_parameters():
        p.requires_grad_("language_model" in n or "lm_head" in n)
    return None


def _snapshot(model: Any) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def _restore(model: Any, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for n, p in model.named_parameters():
            if n in weights:
                p.copy_(weights[n])


def _write(pupil: Predictor, config: Any, best: dict[str, Tensor], base: str, card: dict[str, Any], out: Path) -> None:
    """Write beside the target, then put it in place as a whole."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if config is not None:
        write_adapter(partial, adapter_weights(pupil.model), config, base, card)
    else:
        checkpoint: Checkpoint = pupil.checkpoint
        learned = list(dict.fromkeys([*checkpoint.card.get("learned", ()), *card["learned"]]))
        checkpoint.card = {**checkpoint.card, **card, "learned": learned, "base": base}
        save_checkpoint(checkpoint, partial)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        shutil.rmtree(out)
    os.replace(partial, out)


def _scores(scores: dict[str, float]) -> dict[str, Any]:
    return {"dice": mean_score(scores) if scores else None, "per_image": {k: round(v, 4) for k, v in scores.items()}}
