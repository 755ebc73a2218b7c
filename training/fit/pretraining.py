"""Pre-training: one flat loop that teaches a model to write anatomy as tokens. See docs/training.md for what it learnt when."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training import __version__
from training.anatomy import trainable
from training.errors import BrokenDataset, BrokenModel
from training.fit.augment import Augmentation, photograph, place, resample, spread
from training.fit.dense import DenseHead, dense_loss
from training.fit.queries import Asker, Tasks, token_loss
from training.fit.records import UNKNOWN, Records, load_records
from training.fit.state import Ema, load_state, save_state
from training.fit.validate import validate
from training.model.checkpoint import Checkpoint, create, save_checkpoint
from training.model.loading import load_checkpoint
from training.model.packing import Segments, logits_of, read, recall
from training.model.special import SpecialTokens
from training.progress import ProgressCallback, report


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a training run; they are stored in its checkpoints.

    datasets: folders of synthetic cases; out: folder of the run, an interrupted one is continued; codebook: mask codebook (`.safetensors` of
    ours, or vae-oid.npz); base: a PaliGemma to teach through LoRA instead of training chexanatomy-tiny from nothing;
    structures: keys to learn, by default the vocabulary's trainable ones.
    image_size to heads: the shape of the model, see `tiny_config`. images, queries: images per step and process, and questions
    about each. sigma [bins], smoothing, dense: width of the box targets, label smoothing of the codes, weight of the auxiliary loss;
    dense_first: part of the run, 0..1, that trains the vision tower by the auxiliary loss alone, at a third of the cost per step.
    max_steps, max_minutes: the schedule ends with the first of them; with max_minutes alone its length follows from the speed measured.
    """

    datasets: tuple[Path, ...]
    out: Path
    codebook: Path | None = None
    base: str | None = None
    structures: tuple[str, ...] | None = None
    image_size: int = 192
    patch: int = 16
    vision_width: int = 192
    vision_depth: int = 8
    text_width: int = 192
    text_depth: int = 4
    text_hidden: int = 512
    heads: int = 4
    images: int = 8
    queries: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    warmup: float = 0.03
    clip: float = 1.0
    ema: float = 0.998
    sigma: float = 6.0
    smoothing: float = 0.05
    dense: float = 0.5
    dense_first: float = 0.05
    lora_rank: int = 16
    freeze_vision: bool = False
    bf16: bool = False
    max_steps: int | None = None
    max_minutes: float | None = None
    save_minutes: float = 5.0
    validate_minutes: float = 10.0
    validate_images: int = 16
    log_steps: int = 20
    threads: int | None = None
    workers: int = 2
    seed: int = 0
    cache_size: int = 224
    limit: int | None = None
    tasks: Tasks = field(default_factory=Tasks)
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class Batch:
    """One step's work. pixels: float32 [images, 3, size, size]; segments: `queries` per image; coarse: float32 [images, structures, side, side]
    targets of the dense loss; known: bool [images, structures]."""

    pixels: Tensor
    segments: Segments
    coarse: Tensor
    known: Tensor


class Learner(torch.nn.Module):
    """The model, and the head of the auxiliary loss that is thrown away afterwards."""

    def __init__(self, checkpoint: Checkpoint, head: DenseHead | None, tokens: SpecialTokens, config: PretrainConfig) -> None:
        super().__init__()
        self.model, self.head = checkpoint.model, head
        self._packed, self._tokens, self._config = checkpoint.packed, tokens, config

    def forward(
        self, pixels: Tensor, segments: Segments, coarse: Tensor, known: Tensor, answers: bool = True
    ) -> tuple[Tensor, dict[str, tuple[float, int]]]:
        """Return the loss to minimise, and sums and counts of what is watched. answers: False leaves the decoder out."""
        config = self._config
        watched: dict[str, tuple[float, int]] = {}
        looked = self.model.model.get_image_features(pixels.to(self.model.dtype), return_dict=True)
        loss = looked.pooler_output.sum() * 0
        if answers:
            prefix = recall(self.model, looked.pooler_output, looked.last_hidden_state, packed=self._packed)
            hidden, _, _ = read(self.model, prefix, segments, config.queries)
            row, position, wanted = segments.targets()
            loss, watched = token_loss(
                logits_of(self.model, hidden[row, position]), wanted, self._tokens, config.sigma, config.smoothing
            )
            watched["token_loss"] = (float(loss.detach()) * len(wanted), len(wanted))
        if self.head is not None:
            dense = dense_loss(self.head(looked.last_hidden_state), coarse, known)
            watched["dense_loss"] = (float(dense.detach()), 1)
            loss = loss + config.dense * dense
        return loss, watched


