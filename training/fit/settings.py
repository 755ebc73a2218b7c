"""The settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from training.fit.augment import Augmentation
from training.fit.queries import Tasks


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a training run; they are stored in its checkpoints.

    datasets: folders of synthetic cases; out: folder of the run, an interrupted one is continued; codebook: mask codebook
    (`.safetensors` of ours, or vae-oid.npz); base: a PaliGemma to teach through LoRA instead of training chexanatomy-tiny from
    nothing; structures: keys to learn, by default the vocabulary's trainable ones. image_size to heads: the shape of the model,
    see `tiny_config`. images, queries: images per step and process, and questions about each. sigma [bins], smoothing, dense:
    width of the box targets, label smoothing of the codes, weight of the auxiliary loss; dense_first: part of the run, 0..1,
    that trains the vision tower by the auxiliary loss alone, at a third of the cost per step. max_steps, max_minutes: the
    schedule ends with the first of them; with max_minutes alone its length follows from the speed measured.
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
