"""Claim 3: what a few labelled radiographs teach a model that knows other anatomy, one that knows nothing, and a U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.errors import ChexanatomyError
from training.evaluate.comparison import Segments
from training.evaluate.opening import open_model
from training.evaluate.sources import Split, chosen, from_dataset, spread
from training.evaluate.tables import Row, measure
from training.progress import ProgressCallback, report

if TYPE_CHECKING:
    from training.dataset import Case, Dataset
    from training.model import Predictor

SHOTS = (1, 3, 5, 10)
PRETRAINED, SCRATCH, UNET = "pretrained on other anatomy", "from scratch", "U-Net from scratch"


@dataclass(frozen=True)
class FewShot:
    """How claim 3 is measured. model: a run that was trained without `structure`; seconds: for each of the three learners; test:
    images to score on; codebook: for a model that brings none."""

    model: str
    structure: str
    seconds: float = 60.0
    test: int = 40
    codebook: Path | None = None


def few_shot(
    dataset: Dataset,
    plan: FewShot,
    scratch: Path,
    progress: ProgressCallback | None = None,
    split: Split = "test",
    shots: Sequence[int] = SHOTS,
) -> dict[int, list[Row]]:
    """Teach and score. Returns number of labelled images -> rows of the three models; the numbers end at the images there are.

    The labelled images are training cases of as many subjects as there are, none of whom is scored on. scratch: folder for what
    is trained on the way.
    """
    from training.fit import AdaptSettings, Example, PretrainConfig, adapt, pretrain
    from training.fit.lessons import FINER
    from training.model import load
    from training.model.unet import load_unet

    base = ignorant(plan)
    lessons, tests = lessons_and_tests(dataset, plan, split, max(shots))
    shots = list(dict.fromkeys(min(shot, len(lessons)) for shot in shots))
    results = {}
    for number, shot in enumerate(shots):
        report(progress, number, len(shots), f"Learning {plan.structure} from {shot}")
        few = lessons[:shot]
        examples = [
            Example(s.radiograph, s.references[plan.structure], False, s.id) for s in from_dataset(dataset, few, [plan.structure])
        ]
        folder = scratch / f"{plan.structure}-{shot}"
        learned = adapt(base, examples, plan.structure, folder / "adapter", AdaptSettings(seconds=plan.seconds, steps=100_000))
        small = _subset(dataset, few, folder / "data")
        book = folder / "codebook.safetensors"
        assert base.checkpoint.codebook is not None
        base.checkpoint.codebook.save(book)
        vision = base.model.config.vision_config
        # Small decoder and small U-Net: in so short a time larger ones learn less.
        shared = PretrainConfig(
            (small,), folder / "scratch", book, structures=(plan.structure,), max_minutes=plan.seconds / 60, workers=1,
            image_size=base.checkpoint.image_size, cache_size=round(FINER * base.checkpoint.image_size), patch=vision.patch_size,
            stem=bool(getattr(vision, "stem", False)), vision_width=vision.hidden_size, vision_depth=vision.num_hidden_layers,
            calibrate_images=0, queries=2,
        )  # fmt: skip
        alone = pretrain(shared)
        unet = pretrain(replace(shared, out=folder / "unet", unet=True))
        models: dict[str, Segments] = {PRETRAINED: load(str(learned.folder)), SCRATCH: load(alone), UNET: load_unet(unet)}
        results[shot] = measure(models, from_dataset(dataset, tests, [plan.structure]), f"Scoring after {shot}", progress)
    return results


def ignorant(plan: FewShot) -> Predictor:
    """The model of a plan. Raises ChexanatomyError for one that writes no tokens or was trained on the structure."""
    from training.model import Predictor

    base = open_model(plan.model, plan.codebook)
    if not isinstance(base, Predictor):
        raise ChexanatomyError(f"{plan.model} writes no tokens: name a model that does.")
    if plan.structure in base.card.get("structures", ()):
        raise ChexanatomyError(f"{plan.model} was trained on {plan.structure}: name one that was trained without it.")
    return base


def lessons_and_tests(dataset: Dataset, plan: FewShot, split: Split, most: int = max(SHOTS)) -> tuple[list[Case], list[Case]]:
    """Return up to `most` training cases to learn from, and cases of other subjects in `split` to score on.

    Raises ChexanatomyError when there are none of either.
    """
    showing = iter(_spread_over_subjects(_showing(dataset, "train", plan.structure)))
    lessons = list(islice((case for case in showing if plan.structure in dataset.encoded_masks(case)), most))
    taken = {case.subject for case in lessons}
    tests = [case for case in _showing(dataset, split, plan.structure) if case.subject not in taken]
    if not lessons or not tests:
        raise ChexanatomyError(
            f"Too few subjects show the whole of {plan.structure} to learn from some and score on others of the {split} split: "
            "choose another structure."
        )
    return lessons, spread(tests, plan.test)


def _showing(dataset: Dataset, split: Split, structure: str) -> list[Case]:
    cases = [case for case in chosen(dataset, split) if structure in case.present and structure not in case.cut_off]
    if not cases:
        raise ChexanatomyError(f"No case of the {split} split shows the whole of {structure}: choose another structure.")
    return cases


def _spread_over_subjects(cases: Sequence[Case]) -> list[Case]:
    """The cases in an order that begins with different subjects."""
    by_subject: dict[str, list[Case]] = {}
    for case in cases:
        by_subject.setdefault(case.subject, []).append(case)
    rng = np.random.default_rng(0)
    order = [list(by_subject.values())[i] for i in rng.permutation(len(by_subject))]
    rounds = max(map(len, order))
    return [own[n] for n in range(rounds) for own in order if n < len(own)]


def _subset(dataset: Dataset, cases: Sequence[Case], folder: Path) -> Path:
    """A data set of these cases alone."""
    from training.dataset import Dataset as Stored

    if not folder.exists():
        small = Stored.create(folder)
        for case in cases:
            small.add(case, dataset.image(case), dataset.masks(case))
    return folder