def make_batch(records: Records, asker: Asker, config: PretrainConfig, step: int, rank: int, world: int, side: int) -> Batch:
    """What step `step` looks at: a function of the seed, the step and the process, so that a resumed run sees what it would have seen.

    side: edge of the dense targets.
    """
    rng = np.random.default_rng((config.seed, step, rank))
    places = (step * world + rank) * config.images + np.arange(config.images)
    epochs = places // len(records)
    order = {int(e): np.random.default_rng((config.seed, int(e))).permutation(len(records)) for e in set(epochs.tolist())}
    cases = np.array([order[int(e)][p % len(records)] for e, p in zip(epochs, places, strict=True)])
    placement = place(config.augmentation, len(cases), rng)
    images = resample(torch.from_numpy(records.images[cases].astype(np.float32))[:, None], placement, config.image_size)
    images = spread(photograph(images, config.augmentation, rng))
    segments = asker.ask(cases, placement, config.queries, rng)
    coarse = resample(records.masks(cases), placement, side) if config.dense else torch.zeros(0)
    known = torch.from_numpy(records.state[cases] != UNKNOWN)
    return Batch((images * 2 - 1).expand(-1, 3, -1, -1), segments, coarse, known)


def learning_rate(config: PretrainConfig, fraction: float) -> float:
    """Linear warm-up, then a cosine to nothing; fraction: 0..1 of the run."""
    if fraction < config.warmup:
        return config.learning_rate * max(fraction / config.warmup, 1e-3)
    return config.learning_rate * 0.5 * (1 + float(np.cos(np.pi * min(1.0, (fraction - config.warmup) / (1 - config.warmup)))))


