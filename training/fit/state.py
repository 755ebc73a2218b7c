"""What a training run needs to go on after a kill: weights, their moving average, the optimiser's moments, step and time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.errors import BrokenModel
from training.fit.settings import BEGUN_WITH
from training.images.paths import replacing

STATE = "state.safetensors"

MAY_CHANGE = {
    *("datasets", "out", "cache", "codebook", "max_steps", "max_minutes", "workers", "loaders", "threads", "checkpointing"),
    *("bf16", "save_minutes", "validate_minutes", "log_steps", "calibrate_images"),
}
"""Settings that say where, how long and how fast a run learns, and what of it is seen, not what."""


class Ema:
    """Exponential moving average of the trained parameters of a module."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {n: p.detach().clone().float() for n, p in module.named_parameters() if p.requires_grad}

    def to(self, device: torch.device) -> None:
        """Move the averages to a device."""
        self.values = {n: v.to(device) for n, v in self.values.items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move towards the module's weights; early steps count more, so that the random start is forgotten."""
        named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.values.values()), [named[n].detach().float() for n in self.values], 1 - decay)

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module with averaged weights, and in evaluation mode, for the time of the block."""
        named = {n: p for n, p in module.named_parameters() if n in self.values}
        kept = {n: p.detach().clone() for n, p in named.items()}
        training = module.training
        try:
            with torch.no_grad():
                for n, p in named.items():
                    p.copy_(self.values[n])
            module.eval()
            yield
        finally:
            with torch.no_grad():
                for n, p in named.items():
                    p.copy_(kept[n])
            module.train(training)


@dataclass(frozen=True)
class Taught:
    """What a run was taught on from a step on. cases: how many; fingerprint: of which ones (`Records.fingerprint`)."""

    from_step: int
    cases: int
    fingerprint: str


def save_state(
    folder: Path,
    module: nn.Module,
    ema: Ema,
    optimizer: Any,
    step: int,
    elapsed: float,
    config: Mapping[str, Any],
    taught: Sequence[Taught] = (),
) -> None:
    """Write everything into one file that replaces the last one as a whole. elapsed: training time so far [s]; taught: the cases
    so far, the latest last."""
    from safetensors.torch import save_file

    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    tensors: dict[str, Tensor] = {f"weight.{n}": p.detach().cpu().contiguous().clone() for n, p in named.items()}
    tensors |= {f"average.{n}": v.cpu().contiguous() for n, v in ema.values.items()}
    for n, p in named.items():
        tensors |= {f"moment.{k}.{n}": v.detach().cpu().contiguous().clone() for k, v in optimizer.state.get(p, {}).items()}
    meta = {"step": str(step), "elapsed": str(elapsed), "config": json.dumps(config, default=str)}
    meta["taught"] = json.dumps([asdict(one) for one in taught])
    partial = folder / f".{STATE}.partial"
    save_file(tensors, partial, metadata=meta)
    os.replace(partial, folder / STATE)


def check_same_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise BrokenModel where a run that was begun with other settings lies: what its card says of them would be wrong.

    Those of MAY_CHANGE may differ, and the learning rate may be lower, to go on where the loss was no number. Models to begin
    with count by whether there is one, a base by its name.
    """
    from safetensors import safe_open

    path = folder / STATE
    if not path.exists():
        return
    with safe_open(path, framework="pt") as file:
        begun = _flat(json.loads(file.metadata()["config"]))
    now = _flat(json.loads(json.dumps(config, default=str)))
    if now["learning_rate"] < begun["learning_rate"]:
        del now["learning_rate"]
    other = [f"{name} {begun[name]}, not {now[name]}" for name in begun.keys() & now.keys() if begun[name] != now[name]]
    if other:
        raise BrokenModel(
            f"{folder} holds a run that was begun with {'; '.join(sorted(other))}: "
            "go on with the settings it was begun with, or choose a new folder."
        )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """What may not change, with a dot in the names of settings inside of settings."""
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in config.items() if name not in MAY_CHANGE}
    flat = {f"{name}.{inner}".rstrip("."): value for name, part in parts.items() for inner, value in part.items()}
    flat |= {name: bool(flat[name]) for name in BEGUN_WITH if name in flat}
    return flat | {"base": _name_of(Path(flat["base"])) if flat.get("base") else None}


def _name_of(base: Path) -> str:
    """A model's own name, also where it lies in the hub's cache under models--OWNER--NAME/snapshots/HASH."""
    return base.parts[-3].rpartition("--")[2] if base.parent.name == "snapshots" and len(base.parts) > 2 else base.name


def cut_log(path: Path, step: int) -> None:
    """Leave of a log the whole lines up to the step that was saved: what came after it is learnt, and noted, again."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and _step_of(line) <= step]
    if len(kept) < len(lines):
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(kept))


def _step_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # a stop of the machine can leave anything
        return math.inf


def load_state(folder: Path, module: nn.Module, ema: Ema, optimizer: Any) -> tuple[int, float]:
    """Take up a saved run: returns (step, elapsed [s]); (0, 0) where there is none. Raises BrokenModel for a run of another
    shape."""
    from safetensors import safe_open

    path = folder / STATE
    if not path.exists():
        return 0, 0.0
    named = {n: p for n, p in module.named_parameters() if p.requires_grad}
    fused = bool(optimizer.param_groups[0].get("fused"))  # then steps are counted where the weights are
    with safe_open(path, framework="pt") as file:
        meta = file.metadata()
        keys = set(file.keys())
        shapes = {n: tuple(file.get_slice(f"weight.{n}").get_shape()) for n in named if f"weight.{n}" in keys}
        if any(shapes.get(n) != tuple(p.shape) for n, p in named.items()):
            raise BrokenModel(
                f"{folder} holds a run of another model shape: choose a new folder, or the settings it was begun with."
            )
        with torch.no_grad():
            for n, p in named.items():
                p.copy_(file.get_tensor(f"weight.{n}"))
                ema.values[n] = file.get_tensor(f"average.{n}").to(p.device)
                kept = [k.split(".", 2)[1] for k in keys if k.startswith("moment.") and k.split(".", 2)[2] == n]
                moments = {k: file.get_tensor(f"moment.{k}.{n}") for k in kept}
                optimizer.state[p] = {k: v if k == "step" and not fused else v.to(p.device) for k, v in moments.items()}
    return int(meta["step"]), float(meta["elapsed"])


def taught_until(folder: Path, now: Taught) -> list[Taught]:
    """The cases that a run was taught on, the latest last: those of the run saved in a folder, and `now` where it is the first or
    has others."""
    from safetensors import safe_open

    before: list[Taught] = []
    if (folder / STATE).exists():
        with safe_open(folder / STATE, framework="pt") as file:
            before = [Taught(**one) for one in json.loads(file.metadata().get("taught", "[]"))]
    return before if before and before[-1].fingerprint == now.fingerprint else [*before, now]


def averaged(folder: Path, part: str) -> dict[str, Tensor]:
    """The averaged weights of a part of what a run trained, such as "head", by their names in it. Raises BrokenModel where there
    are none."""
    from safetensors import safe_open

    path, begin = folder / STATE, f"average.{part}."
    if not path.is_file():
        raise BrokenModel(f"{folder} holds no training run: there is no {STATE} in it.")
    with safe_open(path, framework="pt") as file:
        keys = set(file.keys())
        found = {key.removeprefix(begin): file.get_tensor(key) for key in keys if key.startswith(begin)}
    if not found:
        raise BrokenModel(f"The run in {folder} has trained no {part}.")
    return found
