"""`evaluate`: how well a model's masks agree with references."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.cli.console import Command, Lungs, among, listed, structure_key
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from training.dataset import Case, Dataset
    from training.evaluate import MeanMask, Scored

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
    accurate: bool = False
    """Score the accurate answers of --model, as `predict --accurate` gives them, in four to seven times the time."""
    limit: int | None = None
    """Score at most this many images, evenly spread."""
    claims: bool = False
    """Measure the four claims of the paper instead and write them to --out, a page such as docs/claims.md. Takes --dataset,
    --model, --baseline (a U-Net's run) and, for real radiographs, --images, --masks and --structures, all three."""
    few_shot: str | None = None
    """For claim 3: a run that was trained without the structures of --left-out."""
    left_out: str | None = None
    """For claim 3: structures separated by commas."""
    few_shot_seconds: float = 60.0
    """For claim 3: learning time of each model for each number of images."""
    others: str | None = None
    """For claim 4: runs separated by commas, of other sizes or settings."""
    swept: int = 12
    """For claim 2: images for each strength of each shift; 0 for none."""

    def run(self) -> int:
        """Load, score, write the report."""
        from training.evaluate import write_report

        if self.claims and self.accurate:
            raise ChexanatomyError("The claims are about plain answers: leave --accurate out, or score with it without --claims.")
        if self.claims:
            return self._claims()
        if unused := [f"--{name.replace('_', '-')}" for name in _FOR_CLAIMS if getattr(self, name) != getattr(Evaluate, name)]:
            raise ChexanatomyError(f"Only --claims looks at {', '.join(unused)}: give --claims as well, or leave that out.")
        targets = self._targets()
        if self.dataset is not None and not (self.images or self.masks):
            result = self._on_dataset(self.dataset, targets)
        elif self.dataset is None and self.images and self.masks:
            result = self._on_folders(self.images, self.masks, _only_one(targets))
        else:
            raise ChexanatomyError("Give either --dataset, or --images and --masks.")
        write_report(result, self.out)
        for model in result.models:
            self.say(f"{model.model}: mean Dice {model.mean_dice:.3f} over {sum(s.n > 0 for s in model.structures)} structures")
        self.say(f"{self.out}: report.md and report.json on {result.n_images} images of {result.n_subjects} subjects")
        return 0

    def _targets(self) -> list[str]:
        if not self.structures:
            return []
        return ["+".join(structure_key(part.strip()) for part in target.split("+")) for target in listed(self.structures)]

    def _models(self, targets: Sequence[str]) -> dict[str, Any]:
        """The models by their specs. Raises UnknownStructure for a target that nobody knows; warns of what one was not taught."""
        from training.evaluate.common import untaught
        from training.evaluate.opening import open_model

        specs = list(dict.fromkeys([self.model, *([self.baseline] if self.baseline else [])]))
        models = {spec: self._asked(open_model(spec, self.codebook), spec == self.model) for spec in specs}
        names = _parts(targets)
        models[self.model].untaught(names)
        for spec, model in models.items():
            self.warn_of_untaught(spec, untaught(model, names))
        return models

    def _asked(self, model: Any, chosen: bool) -> Any:
        """As it is to be scored. chosen: it is --model."""
        from training.evaluate.opening import Accurate
        from training.model.convention import AsDrawn

        model = Accurate(model) if self.accurate and chosen else model
        return AsDrawn(model) if self.lungs == "drawn" else model

    def _claims(self) -> int:
        import shlex
        import sys
        import tempfile

        from training.dataset import Dataset
        from training.evaluate import chosen, from_folders, pairs
        from training.evaluate.claims import BASELINE, MEAN, MODEL, Plan, measure_claims
        from training.evaluate.claims_page import figures_of, write_claims
        from training.evaluate.comparison import Segments
        from training.evaluate.fewshot import FewShot
        from training.evaluate.opening import card_of

        if self.dataset is None:
            raise ChexanatomyError("The claims are measured on a data set; give --dataset.")
        if bool(self.few_shot) != bool(self.left_out):
            raise ChexanatomyError("Claim 3 needs both --few-shot, a run, and --left-out, the structures it was trained without.")
        if (self.images or self.masks or self.structures) and not (self.images and self.masks and self.structures):
            raise ChexanatomyError(
                "Real radiographs need all three: --images, --masks, and --structures for what the masks show."
            )
        dataset = Dataset.open(self.dataset)
        targets = self._targets()
        # Whatever is wrong with a file or a name is said before anything is measured, not an hour later.
        real: Iterable[Scored] = ()
        if self.images and self.masks:
            files, target = pairs(self.images, self.masks, self.limit), _only_one(targets)
            for _ in from_folders(files, target):
                pass
            real = from_folders(files, target)
        limit = Plan.test if self.limit is None else self.limit
        for number in (limit, self.swept or limit):
            chosen(dataset, self.split, number)
        left_out = [structure_key(name) for name in _names(self.left_out)]
        among(left_out, _mentioned(chosen(dataset, "train")) if left_out else (), dataset.folder.name)
        opened = self._models(targets)
        models: dict[str, Segments] = {MODEL: opened[self.model]}
        if self.baseline:
            models[BASELINE] = opened[self.baseline]
        if mean := _mean_mask(dataset):
            models[MEAN] = mean
        lessons = tuple(FewShot(self.few_shot or "", s, self.few_shot_seconds, codebook=self.codebook) for s in left_out)
        plan = Plan(self.split, limit, self.swept, lessons, _names(self.others), self.codebook)
        page = self.out if self.out.suffix == ".md" else self.out / "claims.md"
        figures_of(page).mkdir(parents=True, exist_ok=True)
        with self.reporting() as progress, tempfile.TemporaryDirectory() as scratch:
            claims = measure_claims(dataset, models, plan, Path(scratch), real, progress)
        write_claims(claims, page, card_of(models[MODEL]), "chexanatomy " + shlex.join(_without_folders(sys.argv[1:])))
        self.say(f"{page}: the four claims, as far as they were measured")
        return 0

    def _on_dataset(self, folder: Path, targets: list[str]) -> Any:
        from training.dataset import Dataset
        from training.evaluate import chosen, from_dataset

        dataset = Dataset.open(folder)
        cases = chosen(dataset, self.split, self.limit)
        data = f"{folder.name} ({self.split})"
        among(_parts(targets), _mentioned(chosen(dataset, self.split)), data)
        models = self._models(targets)
        targets = targets or list(models[self.model].card.get("structures", ()))
        self._doubt(dataset, cases, targets)
        mean = _mean_mask(dataset, targets)
        return self._compare(
            models, from_dataset(dataset, cases, targets), data, mean, len(cases), self.split in ("train", "all")
        )

    def _doubt(self, dataset: Dataset, cases: Sequence[Case], targets: Sequence[str]) -> None:
        """Say that lungs count as drawn on imported pictures that do not tell where they come from."""
        from training.dataset.case import IMPORTED
        from training.model.convention import AS_DRAWN

        if self.lungs != "drawn" or AS_DRAWN.keys().isdisjoint(_parts(targets)):
            return
        if any(case.provenance == IMPORTED and not dataset.image(case).reconstructed for case in cases):
            self.warn(
                f"Imported radiographs of {dataset.folder.name} do not say that they were reckoned from CTs: their lungs are "
                "taken as readers draw them; give --lungs projected if they were."
            )

    def _on_folders(self, images: Path, masks: Path, target: str) -> Any:
        from training.evaluate import MeanMask, from_folders, pairs

        files = pairs(images, masks, self.limit)
        models = self._models([target])
        mean = MeanMask(from_folders(files, target)) if len(files) > 1 else None
        return self._compare(models, from_folders(files, target), images.name, mean, len(files), own=True)

    def _compare(
        self, models: dict[str, Any], images: Iterable[Scored], data: str, mean: MeanMask | None, total: int, own: bool
    ) -> Any:
        """own: the mean mask was made from these images."""
        from training.evaluate import compare

        named = {f"{spec} (accurate)" if self.accurate and spec == self.model else spec: m for spec, m in models.items()}
        self.out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is said before the scoring
        with self.reporting() as progress:
            return compare(named, images, data, mean, progress, total, leave_one_out=own)


_PIECES = re.compile(r"(^--[\w-]+=|[,+])")
_FOR_CLAIMS = ("few_shot", "left_out", "few_shot_seconds", "others", "swept")


def _parts(targets: Iterable[str]) -> list[str]:
    from training.evaluate.sources import parts

    return list(dict.fromkeys(part for target in targets for part in parts(target)))


def _only_one(targets: Sequence[str]) -> str:
    if len(targets) != 1:
        raise ChexanatomyError("Say with --structures which one the masks show; A+B is the union of A and B.")
    return targets[0]


def _mentioned(cases: Iterable[Case]) -> set[str]:
    return {name for case in cases for name in (*case.present, *case.absent)}


def _mean_mask(dataset: Dataset, targets: Sequence[str] = ()) -> MeanMask | None:
    """The mean mask of the training cases that review left in, if there are any."""
    from training.evaluate import MeanMask, chosen, from_dataset

    if not any(case.split == "train" for case in dataset.kept()):
        return None
    return MeanMask(from_dataset(dataset, chosen(dataset, "train", BASELINE_CASES), targets))


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(listed(text)) if text else ()


def _without_folders(arguments: Sequence[str]) -> list[str]:
    """The command as anybody may type it: paths by their last part, also in lists of them and in BASE+ADAPTER."""
    return ["".join(Path(part).name if "/" in part else part for part in _PIECES.split(a)) for a in arguments]
