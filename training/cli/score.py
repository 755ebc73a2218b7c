"""`evaluate`: how well a model's masks agree with references."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from training.cli.console import Command, listed, structure_key
from training.errors import ChexanatomyError

BASELINE_CASES = 300
"""Training cases from which the mean mask is made at most."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Command):
    """Score a model on a data set, or on a folder of radiographs with one mask each.

    Writes report.md and report.json: per structure Dice with its 95 % interval and worst tenth, IoU, HD95, absent structures
    called absent, exchanged sides, invalid answers; the constant mean mask stands beside it.

    Example: chexanatomy evaluate --dataset data --model embedded --out report
    """

    out: Path
    """Folder for the report."""
    dataset: Path | None = None
    """Data set folder, as `synthesize` writes it."""
    split: Literal["train", "val", "test", "all"] = "test"
    """Which of its subjects."""
    images: Path | None = None
    """Instead of a data set: a folder of radiographs."""
    masks: Path | None = None
    """The masks of the radiographs, a file of the same stem each."""
    structures: str | None = None
    """Structures separated by commas; A+B is the union of A and B. Needed with --images: the one that the masks show."""
    model: str = "embedded"
    """The embedded model, a folder, a hub id, an adapter, or BASE+ADAPTER."""
    baseline: str | None = None
    """Another model, or the folder of a training run, to set beside it."""
    codebook: Path | None = None
    """Mask codebook for a model that brings none."""
    limit: int | None = None
    """Score at most this many images, evenly spread."""

    def run(self) -> int:
        """Load, score, write the report."""
        from training.evaluate import write_report

        targets = None
        if self.structures:
            targets = ["+".join(structure_key(part.strip()) for part in t.split("+")) for t in listed(self.structures)]
        if self.dataset is not None and not (self.images or self.masks):
            result = self._on_dataset(self.dataset, targets)
        elif self.dataset is None and self.images and self.masks:
            if not targets or len(targets) != 1:
                raise ChexanatomyError("Say with --structures which one the masks show; A+B is the union of A and B.")
            result = self._on_folders(self.images, self.masks, targets[0])
        else:
            raise ChexanatomyError("Give either --dataset, or --images and --masks.")
        write_report(result, self.out)
        for model in result.models:
            self.say(f"{model.model}: mean Dice {model.mean_dice:.3f} over {sum(s.n > 0 for s in model.structures)} structures")
        self.say(f"{self.out}: report.md and report.json on {result.n_images} images of {result.n_subjects} subjects")
        return 0

    def _models(self) -> dict[str, Any]:
        from training.model import load

        specs = list(dict.fromkeys([self.model, *([self.baseline] if self.baseline else [])]))
        return {spec: load(spec, codebook=self.codebook) for spec in specs}

    def _on_dataset(self, folder: Path, targets: list[str] | None) -> Any:
        from training.dataset import Dataset
        from training.evaluate import MeanMask, chosen, compare, from_dataset

        dataset = Dataset.open(folder)
        cases = chosen(dataset, self.split, self.limit)
        mean = None
        if any(case.split == "train" for case in dataset.cases):
            mean = MeanMask(from_dataset(dataset, chosen(dataset, "train", BASELINE_CASES), targets))
        models = self._models()
        with self.reporting() as progress:
            data = f"{folder.name} ({self.split})"
            own = self.split in ("train", "all")
            return compare(models, from_dataset(dataset, cases, targets), data, mean, progress, len(cases), leave_one_out=own)

    def _on_folders(self, images: Path, masks: Path, target: str) -> Any:
        from training.evaluate import MeanMask, compare, from_folders, pairs

        files = pairs(images, masks, self.limit)
        mean = MeanMask(from_folders(files, target)) if len(files) > 1 else None
        models = self._models()
        with self.reporting() as progress:
            return compare(models, from_folders(files, target), images.name, mean, progress, len(files), leave_one_out=True)
