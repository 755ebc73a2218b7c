"""Commands that teach: train a model on a data set, adapt one to a new structure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from training.cli.console import Command, listed
from training.errors import ChexanatomyError

DEFAULT_MINUTES = 60.0
_FIELDS = {"steps": "max_steps", "minutes": "max_minutes"}


@dataclass(frozen=True, kw_only=True)
class Train(Command):
    """Train a model on a data set; a run that was stopped goes on where it was.

    On many GPUs or nodes: accelerate launch -m training.cli train --dataset data --out run

    Example: chexanatomy train --dataset data --out run --steps 2000
    """

    dataset: tuple[Path, ...]
    """Data set folders, as `synthesize` writes them."""
    out: Path
    """Folder of the run: checkpoints, log.jsonl, TensorBoard events."""
    base: str | None = None
    """Start from this model (a PaliGemma folder, a hub id, a run) instead of from a new small one."""
    unet: bool = False
    """Train the baseline instead: a U-Net on the same images, for evaluate --baseline."""
    codebook: Path | None = None
    """Mask codebook of a new model (default: the embedded one), or of a base that brings none."""
    steps: int | None = None
    """Optimiser steps."""
    minutes: float | None = None
    """Length of the run [minutes]; with --steps, whichever ends first (default: 60 when neither is given)."""
    image_size: int | None = None
    """Edge of the square that the model sees [pixels]."""
    images: int | None = None
    """Radiographs per step and process."""
    queries: int | None = None
    """Questions about each of them."""
    learning_rate: float | None = None
    """Its peak."""
    lora_rank: int | None = None
    """Rank of the adapter that is trained on a --base."""
    freeze_vision: bool = False
    """Leave the vision tower as it is: that of a --base, or of the model that `--set tower=` or `start=` names."""
    bf16: bool = False
    """Compute in bfloat16, on GPUs and processors that have instructions for it; others go on in float32."""
    checkpointing: bool = False
    """Recompute the layers of a --base on the way back instead of keeping them: less memory, a third more time."""
    workers: int | None = None
    """Processes that prepare data."""
    threads: int | None = None
    """Threads for the arithmetic."""
    limit: int | None = None
    """Use at most this many cases."""
    seed: int = 0
    """Seed of everything that is drawn."""
    set: tuple[str, ...] = ()
    """Other settings of training.fit.PretrainConfig as NAME=VALUE, such as stem=True tasks.emphasis=4 augmentation.zoom=0.1."""

    def run(self) -> int:
        """Train."""
        from training.fit import PretrainConfig, pretrain
        from training.fit.settings import changed, emulates_bfloat16

        names = (
            "base",
            "steps",
            "minutes",
            "image_size",
            "images",
            "queries",
            "learning_rate",
            "lora_rank",
            "workers",
            "threads",
            "limit",
        )
        given: dict[str, Any] = {
            _FIELDS.get(name, name): getattr(self, name) for name in names if getattr(self, name) is not None
        }
        if self.steps is None and self.minutes is None:
            given["max_minutes"] = DEFAULT_MINUTES
        config = PretrainConfig(
            datasets=self.dataset,
            out=self.out,
            codebook=self.codebook or (None if self.base else _embedded_codebook()),
            freeze_vision=self.freeze_vision,
            bf16=self.bf16,
            checkpointing=self.checkpointing,
            unet=self.unet,
            seed=self.seed,
            **given,
        )
        config = changed(config, self.set)
        if config.bf16 and emulates_bfloat16():
            self.warn(
                "This processor has no instructions for bfloat16, and would take tens of times as long: learning in float32."
            )
            config = replace(config, bf16=False)
        with self.reporting() as progress:
            checkpoint = pretrain(config, progress=progress)
        if config.unet:
            self.say(
                f"{checkpoint}: the U-Net; score it with chexanatomy evaluate --dataset DATA --baseline {checkpoint} --out DIR"
            )
            return 0
        book = f" --codebook {config.codebook}" if config.base and config.codebook else ""
        self.say(
            f"{checkpoint}: the model; try it with "
            f"chexanatomy predict IMAGE --structures heart --model {checkpoint}{book} --out DIR"
        )
        return 0


def _embedded_codebook() -> Path | None:
    """Return the mask codebook that the package carries, None where it carries no model."""
    import training.model
    from training.model.checkpoint import CODEBOOK

    path = Path(training.model.__file__).parent / "chexanatomy_tiny" / CODEBOOK
    return path if path.is_file() else None


@dataclass(frozen=True, kw_only=True)
class Adapt(Command):
    """Teach a model one structure from a few radiographs with masks, and measure it on held-out ones before and after.

    Example: chexanatomy adapt --images few/images --masks few/masks --structure "left pacemaker" --out adapter
    """

    images: Path
    """Folder of radiographs."""
    masks: Path
    """Folder of masks: the file of the same stem shows the structure, empty where it is not there."""
    structure: str
    """Its name; any text."""
    out: Path
    """Folder for the adapter."""
    model: str = "embedded"
    """What to start from: the embedded model, a folder, a hub id, an adapter, or BASE+ADAPTER."""
    codebook: Path | None = None
    """Mask codebook for a model that brings none."""
    held_out_images: str | None = None
    """Stems of the images to measure on instead of learning from them, separated by commas (default: a quarter, by chance)."""
    steps: int | None = None
    """Most optimiser steps."""
    seconds: float | None = None
    """Most time for learning [seconds]."""
    name: str = ""
    """What the adapter is called; default the folder's name."""
    method: Literal["lora", "decoder", "model"] = "lora"
    """What is taught: a low-rank adapter in the decoder, the whole decoder, or the whole model with its image tower (slow)."""
    no_augmentation: bool = False
    """Show the images as they are only, not turned, zoomed, shifted and exposed otherwise as well."""
    rank: int | None = None
    """Rank of the low-rank adapter."""
    threads: int | None = None
    """Threads for the arithmetic (default: as many as there are processors)."""
    seed: int = 0
    """Seed of what is held out and of the training."""

    def run(self) -> int:
        """Read the examples, adapt, say before and after."""
        from training.evaluate import from_folders, pairs
        from training.filenames import image_stem
        from training.fit import AdaptSettings, Augmentation, Example, adapt
        from training.model.taught import answers_alone

        _use_threads(self.threads)
        given = {name: getattr(self, name) for name in ("steps", "seconds", "rank") if getattr(self, name) is not None}
        given |= {"augmentation": Augmentation.none()} if self.no_augmentation else {}
        settings = AdaptSettings(method=self.method, seed=self.seed, **given)
        files = pairs(self.images, self.masks)
        named = set(listed(self.held_out_images)) if self.held_out_images else set()
        unknown = named - {image_stem(image) for image, _ in files}
        if unknown:
            raise ChexanatomyError(f"{self.images} has no image called {', '.join(sorted(unknown))} to hold out.")
        samples = zip(files, from_folders(files, self.structure), strict=True)
        examples = [
            Example(s.radiograph, s.references[self.structure], image_stem(image) in named, s.id) for (image, _), s in samples
        ]
        with self.reporting() as progress:
            adapter = adapt(
                self.model,
                examples,
                self.structure,
                self.out,
                settings,
                codebook=self.codebook,
                name=self.name,
                progress=progress,
            )
        if adapter.after:
            before, after = (sum(d.values()) / len(d) for d in (adapter.before, adapter.after))
            verdict = "better" if adapter.better else "NOT better: keep the model as it was, or draw more examples"
            self.say(f"{len(adapter.after)} held-out radiographs: Dice {before:.3f} before, {after:.3f} after, {verdict}")
            others = adapter.card["others"]
            if answers_alone(adapter.card):
                self.say("Other structures are answered as before: the adapter is used for this one alone.")
            elif others["mean"] is not None:
                lost = f"; forgotten: {', '.join(others['forgotten'])}" if others["forgotten"] else ""
                self.say(f"Other structures agree with what was said of them before: Dice {others['mean']:.3f}{lost}")
        else:
            self.say("Nothing was held out, so nothing says whether it got better; give at least three radiographs.")
        self.say(f"{adapter.folder}: the adapter, for --model and --structures '{self.structure}' of chexanatomy predict")
        return 0


