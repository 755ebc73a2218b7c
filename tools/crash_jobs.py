"""The jobs that tools/crashes.py kills: what each writes, what it says is committed, and how that is checked afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

# A process that is forked while OpenMP's threads run does not come through: one thread everywhere.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

STRUCTURES = ("lung_left", "lung_right", "heart", "humerus_left")
TINY = {"image_size": 64, "vision_width": 32, "vision_depth": 2, "text_width": 32, "text_depth": 2, "text_hidden": 64}
SIDE = 64


class Broken(Exception):
    """Something that was committed is gone or torn."""


def require(condition: object, what: str) -> None:
    """Raise Broken unless the condition holds."""
    if not condition:
        raise Broken(what)


class Job(ABC):
    """One kind of work: how it runs, and what must hold whenever it was stopped."""

    name = ""

    def __init__(self, folder: Path) -> None:
        """Work below `folder`; inputs are made in `folder`/in once, outputs lie in `folder`/out."""
        self.inputs, self.out = folder / "in", folder / "out"
        self.step = 0
        self.inputs.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def prepare(self) -> None:
        """Make the inputs; called in a child process."""

    @abstractmethod
    def work(self, told: Callable[[str], None]) -> None:
        """Do the work, from wherever it stands. told: say that something is committed."""

    @abstractmethod
    def check(self, told: set[str]) -> int:
        """Raise Broken where something committed is lost or torn; return how many things are committed."""

    @abstractmethod
    def finished(self) -> None:
        """Check the result of a run that ended by itself. Raises Broken."""

    def anew(self) -> None:
        """Begin again with nothing."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.step = 0


def thoraces(folder: Path, count: int) -> None:
    """Write a small data set of drawn thoraces."""
    from training.dataset import Case, Dataset
    from training.images import Radiograph

    shapes = {"lung_right": (0.45, 0.3, 0.3, 0.13), "lung_left": (0.45, 0.7, 0.3, 0.13), "heart": (0.6, 0.55, 0.14, 0.15)}
    made, rng = Dataset.create(folder), np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for i in range(count):
        dy, dx = rng.normal(0, 0.04, 2)
        masks = {name: ((y - cy - dy) / ry) ** 2 + ((x - cx - dx) / rx) ** 2 < 1 for name, (cy, cx, ry, rx) in shapes.items()}
        pixels = np.clip(0.6 + 0.3 * masks["heart"] + rng.normal(0, 0.02, (SIDE, SIDE)), 0, 1).astype(np.float32)
        name = f"case{i:03d}"
        case = Case(name, f"s{i % 12}", "PA", None, f"images/{name}.png", tuple(masks), ("humerus_left",), (), "drawn", i, "0")
        made.add(case, Radiograph(pixels), masks)


def base_model(folder: Path) -> None:
    """Write a very small model that has learnt nothing."""
    from training.model.checkpoint import create, save_checkpoint
    from training.tokens.codebook import MaskCodebook
    from training.tokens.tokenizer import build_tokenizer

    codebook = MaskCodebook(widths=(4, 8, 8, 8), code_width=8)
    codebook.save(folder.parent / "codebook.safetensors")
    save_checkpoint(create(build_tokenizer(), codebook.eval(), **TINY), folder)


