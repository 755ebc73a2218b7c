"""Pre-training: one flat loop that teaches a model to write anatomy as tokens. See docs/training.md for what it learnt when."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training import __version__
from training.anatomy import trainable
from training.errors import BrokenDataset, BrokenModel
from training.fit.batches import make_batch
from training.fit.dense import DenseHead, dense_loss
from training.fit.lora import adapter_weights, add_lora, write_adapter
from training.fit.losses import token_loss
from training.fit.queries import Asker
from training.fit.records import Records, load_records, set_aside
from training.fit.schedule import Schedule, learning_rate
from training.fit.settings import PretrainConfig
from training.fit.state import Ema, load_state, save_state
from training.fit.validate import validate
from training.model.checkpoint import Checkpoint, create, save_checkpoint
from training.model.loading import load_checkpoint
from training.model.packing import Segments, logits_of, read, recall
from training.model.special import SpecialTokens
from training.progress import ProgressCallback, report


# Paths of one machine, and what the card holds elsewhere.
_NOT_IN_CARD = ("datasets", "out", "codebook", "base", "structures", "cache", "tower")


class Learner(torch.nn.Module):
    """The model, and the head of the auxiliary loss that is thrown away afterwards."""

    def __init__(self, checkpoint: Checkpoint, head: DenseHead | None, tokens: SpecialTokens, config: PretrainConfig) -> None:
        super().__init__()
        self.model, self.head = checkpoint.model, head
        self._packed, self._tokens, self._config = checkpoint.packed, tokens, config

    def forward(
        self, pixels: Tensor, segments: Segments, chosen: Tensor, masks: Tensor, known: Tensor, answers: bool = True
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
            dense = dense_loss(self.head(looked.last_hidden_state, chosen), masks, known)
            watched["dense_loss"] = (float(dense.detach()), 1)
            loss = loss + config.dense * dense
        return loss, watched


def pretrain(config: PretrainConfig, progress: ProgressCallback | None = None) -> Path:
    """Train, and return the folder of the checkpoint: `out/checkpoint`. Stopped by the callback or the keyboard, it saves
    first."""
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
    checkpoint, lora = starting_point(config)
    structures = config.structures or trainable()
    sources = [Path(folder) for folder in config.datasets]
    with accelerator.main_process_first():
        records = load_records(
            sources,
            "train",
            structures,
            config.cache_size,
            config.cache or out / "cache",
            config.workers,
            config.limit,
            progress,
        )
        held_out = held_out_records(config, structures, progress)
    if held_out is None:
        records, held_out = set_aside(records, config.validate_images * 4)
    tokens = SpecialTokens(checkpoint.tokenizer, checkpoint.model.config.get_text_config().vocab_size)
    assert checkpoint.codebook is not None
    asker = Asker(records, tokens, config.tasks, checkpoint.codebook)
    grid = checkpoint.image_size // checkpoint.model.config.vision_config.patch_size
    head = (
        DenseHead(checkpoint.model.config.vision_config.hidden_size, len(structures), config.dense_factor)
        if config.dense
        else None
    )
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
    loop = Schedule(config, started)

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
                write(finished(checkpoint, config, structures, records, step), lora, out / "checkpoint")

    ahead = ThreadPoolExecutor(1)
    upcoming = ahead.submit(make_batch, records, asker, config, step, rank, world, grid * config.dense_factor)
    try:
        while not loop.over(step):
            batch = upcoming.result()
            upcoming = ahead.submit(make_batch, records, asker, config, step + 1, rank, world, grid * config.dense_factor)
            fraction = loop.fraction(step)
            rate = learning_rate(config, fraction)
            answers = not config.dense or fraction >= config.dense_first
            for group in optimizer.param_groups:
                group["lr"] = rate
            tic = time.monotonic()
            parts = (batch.pixels, batch.segments, batch.chosen, batch.masks, batch.known)
            loss, values = prepared(*(part.to(device) for part in parts), answers=answers)
            if not torch.isfinite(loss):
                raise BrokenModel(f"The loss is no number at step {step}: go on from the last state with a lower learning rate.")
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
                    note({f"val/{k}": v for k, v in validate(checkpoint, held_out, config.validate_images, head).items()})
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
            scores = validate(checkpoint, held_out, config.validate_images, head)
            checkpoint.card["validation"] = {k: round(v, 4) for k, v in scores.items()}
            write(finished(checkpoint, config, structures, records, step), lora, out / "checkpoint")
        report(progress, step, step, "Training finished", **scores)
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, **{f"val/{k}": round(v, 6) for k, v in scores.items()}}) + "\n")
    return out / "checkpoint"


def starting_point(config: PretrainConfig) -> tuple[Checkpoint, Any]:
    """The model before the first step, chexanatomy-tiny with random weights or a PaliGemma with a fresh LoRA, and the LoRA's
    configuration."""
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
            stem=config.stem,
            informed=config.informed,
        )
        if config.tower is not None:
            take_tower(checkpoint, config.tower)
        checkpoint.model.train()
        return checkpoint, None

    checkpoint = load_checkpoint(config.base, config.codebook)
    if checkpoint.codebook is None:
        raise BrokenModel(f"{config.base} comes without a mask codebook: give the path of vae-oid.npz.")
    if checkpoint.image_size != config.image_size:
        raise BrokenModel(f"{config.base} looks at {checkpoint.image_size} px: set the image size to {checkpoint.image_size}.")
    lora = add_lora(checkpoint.model, config.lora_rank, freeze_vision=config.freeze_vision)
    checkpoint.model.train()
    return checkpoint, lora


def take_tower(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy the vision tower of a trained checkpoint of the same shape."""
    trained = load_checkpoint(folder).model.model.vision_tower
    try:
        checkpoint.model.model.vision_tower.load_state_dict(trained.state_dict())
    except RuntimeError as error:
        raise BrokenModel(
            f"The vision tower of {folder} has another shape: give it the same image size, patch and width."
        ) from error


def write(checkpoint: Checkpoint, lora: Any, folder: Path) -> None:
    """Write a whole checkpoint, or the adapter alone where a base was taught."""
    if lora is None:
        save_checkpoint(checkpoint, folder)
    else:
        write_adapter(folder, adapter_weights(checkpoint.model), lora, checkpoint.source, checkpoint.card)


def held_out_records(config: PretrainConfig, structures: tuple[str, ...], progress: ProgressCallback | None) -> Records | None:
    """The validation split, None where the data set has none."""
    try:
        return load_records(
            [Path(folder) for folder in config.datasets],
            "val",
            structures,
            config.cache_size,
            config.cache or Path(config.out) / "cache",
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
    settings = {k: v for k, v in asdict(config).items() if k not in _NOT_IN_CARD}
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
