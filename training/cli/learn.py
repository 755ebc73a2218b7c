"""Commands that teach: train a model on a data set, adapt one to a new structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from training.cli.console import Command
from training.errors import ChexanatomyError


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
    codebook: Path | None = None
    """Mask codebook; default the one of the base, or the embedded one."""
    steps: int | None = None
    """Optimiser steps (default: the configuration's)."""
    minutes: float | None = None
    """Stop after this long [minutes], with a finished checkpoint."""
    batch: int | None = None
    """Radiographs per step."""
    learning_rate: float | None = None
    """Peak of the learning rate."""
    seed: int = 0
    """Seed of everything that is drawn."""

    def run(self) -> int:
        """Train."""
        from training.fit import PretrainConfig, pretrain

        given = {
            "steps": self.steps,
            "minutes": self.minutes,
            "batch": self.batch,
            "learning_rate": self.learning_rate,
            "base": self.base,
            "codebook": self.codebook,
        }
        with self.reporting() as progress:
            pretrain(
                PretrainConfig(
                    datasets=self.dataset, out=self.out, seed=self.seed, **{k: v for k, v in given.items() if v is not None}
                ),
                progress=progress,
            )
        self.say(f"{self.out}: the model; try it with chexanatomy predict IMAGE --structures heart --model {self.out} --out DIR")
        return 0


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
    held_out: int | None = None
    """Radiographs kept for measuring (default: about a quarter of them)."""
    steps: int | None = None
    """Most optimiser steps."""
    seed: int = 0
    """Seed of what is held out and of the training."""

    def run(self) -> int:
        """Read the examples, adapt, say before and after."""
        from training.evaluate import from_folders, pairs
        from training.fit import Example, adapt

        files = pairs(self.images, self.masks)
        scored = [(s.radiograph, s.references[self.structure]) for s in from_folders(files, self.structure)]
        raise ChexanatomyError(f"not yet {Example} {adapt} {len(scored)}")