def whole_tensors(path: Path) -> dict[str, str]:
    """Read every tensor of a safetensors file; return its metadata. Raises Broken."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            for key in file.keys():  # noqa: SIM118 - it is no dictionary
                file.get_tensor(key)
            return file.metadata() or {}
    except Exception as error:
        raise Broken(f"{path.name} is torn: {error}") from error


class Synthesize(Job):
    """`chexanatomy synthesize`: cases on disk stay as they are, the rest is made."""

    name = "synthesize"
    VIEWS = 14

    def arguments(self, out: Path) -> list[str]:
        """Return the command."""
        sizes = ("--views-per-subject", str(self.VIEWS), "--views-per-body", "7", "--size", "64", "--grid", "6")
        return ["synthesize", "--phantoms", "1", *sizes, "--out", str(out), "--progress", "none"]

    def prepare(self) -> None:
        """Make the data set once without a stop, to compare with."""
        command(self.arguments(self.inputs / "whole"))

    def work(self, told: Callable[[str], None]) -> None:
        """Go on with the data set."""
        command(self.arguments(self.out))

    def check(self, told: set[str]) -> int:
        """Every case that has a line has its picture and masks, the same as without a stop."""
        from training.dataset import Dataset

        if not (self.out / "cases.jsonl").exists():
            return 0
        made, whole = Dataset.open(self.out), Dataset.open(self.inputs / "whole")
        require(made.cases == whole.cases[: len(made.cases)], "cases differ from those of a run without a stop")
        for case in made.cases:
            for file in (case.image, f"masks/{case.id}.json"):
                require((self.out / file).read_bytes() == (whole.folder / file).read_bytes(), f"{file} is not what it should be")
        return len(made.cases)

    def finished(self) -> None:
        """All cases, and no leavings."""
        require(self.check(set()) == self.VIEWS, "cases are missing at the end")
        left = [p.name for p in self.out.rglob("*") if ".part" in p.name or p.name.startswith(".writing-")]
        require(not left, f"leavings: {left}")


class Train(Job):
    """`train`: the state and the checkpoint are whole, and no saved step is lost."""

    name = "train"
    STEPS = 20

    def prepare(self) -> None:
        """Make data and codebook."""
        thoraces(self.inputs / "data", 24)
        base_model(self.inputs / "model")

    def work(self, told: Callable[[str], None]) -> None:
        """Train on, saving every half second or so."""
        from training.fit import PretrainConfig, pretrain

        sizes = {"images": 2, "queries": 3, "workers": 1, "log_steps": 2, "validate_images": 2, "cache_size": SIDE}
        settings: dict[str, Any] = {"structures": STRUCTURES, "save_minutes": 0.004, **TINY, **sizes}
        codebook = self.inputs / "codebook.safetensors"
        pretrain(PretrainConfig((self.inputs / "data",), self.out, codebook, max_steps=self.STEPS, **settings))

    def check(self, told: set[str]) -> int:
        """The newest state opens, is not older than one seen before, and so does the checkpoint."""
        from training.folders import recover_folder

        state = self.out / "state.safetensors"
        if not state.exists():
            require(self.step == 0, "the saved state is gone")
            return 0
        step = int(whole_tensors(state)["step"])
        require(step >= self.step, f"step {step} after step {self.step} had been saved")
        self.step = step
        recover_folder(self.out / "checkpoint")
        if (self.out / "checkpoint").exists():
            whole_checkpoint(self.out / "checkpoint")
        lines = (self.out / "log.jsonl").read_bytes().split(b"\n")[:-1]
        for line in lines:
            json.loads(line)
        return step

    def finished(self) -> None:
        """All steps taken, and the model opens."""
        require(self.check(set()) == self.STEPS, "the run ended before its last step")


def whole_checkpoint(folder: Path) -> None:
    """Read a checkpoint or adapter folder completely. Raises Broken."""
    weights = [p for p in folder.iterdir() if p.suffix == ".safetensors"]
    require(weights, f"{folder.name} has no weights")
    for path in weights:
        whole_tensors(path)
    for path in folder.glob("*.json"):
        require(isinstance(json.loads(path.read_text(encoding="utf-8")), dict), f"{path.name} is torn")
    require((folder / "chexanatomy.json").exists(), f"{folder.name} has no card")


class Adapt(Job):
    """`adapt`: an adapter that was there stays until the new one is whole."""

    name = "adapt"

    def prepare(self) -> None:
        """Make a model and a first adapter."""
        base_model(self.inputs / "model")

    def work(self, told: Callable[[str], None]) -> None:
        """Teach an ellipse, twice over the same folder."""
        from training.fit import AdaptSettings, Augmentation, Example, adapt
        from training.images import Radiograph

        y, x = np.mgrid[:SIDE, :SIDE]
        mask = (y - 30) ** 2 / 400 + (x - 34) ** 2 / 200 < 1
        rng = np.random.default_rng(0)
        pictures = [(0.4 * mask + rng.random((SIDE, SIDE)) * 0.3).astype(np.float32) for _ in range(2)]
        examples = [Example(Radiograph(p), mask, name=str(i)) for i, p in enumerate(pictures)]
        settings = AdaptSettings(seconds=300, steps=2, views=2, rehearsal=0, augmentation=Augmentation.none())
        for _ in range(3):
            adapt(self.inputs / "model", examples, "a blob", self.out / "adapter", settings)
            told("adapter")

    def check(self, told: set[str]) -> int:
        """An adapter that was told of is there, and what is there is whole."""
        from training.folders import recover_folder

        recover_folder(self.out / "adapter")
        if not (self.out / "adapter").exists():
            require("adapter" not in told, "a finished adapter is gone")
            return 0
        whole_checkpoint(self.out / "adapter")
        return 1

    def finished(self) -> None:
        """The adapter opens on its model."""
        require(self.check({"adapter"}) == 1, "no adapter")
        left = [p.name for p in self.out.iterdir() if p.name != "adapter"]
        require(not left, f"leavings: {left}")


class Replace(Adapt):
    """Nothing but the last step of `adapt`, again and again: a finished adapter takes the place of the one before."""

    name = "replace"
    TIMES = 150

    def prepare(self) -> None:
        """Learn an adapter."""
        super().prepare()
        super().work(lambda _: None)
        self.out.rename(self.inputs / "learnt")

    def work(self, told: Callable[[str], None]) -> None:
        """Write it with a number in its card, which says how new it is."""
        from peft import LoraConfig
        from safetensors.torch import load_file

        from training.fit.lora import write_adapter
        from training.folders import replacing_folder

        learnt = self.inputs / "learnt" / "adapter"
        weights, card = load_file(learnt / "adapter_model.safetensors"), json.loads((learnt / "chexanatomy.json").read_text())
        for number in range(self._number() + 1, self.TIMES + 1):
            with replacing_folder(self.out / "adapter") as partial:
                write_adapter(partial, weights, LoraConfig.from_pretrained(str(learnt)), card["base"], {**card, "number": number})
            told(str(number))

    def check(self, told: set[str]) -> int:
        """What is there is whole, and no older than what was told of."""
        found = super().check({"adapter"} if told else set())
        newest = max((int(word) for word in told if word.isdigit()), default=0)
        require(self._number() >= newest, "an older adapter is there than was finished")
        return found

    def _number(self) -> int:
        from training.folders import recover_folder

        recover_folder(self.out / "adapter")
        card = self.out / "adapter" / "chexanatomy.json"
        return int(json.loads(card.read_text())["number"]) if card.exists() else 0

    def finished(self) -> None:
        """The last one is there."""
        super().finished()
        require(self._number() == self.TIMES, "the last adapter is missing")


class Review(Job):
    """Review: every decision and repair that was answered for is in the file."""

    name = "review"
    CASES = 8

    def prepare(self) -> None:
        """Make a data set."""
        thoraces(self.inputs / "data", self.CASES)

    def work(self, told: Callable[[str], None]) -> None:
        """Decide and repair as fast as it goes, some hundred times."""
        from training.dataset import Reviews

        if not (self.out / "cases.jsonl").exists():
            shutil.copytree(self.inputs / "data", self.out, dirs_exist_ok=True)
        reviews = Reviews(self.out, "someone")
        first = len(reviews.all())
        mask = np.zeros((SIDE, SIDE), bool)
        for number in range(first, first + 300):
            case = f"case{number % self.CASES:03d}"
            if number % 3:
                reviews.decide(case, f"structure {number}", "accept")
            else:
                mask[number % SIDE, : number % SIDE + 1] ^= True
                reviews.correct(case, f"structure {number}", mask)
            told(f"{case}/structure {number}")

    def check(self, told: set[str]) -> int:
        """The database is sound and holds everything that was answered for."""
        import sqlite3

        from training.dataset import Dataset
        from training.images import from_rle

        if not (self.out / "reviews.sqlite").exists():
            require(not told, "the decisions are gone")
            return 0
        with contextlib.closing(sqlite3.connect(self.out / "reviews.sqlite")) as connection:
            require(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok", "the database is damaged")
        dataset = Dataset.open(self.out)
        held = {f"{d.case_id}/{d.structure}" for d in dataset.reviews.all()}
        require(told <= held, f"{len(told - held)} decisions are lost")
        for case in dataset.cases:
            for code in dataset.reviews.corrections(case.id).values():
                from_rle(code)
        return len(held)

    def finished(self) -> None:
        """As after every stop."""
        self.check(set())


class Export(Job):
    """`export` in all its forms: parts are whole, and the end is that of an export without a stop."""

    name = "export"
    FORMS = ("folders", "webdataset", "coco", "dicom")

    def arguments(self, out: Path, form: str) -> list[str]:
        """Return the command."""
        data = str(self.inputs / "data")
        return ["export", data, "--form", form, "--cases-per-shard", "5", "--out", str(out / form), "--progress", "none"]

    def prepare(self) -> None:
        """Make a data set and whole exports to compare with."""
        thoraces(self.inputs / "data", 16)
        for form in self.FORMS:
            command(self.arguments(self.inputs / "whole", form))

    def work(self, told: Callable[[str], None]) -> None:
        """Export in every form; what is finished is left alone."""
        for form in self.FORMS:
            if (
                not (self.out / form).exists()
                or (self.out / form / "unfinished-export.json").exists()
                or not any((self.out / form).iterdir())
            ):
                command(self.arguments(self.out, form))

    def check(self, told: set[str]) -> int:
        """Whatever has its final name is what it is without a stop."""
        whole, count = self.inputs / "whole", 0
        for path in sorted(self.out.rglob("*")):
            part = path.relative_to(self.out)
            hidden = any(p.startswith((".part-", ".writing-")) for p in part.parts)
            if hidden or path.is_dir() or path.name == "unfinished-export.json":
                continue
            count += 1
            require((whole / part).exists(), f"{part} should not be there")
            if path.suffix == ".tar":
                with tarfile.open(path) as one, tarfile.open(whole / part) as other:
                    require(one.getnames() == other.getnames(), f"{part} is torn")
            elif path.name == "masks.dcm":
                same_masks(path, whole / part)
            else:
                require(path.read_bytes() == (whole / part).read_bytes(), f"{part} is torn")
        return count

    def finished(self) -> None:
        """All files, and nothing else."""
        self.check(set())
        for form in self.FORMS:
            one, other = ({p.relative_to(f / form) for p in (f / form).rglob("*")} for f in (self.out, self.inputs / "whole"))
            require(one == other, f"{form}: {sorted(map(str, one ^ other))[:5]}")


def same_masks(path: Path, other: Path) -> None:
    """Raise Broken unless two DICOM segmentations hold the same masks; their own UIDs and times differ."""
    from training.images import read_masks_dicom

    one, two = read_masks_dicom(path).masks, read_masks_dicom(other).masks
    require(one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one), f"{path} is torn")


JOBS: dict[str, type[Job]] = {job.name: job for job in (Synthesize, Train, Adapt, Replace, Review, Export)}


def command(arguments: list[str]) -> None:
    """Run a command of the command line in this process. Raises OSError when it says that something is wrong."""
    from training.cli import main

    status = main(arguments)
    if status:
        raise OSError(f"exit status {status}")