def _use_threads(count: int | None) -> None:
    if count is not None:
        import torch

        from training.fit.settings import at_least

        at_least(1, threads=count)
        torch.set_num_threads(count)


@dataclass(frozen=True, kw_only=True)
class Suggest(Command):
    """Say which radiograph a model is least sure of: the one that is most worth drawing on next.

    Example: chexanatomy suggest few/images --structure heart --model adapter
    """

    images: Positional[tuple[Path, ...]]
    """Radiographs (DICOM, PNG, JPEG, TIFF), or folders of them."""
    structure: str
    """What is to be drawn."""
    model: str = "embedded"
    """The model that is asked: the embedded one, a folder, a hub id, an adapter, or BASE+ADAPTER."""
    out: Path | None = None
    """Also write the list into this JSON file, least sure first."""
    threads: int | None = None
    """Threads for the arithmetic (default: as many as there are processors)."""

    def run(self) -> int:
        """Ask about every image, print the list."""
        from dataclasses import asdict, replace

        from training.batch import image_files
        from training.filenames import image_stem
        from training.fit.doubt import least_sure
        from training.images import read_radiograph
        from training.images.identity import neutral
        from training.model import load
        from training.results import write_json

        if self.out is not None and self.out.is_dir():
            raise ChexanatomyError(f"{self.out} is a folder: name a file for the list.")
        _use_threads(self.threads)
        files = image_files(self.images, self.warn)
        predictor = load(self.model, say=self.warn)
        with self.reporting() as progress:
            images = [replace(read_radiograph(path), name=image_stem(neutral(path))) for path in files]
            doubts = least_sure(predictor, images, self.structure, progress)
        for doubt in doubts:
            self.say(f"{doubt.doubt:.3f}  {doubt.name}")
        if self.out is not None:
            write_json(self.out, [asdict(doubt) for doubt in doubts])
        return 0
