"""`evaluate`: how well a model's masks agree with references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.cli.console import Command, Lungs, listed, structure_key
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from training.dataset import Case, Dataset
    from training.evaluate import Scored

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
    """Structures separated by commas; A+B is the union of A and B. Needed with --images: the one that the masks show. By default
    those that the model was taught."""
    model: str = "embedded"
    """The embedded model, a folder, a hub id, an adapter, or BASE+ADAPTER."""
    baseline: str | None = None
    """Another model, or the folder of a training run, to set beside it."""
    codebook: Path | None = None
    """Mask codebook for a model that brings none."""
    lungs: Lungs = "drawn"
    """What lung_left, lung_right and lungs mean on radiographs taken of people, as in `predict`: `drawn`, their outlines, or
    `projected`. In data sets made from CTs they are always projected; imported radiographs count as taken of people."""
    limit: int | None = None
    """Score at most this many images, evenly spread."""
    claims: bool = False
    """Measure the four claims of the paper instead and write them to --out, a page such as docs/claims.md. Takes --dataset,
    --model, --baseline (a U-Net's run) and, for real radiographs, --images, --masks and --structures."""
    few_shot: str | None = None
    """For claim 3: a run that was trained without the structures of --left-out."""
    left_out: str | None = None
    """For claim 3: structures separated by commas."""
    few_shot_seconds: float = 60.0
    """For claim 3: learning time of each model for each number of images."""
    others: str | None = None
    """For claim 4: runs separated by commas, of other sizes or settings."""
    swept: int = 12
    """For claim 2: images for each strength of each shift."""

    def run(self) -> int:
        """Load, score, write the report."""
        from training.evaluate import write_report

        if self.claims:
            return self._claims()
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
        from training.evaluate.opening import open_model

        specs = list(dict.fromkeys([self.model, *([self.baseline] if self.baseline else [])]))
        return {spec: self._asked(open_model(spec, self.codebook)) for spec in specs}

    def _asked(self, model: Any) -> Any:
        from training.model.convention import AsDrawn

        return AsDrawn(model) if self.lungs == "drawn" else model

    def _claims(self) -> int:
        import shlex
        import sys
        import tempfile

        from training.dataset import Dataset
        from training.evaluate import MeanMask, chosen, from_dataset, from_folders, pairs
        from training.evaluate.claims import BASELINE, MEAN, MODEL, Plan, measure_claims
        from training.evaluate.claims_page import write_claims
        from training.evaluate.comparison import Segments
        from training.evaluate.fewshot import FewShot
        from training.evaluate.opening import card_of, open_model

        if self.dataset is None:
            raise ChexanatomyError("The claims are measured on a data set; give --dataset.")
        if bool(self.few_shot) != bool(self.left_out):
            raise ChexanatomyError("Claim 3 needs both --few-shot, a run, and --left-out, the structures it was trained without.")
        dataset = Dataset.open(self.dataset)
        models: dict[str, Segments] = {MODEL: self._asked(open_model(self.model, self.codebook))}
        if self.baseline:
            models[BASELINE] = self._asked(open_model(self.baseline))
        models[MEAN] = MeanMask(from_dataset(dataset, chosen(dataset, "train", BASELINE_CASES)))
        real: Iterable[Scored] = ()
        if self.images and self.masks and self.structures:
            target = "+".join(structure_key(part.strip()) for part in self.structures.split("+"))
            real = from_folders(pairs(self.images, self.masks), target)
        lessons = tuple(FewShot(self.few_shot or "", structure_key(s), self.few_shot_seconds) for s in _names(self.left_out))
        plan = Plan(self.split, self.limit or Plan.test, self.swept, lessons, _names(self.others))
        with self.reporting() as progress, tempfile.TemporaryDirectory() as scratch:
            claims = measure_claims(dataset, models, plan, Path(scratch), real, progress)
        page = self.out if self.out.suffix == ".md" else self.out / "claims.md"
        write_claims(claims, page, card_of(models[MODEL]), "chexanatomy " + shlex.join(_without_folders(sys.argv[1:])))
        self.say(f"{page}: the four claims, as far as they were measured")
        return 0

    def _on_dataset(self, folder: Path, targets: list[str] | None) -> Any:
        from training.dataset import Dataset
        from training.evaluate import MeanMask, chosen, compare, from_dataset

        dataset = Dataset.open(folder)
        cases = chosen(dataset, self.split, self.limit)
        models = self._models()
        targets = targets or list(models[self.model].card.get("structures", ())) or None
        self._doubt(dataset, cases, targets)
        mean = None
        if any(case.split == "train" for case in dataset.cases):
            mean = MeanMask(from_dataset(dataset, chosen(dataset, "train", BASELINE_CASES), targets))
        with self.reporting() as progress:
            data = f"{folder.name} ({self.split})"
            own = self.split in ("train", "all")
            return compare(models, from_dataset(dataset, cases, targets), data, mean, progress, len(cases), leave_one_out=own)

    def _doubt(self, dataset: Dataset, cases: Sequence[Case], targets: Sequence[str] | None) -> None:
        """Say that lungs count as drawn on imported pictures that do not tell where they come from."""
        from training.dataset.case import IMPORTED
        from training.evaluate.sources import parts
        from training.model.convention import AS_DRAWN

        lungs = targets is None or any(part in AS_DRAWN for target in targets for part in parts(target))
        if self.lungs != "drawn" or not lungs:
            return
        if any(case.provenance == IMPORTED and not dataset.image(case).reconstructed for case in cases):
            self.warn(
                f"Imported radiographs of {dataset.folder.name} do not say that they were reckoned from CTs: their lungs are "
                "taken as readers draw them; give --lungs projected if they were."
            )

    def _on_folders(self, images: Path, masks: Path, target: str) -> Any:
        from training.evaluate import MeanMask, compare, from_folders, pairs

        files = pairs(images, masks, self.limit)
        mean = MeanMask(from_folders(files, target)) if len(files) > 1 else None
        models = self._models()
        with self.reporting() as progress:
            return compare(models, from_folders(files, target), images.name, mean, progress, len(files), leave_one_out=True)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(listed(text)) if text else ()


def _without_folders(arguments: Sequence[str]) -> list[str]:
    """The command as anybody may type it: paths by their last part."""
    return [Path(a).name if "/" in a else a for a in arguments]
