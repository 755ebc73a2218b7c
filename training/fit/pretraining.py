"""Pre-training: one flat loop that teaches a model to write anatomy as tokens. See docs/training.md for what it learnt when."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from training import __version__
from training.anatomy import trainable
from training.errors import BrokenDataset, BrokenModel
from training.fit.batches import Plan, batches, make_plan
from training.fit.optimiser import optimiser
from training.fit.pupils import Pupil, TokenPupil
from training.fit.records import Records, load_records, set_aside
from training.fit.schedule import Schedule, learning_rate
from training.fit.settings import BEGUN_WITH, NOT_IN_CARD, PretrainConfig
from training.fit.state import Ema, Taught, check_same_run, cut_log, load_state, save_state, taught_until
from training.folders import replacing_folder
from training.progress import ProgressCallback, report


def pretrain(config: PretrainConfig, progress: ProgressCallback | None = None) -> Path:
    """Train, and return the folder of the checkpoint: `out/checkpoint`. Stopped by the callback or the keyboard, it saves
    first."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.utils import broadcast, set_seed
    from tensorboardX import SummaryWriter

    if config.max_steps is None and config.max_minutes is None:
        raise BrokenDataset("A training run needs an end: give max_steps or max_minutes.")
    out = Path(config.out)
    check_same_run(out, asdict(config))
    if config.threads:
        torch.set_num_threads(config.threads)
    set_seed(config.seed)
    # While the vision tower is trained alone, the decoder has no gradients.
    ddp = DistributedDataParallelKwargs(find_unused_parameters=config.auxiliary > 0 and config.dense_first > 0)
    # Without a GPU, processes that torchrun has started find each other only when told that the CPU is meant.
    together_on_cpu = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=together_on_cpu, mixed_precision="bf16" if config.bf16 else "no", kwargs_handlers=[ddp])
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    structures = config.structures or trainable()
    pupil = pupil_of(config, structures)
    out.mkdir(parents=True, exist_ok=True)
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
    learner, asker = pupil.learner, pupil.asker(records)
    trained = [p for p in learner.parameters() if p.requires_grad]
    optimizer = optimiser(learner, config.learning_rate, config.weight_decay, config.muon, device.type == "cuda", config.bf16)
    ema = Ema(learner, config.ema)
    prepared, optimizer = accelerator.prepare(learner, optimizer)
    ema.to(device)
    step, elapsed = load_state(out, learner, ema, optimizer)
    started = last_save = last_validation = time.monotonic() - elapsed
    last_save, last_validation = time.monotonic(), time.monotonic()
    loop = Schedule(config, started)
    taught = taught_until(out, Taught(step, len(records), records.fingerprint()))
    if step:
        changed = step == taught[-1].from_step and len(taught) > 1
        other = f", with other cases: {taught[-2].cases:,} before, {taught[-1].cases:,} now" if changed else ""
        report(progress, step, loop.steps(step), f"Going on from step {step}{other}")
    log = writer = None
    if accelerator.is_main_process:
        cut_log(out / "log.jsonl", step)
        log = (out / "log.jsonl").open("a", encoding="utf-8")
        writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)
    watched: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

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

    def write(card: dict[str, Any]) -> None:
        with replacing_folder(out / "checkpoint") as folder:
            pupil.write(folder, card)

    def save() -> None:
        if accelerator.is_main_process:
            save_state(out, learner, ema, optimizer, step, time.monotonic() - started, asdict(config), taught)
            with ema.applied(learner):
                write(card_of(config, structures, taught, step, world))

    def plan(step: int) -> Plan:
        return make_plan(records, asker, config, step, rank, world, pupil.image_size, pupil.side)

    upcoming = batches(plan, pupil.develop, step, config.loaders, device)

    def agreed() -> float:
        """How far the run is by the clock of the first process: all of them end with the same step."""
        own = loop.fraction(step)
        return float(broadcast(torch.tensor(own, dtype=torch.float64, device=device))) if world > 1 else own

    fraction, sound = agreed(), True
    try:
        while fraction < 1:
            batch = next(upcoming)
            rate = learning_rate(config, fraction)
            answers = not config.auxiliary or fraction >= config.dense_first
            for group in optimizer.param_groups:
                group["lr"] = rate
            tic = time.monotonic()
            loss, values = prepared(batch, answers=answers)
            sound = bool(torch.isfinite(loss))
            if not sound:
                raise BrokenModel(f"The loss is no number at step {step}: go on from the last state with a lower learning rate.")
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trained, config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update(learner, step)
            step += 1
            fraction = agreed()
            watched["seconds"][0] += time.monotonic() - tic
            watched["seconds"][1] += 1
            for name, (total, count) in {**values, "loss": (float(loss.detach()), 1)}.items():
                watched[name][0] += total
                watched[name][1] += count
            if step % config.log_steps == 0 or fraction >= 1:
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
                    note({f"val/{k}": v for k, v in pupil.validate(held_out, config.validate_images).items()})
                last_validation = time.monotonic()
            if time.monotonic() - last_save > 60 * config.save_minutes:
                save()
                last_save = time.monotonic()
    finally:
        upcoming.close()
        if sound:  # the last state that was stays the one to go on from
            save()
        if log:
            log.close()
    # What follows is the first process's alone. The others leave, without threads of the connection that would outlive them.
    del prepared
    accelerator.free_memory()
    accelerator.wait_for_everyone()
    accelerator.end_training()
    if held_out is not None and accelerator.is_main_process:
        with ema.applied(learner):
            card = card_of(config, structures, taught, step, world) | pupil.finish(held_out, config.calibrate_images)
            scores = pupil.validate(held_out, config.validate_images)  # as it answers with what it has just learnt
            write(card | {"validation": {k: round(v, 4) for k, v in scores.items()}})
        report(progress, step, step, "Training finished", **scores)
        with (out / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps({"step": step, **{f"val/{k}": round(v, 6) for k, v in scores.items()}}) + "\n")
    return out / "checkpoint"


def pupil_of(config: PretrainConfig, structures: tuple[str, ...]) -> Pupil:
    """What the settings say is to be taught."""
    if config.unet:
        from training.fit.unet import UnetPupil

        return UnetPupil(config, structures)
    return TokenPupil(config, structures)


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


def card_of(
    config: PretrainConfig, structures: tuple[str, ...], taught: Sequence[Taught], step: int, world: int
) -> dict[str, Any]:
    """What is to be known about the model. Where the cases changed while it learnt, which ones it had before is told, too."""
    settings = {k: v for k, v in asdict(config).items() if k not in NOT_IN_CARD}
    settings |= {k: bool(settings[k]) for k in BEGUN_WITH}
    before = {"cases_before": [{"from_step": t.from_step, "cases": t.cases} for t in taught[:-1]]} if len(taught) > 1 else {}
    return {
        "structures": list(structures),
        "software": __version__,
        "training": {"steps": step, "cases": taught[-1].cases, **before, "processes": world, "settings": settings},
        "use": "Research only, not for diagnosis.",
    }