def pretrain(config: PretrainConfig, progress: ProgressCallback | None = None) -> Path:
    """Train, and return the folder of the checkpoint: `out/checkpoint`. Stopped by the callback or the keyboard, it saves first."""
    from accelerate import Accelerator
    from accelerate.utils import set_seed
    from tensorboardX import SummaryWriter

    if config.max_steps is None and config.max_minutes is None:
        raise BrokenDataset("A training run needs an end: give max_steps or max_minutes.")
    if config.threads:
        torch.set_num_threads(config.threads)
    set_seed(config.seed)
    accelerator = Accelerator(mixed_precision="bf16" if config.bf16 else "no")
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = starting_point(config)
    structures = config.structures or trainable()
    sources = [Path(folder) for folder in config.datasets]
    with accelerator.main_process_first():
        records = load_records(
            sources,
            "train",
            structures,
            checkpoint.codebook,
            config.cache_size,
            out / "cache",
            config.workers,
            config.limit,
            progress,
        )
        held_out = held_out_records(config, structures, checkpoint, out, progress)
    tokens = SpecialTokens(checkpoint.tokenizer, checkpoint.model.config.get_text_config().vocab_size)
    asker = Asker(records, tokens, config.tasks)
    grid = checkpoint.image_size // checkpoint.model.config.vision_config.patch_size
    head = DenseHead(checkpoint.model.config.vision_config.hidden_size, len(structures)) if config.dense else None
    learner = Learner(checkpoint, head, tokens, config)
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        _groups(learner, config), lr=config.learning_rate, betas=(0.9, 0.98), fused=device.type == "cuda" or None
    )
    ema = Ema(learner, config.ema)
    prepared, optimizer = accelerator.prepare(learner, optimizer)
    ema.to(device)
    step, elapsed = load_state(out, learner, ema, optimizer, asdict(config))
    started = last_save = last_validation = time.monotonic() - elapsed
    last_save, last_validation = time.monotonic(), time.monotonic()
    writer = SummaryWriter(str(out / "tensorboard")) if accelerator.is_main_process else None
    log = (out / "log.jsonl").open("a", encoding="utf-8") if accelerator.is_main_process else None
    watched: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    loop = _Loop(config, started)

    def note(values: Mapping[str, float]) -> None:
        if log and writer:
            record = {
                "step": step,
                "minutes": round((time.monotonic() - started) / 60, 3),
                **{k: round(v, 6) for k, v in values.items()},
            }
            log.write(json.dumps(record) + "\n")
            log.flush()
            for name, value in values.items():
                writer.add_scalar(name, value, step)

    def save() -> None:
        if accelerator.is_main_process:
            save_state(out, learner, ema, optimizer, step, time.monotonic() - started, asdict(config))
            with ema.applied(learner):
                save_checkpoint(finished(checkpoint, config, structures, records, step), out / "checkpoint")

    ahead = ThreadPoolExecutor(1)
    upcoming = ahead.submit(make_batch, records, asker, config, step, rank, world, grid * DenseHead.factor)
    try:
        while not loop.over(step):
            batch = upcoming.result()
            upcoming = ahead.submit(make_batch, records, asker, config, step + 1, rank, world, grid * DenseHead.factor)
            fraction = loop.fraction(step)
            rate = learning_rate(config, fraction)
            answers = not config.dense or fraction >= config.dense_first
            for group in optimizer.param_groups:
                group["lr"] = rate
            tic = time.monotonic()
            loss, values = prepared(
                batch.pixels.to(device), batch.segments.to(device), batch.coarse.to(device), batch.known.to(device)
            )
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update(learner, step)
            step += 1
            watched["seconds"][0] += time.monotonic() - tic
            watched["seconds"][1] += 1
            for name, (total, count) in {**values, "loss": (float(loss.detach()), 1)}.items():
                watched[name][0] += total
                watched[name][1] += count
            if step % config.log_steps == 0 or loop.over(step):
                means = {name: total / max(count, 1) for name, (total, count) in watched.items()}
                means["answers_per_second"] = config.images * config.queries * world / loop.pace(step)
                note({**means, "learning_rate": rate})
                watched.clear()
                report(progress, step, loop.steps(step), f"Training, {loop.left(step)} left", **means)
            if (
                time.monotonic() - last_validation > 60 * config.validate_minutes
                and held_out is not None
                and accelerator.is_main_process
            ):
                with ema.applied(learner):
                    note({f"val/{k}": v for k, v in validate(checkpoint, held_out, config.validate_images).items()})
                last_validation = time.monotonic()
            if time.monotonic() - last_save > 60 * config.save_minutes:
                save()
                last_save = time.monotonic()
    finally:
        ahead.shutdown(wait=True, cancel_futures=True)
        save()
        if log:
            log.close()
    if held_out is not None and accelerator.is_main_process:
        with ema.applied(learner):
            scores = validate(checkpoint, held_out, config.validate_images)
            checkpoint.card["validation"] = {k: round(v, 4) for k, v in scores.items()}
            save_checkpoint(finished(checkpoint, config, structures, records, step), out / "checkpoint")
        report(progress, step, step, "Training finished", **scores)
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, **{f"val/{k}": round(v, 6) for k, v in scores.items()}}) + "\n")
    return out / "checkpoint"


