"""The jobs that tools/crashes.py kills: what each writes, what it says is committed, and how that is checked afterwards."""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from crash_adapters import Adapt, Replace
from crash_job import SIDE, STRUCTURES, TINY, Job, base_model, require, thoraces, whole_checkpoint, whole_tensors


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
