"""The settings of a training run."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from training.anatomy import find
from training.errors import ChexanatomyError
from training.fit.augment import Augmentation
from training.fit.queries import Tasks
from training.plain import writable


def at_least(least: int, **values: float | None) -> None:
    """Raise ChexanatomyError for a number that is below `least`, infinite or none at all, by its name; None says nothing."""
    for name, value in values.items():
        if value is not None and not least <= value < math.inf:
            raise ChexanatomyError(f"{name} is a number from {least} on; got {value:g}.")


def above_nothing(**values: float | None) -> None:
    """Raise ChexanatomyError for a number that is not above 0, infinite or none at all, by its name; None says nothing."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise ChexanatomyError(f"{name} is a number above 0; got {value:g}.")


def share(**values: float) -> None:
    """Raise ChexanatomyError for a number that is not between 0 and 1, by its name."""
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ChexanatomyError(f"{name} is a number from 0 to 1; got {value:g}.")


def emulates_bfloat16() -> bool:
    """Whether bfloat16 is only imitated here: no GPU, and a processor without instructions for it, on which a product takes
    tens of times as long as in float32."""
    import torch

    if torch.accelerator.is_available() or not torch.backends.mkldnn.is_available():
        return False
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def check_out(out: Path) -> None:
    """Raise ChexanatomyError for a folder that no model can be written into: safetensors takes paths in UTF-8 only."""
    if writable(str(out)) != str(out):
        raise ChexanatomyError(
            f"No model can be kept in {writable(str(out))}, whose name is not in UTF-8: choose another folder."
        )


