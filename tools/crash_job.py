"""What the jobs of tools/crashes.py have in common: the frame of a job, and the inputs and checks that several need."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

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


def whole_checkpoint(folder: Path) -> None:
    """Read a checkpoint or adapter folder completely. Raises Broken."""
    weights = [p for p in folder.iterdir() if p.suffix == ".safetensors"]
    require(weights, f"{folder.name} has no weights")
    for path in weights:
        whole_tensors(path)
    for path in folder.glob("*.json"):
        require(isinstance(json.loads(path.read_text(encoding="utf-8")), dict), f"{path.name} is torn")
    require((folder / "chexanatomy.json").exists(), f"{folder.name} has no card")