class _Loop:
    """How far a run is, by steps or by the clock."""

    def __init__(self, config: PretrainConfig, started: float) -> None:
        self._config, self._started = config, started
        self._first: tuple[int, float] | None = None

    def over(self, step: int) -> bool:
        return self.fraction(step) >= 1

    def fraction(self, step: int) -> float:
        """Finished part of the schedule, 0..1; the clock ends a run counted in steps without bending its schedule."""
        steps, minutes = self._config.max_steps, self._config.max_minutes
        clock = (time.monotonic() - self._started) / 60 / minutes if minutes else 0.0
        if steps is None:
            return min(1.0, clock)
        return 1.0 if clock >= 1 else min(1.0, step / steps)

    def pace(self, step: int) -> float:
        """Seconds per step since this process began."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
            return (now - self._started) / max(step, 1)
        return (now - self._first[1]) / max(step - self._first[0], 1)

    def steps(self, step: int) -> int:
        """Steps the whole run will have."""
        fraction = self.fraction(step)
        return self._config.max_steps or max(step, round(step / max(fraction, 1e-6)))

    def left(self, step: int) -> str:
        """Time left in words."""
        minutes = (self.steps(step) - step) * self.pace(step) / 60
        return f"{minutes:.0f} min" if minutes >= 1.5 else f"{60 * minutes:.0f} s"


def starting_point(config: PretrainConfig) -> Checkpoint:
    """The model before the first step: chexanatomy-tiny with random weights, or a PaliGemma with a fresh LoRA."""
    from training.tokens.codebook import MaskCodebook
    from training.tokens.tokenizer import build_tokenizer

    if config.base is None:
        if config.codebook is None:
            raise BrokenModel("Training needs a mask codebook: give the path of a codebook.safetensors or of vae-oid.npz.")
        checkpoint = create(
            build_tokenizer(),
            MaskCodebook.load(config.codebook).eval(),
            config.seed,
            image_size=config.image_size,
            patch=config.patch,
            vision_width=config.vision_width,
            vision_depth=config.vision_depth,
            text_width=config.text_width,
            text_depth=config.text_depth,
            text_hidden=config.text_hidden,
            heads=config.heads,
        )
        checkpoint.model.train()
        return checkpoint
    from training.fit.lora import add_lora

    checkpoint = load_checkpoint(config.base, config.codebook)
    if checkpoint.codebook is None:
        raise BrokenModel(f"{config.base} comes without a mask codebook: give the path of vae-oid.npz.")
    if checkpoint.image_size != config.image_size:
        raise BrokenModel(f"{config.base} looks at {checkpoint.image_size} px: set the image size to {checkpoint.image_size}.")
    add_lora(checkpoint.model, config.lora_rank, freeze_vision=config.freeze_vision)
    checkpoint.model.train()
    return checkpoint


def held_out_records(
    config: PretrainConfig, structures: tuple[str, ...], checkpoint: Checkpoint, out: Path, progress: ProgressCallback | None
) -> Records | None:
    """The validation split, None where the data set has none."""
    try:
        return load_records(
            [Path(folder) for folder in config.datasets],
            "val",
            structures,
            checkpoint.codebook,
            config.cache_size,
            out / "cache",
            config.workers,
            config.validate_images * 8,
            progress,
        )
    except BrokenDataset:
        return None


def finished(
    checkpoint: Checkpoint, config: PretrainConfig, structures: tuple[str, ...], records: Records, step: int
) -> Checkpoint:
    """The checkpoint with its card brought up to date."""
    settings = {k: v for k, v in asdict(config).items() if k not in ("datasets", "out", "codebook", "base", "structures")}
    checkpoint.card.update(
        {
            "structures": list(structures),
            "stretch": checkpoint.packed,
            "negatives": config.tasks.absent > 0,
            "software": __version__,
            "training": {"steps": step, "cases": len(records), "settings": settings},
            "use": "Research only, not for diagnosis.",
        }
    )
    return checkpoint


def _groups(learner: Learner, config: PretrainConfig) -> list[dict[str, Any]]:
    """Weight decay for matrices, none for norms, biases and embeddings."""
    named = [(n, p) for n, p in learner.named_parameters() if p.requires_grad]
    decayed = [p for n, p in named if p.ndim >= 2 and "embed" not in n]
    rest = [p for n, p in named if p.ndim < 2 or "embed" in n]
    return [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}]