NOT_IN_CARD = ("datasets", "out", "codebook", "base", "structures", "cache")
"""Settings that are paths of one machine, or that the card of a model holds elsewhere."""
BEGUN_WITH = ("tower", "start", "dense_start")
"""Settings that name weights to begin with: a card and a run that is taken up again know whether there were any, not whose."""
UNET_WIDTHS = 6
_NOT_FOR_UNET = ("base", *BEGUN_WITH, "freeze_vision", "checkpointing")


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a training run; they are stored in its checkpoints.

    datasets: folders of synthetic cases; out: folder of the run, an interrupted one is continued; codebook: mask codebook
    (`.safetensors` of ours, or vae-oid.npz); base: a PaliGemma to teach through LoRA instead of training chexanatomy-tiny from
    nothing; structures: keys to learn, by default the vocabulary's trainable ones. image_size to stem_depth: the shape of the
    model, see `tiny_config`; reading: how much of what the decoder reads are the shares of structures that the auxiliary loss
    teaches the tower to see, 0 for its features alone, see `training.model.reading`; reading_spread: by how much more or less
    they are in the images of a step; evened: by what share the features are evened out before the decoder reads them, see
    `training.model.evened` (of a model to start with that was made so); vision_reach, text_reach: how many patches away a patch
    sees others, in the tower and in the decoder, 0 for all, see `training.model.nearby`; informed: start with smooth embeddings
    of places and codes; tower: a checkpoint whose vision tower to start with; start: one whose weights to start with
    altogether, which may have fewer layers; freeze_vision: the tower stays as it began. unet: train the baseline instead,
    MONAI's U-Net of unet_widths, on the same images. images, queries: images per step and process, and questions about each.
    sigma [bins], smoothing, near: width of the box targets, and of the codes' (see `training.fit.losses`). naming: weight of
    the loss on answers that are a name and nothing else: there are few of them, of three tokens. drawn: weight of the loss on
    the masks that the codes are expected to draw, drawn_most: for how many of a step's. dense: weight of the auxiliary loss,
    which also looks for what the questions point at in the picture; dense_start: an earlier run of the same structures whose
    head of that loss to start with: a new one pulls at a tower that knows better than it for hundreds of steps; dense_factor:
    its mask values per side of a patch; dense_structures: how many structures it looks at in one step; dense_first: part of
    the run, 0..1, that trains the vision tower by the auxiliary loss alone, at a third of the cost per step. max_steps,
    max_minutes: the schedule ends with the first of them; with max_minutes alone its length follows from the speed measured.
    warmup, cooldown: parts of the run in which the learning rate rises and falls; a long run is ended early, and well, by
    starting it again with fewer steps, so that it stands at the beginning of its cooldown. muon: size of Muon's steps
    relative to learning_rate, 0 for AdamW everywhere, see `training.fit.optimiser`. checkpointing: recompute a base's layers
    instead of keeping them. calibrate_images: held-out images on which the confidence is learnt at the end. cache_size: edge
    of the images kept decoded [px]; cache: folder for them, by default in `out`. loaders: processes of their own that prepare
    the steps, where a GPU would wait for the thread that does it otherwise (Linux).
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
    stem: bool = False
    stem_depth: int = 1
    reading: float = 0.0
    reading_spread: float = 0.0
    evened: float = 0.0
    vision_reach: int = 0
    text_reach: int = 0
    informed: bool = True
    tower: Path | None = None
    start: Path | None = None
    unet: bool = False
    unet_widths: tuple[int, ...] = (16, 16, 32, 64, 128, 16)
    images: int = 8
    queries: int = 16
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    muon: float = 0.0
    warmup: float = 0.03
    cooldown: float = 0.5
    clip: float = 1.0
    ema: float = 0.998
    sigma: float = 6.0
    smoothing: float = 0.05
    near: float = 0.0
    naming: float = 1.0
    drawn: float = 0.0
    drawn_most: int = 64
    dense: float = 0.5
    dense_start: Path | None = None
    dense_factor: int = 4
    dense_structures: int = 32
    dense_first: float = 0.05
    lora_rank: int = 16
    freeze_vision: bool = False
    bf16: bool = False
    checkpointing: bool = False
    max_steps: int | None = None
    max_minutes: float | None = None
    save_minutes: float = 5.0
    validate_minutes: float = 10.0
    validate_images: int = 16
    calibrate_images: int = 64
    log_steps: int = 20
    threads: int | None = None
    workers: int = 2
    loaders: int = 0
    seed: int = 0
    cache_size: int = 224
    cache: Path | None = None
    limit: int | None = None
    tasks: Tasks = field(default_factory=Tasks)
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_out(self.out)
        at_least(1, steps=self.max_steps, images=self.images, queries=self.queries, limit=self.limit, threads=self.threads)
        at_least(1, image_size=self.image_size, patch=self.patch, lora_rank=self.lora_rank)
        at_least(1, vision_width=self.vision_width, vision_depth=self.vision_depth, text_width=self.text_width)
        at_least(1, text_depth=self.text_depth, text_hidden=self.text_hidden, heads=self.heads)
        at_least(1, dense_factor=self.dense_factor, dense_structures=self.dense_structures, drawn_most=self.drawn_most)
        at_least(1, cache_size=self.cache_size, log_steps=self.log_steps)
        at_least(0, vision_reach=self.vision_reach, text_reach=self.text_reach)
        at_least(0, workers=self.workers, loaders=self.loaders, seed=self.seed, learning_rate=self.learning_rate)
        at_least(0, weight_decay=self.weight_decay, muon=self.muon, sigma=self.sigma, near=self.near, naming=self.naming)
        at_least(0, drawn=self.drawn, dense=self.dense, stem_depth=self.stem_depth, calibrate_images=self.calibrate_images)
        above_nothing(minutes=self.max_minutes, clip=self.clip)
        share(reading=self.reading, reading_spread=self.reading_spread, evened=self.evened)
        share(styles=self.augmentation.styles, closer=self.augmentation.closer)
        share(warmup=self.warmup, cooldown=self.cooldown, ema=self.ema, smoothing=self.smoothing, dense_first=self.dense_first)
        if self.structures is not None:
            object.__setattr__(self, "structures", tuple(dict.fromkeys(find(name).key for name in self.structures)))
        if self.unet and (len(self.unet_widths) != UNET_WIDTHS or min(self.unet_widths) < 1):
            raise ChexanatomyError(f"unet_widths are {UNET_WIDTHS} numbers from 1 on; got {self.unet_widths}.")
        if unused := [name for name in _NOT_FOR_UNET if getattr(self, name)] if self.unet else []:
            raise ChexanatomyError(f"A U-Net begins anew and learns as a whole: leave out unet or {', '.join(unused)}.")
        if self.reading and (self.unet or self.base):
            raise ChexanatomyError("Only chexanatomy-tiny reads shares of structures: leave out reading, or unet and base.")
        if self.evened and (self.reading or self.unet or self.base):
            raise ChexanatomyError(
                "Only plain features of chexanatomy-tiny are evened out: leave out evened, or reading, unet, base."
            )
        if (self.vision_reach or self.text_reach) and (self.unet or self.base):
            raise ChexanatomyError(
                "Only patches of chexanatomy-tiny have a reach: leave out vision_reach and text_reach, or unet and base."
            )
        if self.augmentation.apart and not self.reading:
            raise ChexanatomyError(
                "Structures are read away from their places by a model that reads: leave out apart, or set reading."
            )
        if self.augmentation.styles and self.unet:
            raise ChexanatomyError("A U-Net has no tower whose features could be restyled: leave out styles, or unet.")
        if self.dense_start and not self.auxiliary:
            raise ChexanatomyError("Without an auxiliary loss there is no head of it to go on with: leave out dense_start.")

    @property
    def auxiliary(self) -> float:
        """Weight of the auxiliary loss, 0 where the vision tower, which it is for, does not learn."""
        return 0.0 if self.freeze_vision else self.dense

    @property
    def points(self) -> bool:
        """Whether the auxiliary loss looks for what the questions point at."""
        return self.auxiliary > 0 and self.tasks.marked > 0


T = TypeVar("T")


def changed(config: T, changes: Sequence[str]) -> T:
    """The settings with changes written as "name=value"; a dot reaches into Tasks and Augmentation ("tasks.absent=0.2").

    Raises ChexanatomyError for a name that no setting has, or a value of another type.
    """
    for change in changes:
        name, _, text = change.partition("=")
        config = _set(config, name.strip().split("."), text.strip(), change)
    return config


def _set(config: Any, path: list[str], text: str, change: str) -> Any:
    known = {f.name for f in fields(config)}
    if path[0] not in known or not text:
        raise ChexanatomyError(f"{change} changes nothing: give NAME=VALUE with a name out of {', '.join(sorted(known))}.")
    old = getattr(config, path[0])
    if is_dataclass(old) and len(path) > 1:
        return replace(config, **{path[0]: _set(old, path[1:], text, change)})
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, str) and (old is None or isinstance(old, Path)):
        value = Path(value)
    if (old is not None and not isinstance(value, type(old))) or len(path) > 1:
        raise ChexanatomyError(f"{change} does not fit: {path[0]} is {old!r}, give a value of that kind.")
    try:
        return replace(config, **{path[0]: value})
    except TypeError as error:  # such as structures=3
        raise ChexanatomyError(f"{change} does not fit: give a value of the kind that {path[0]} is.") from error
