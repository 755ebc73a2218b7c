"""A handful of drawn thoraces as a data set, and a random codebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.dataset import Case, Dataset
from training.fit import PretrainConfig, Tasks
from training.fit.queries import Asker
from training.fit.records import Records, load_records
from training.fit.targets import Moved
from training.images import Radiograph
from training.model.packing import Segments
from training.model.special import SpecialTokens
from training.tokens.codebook import MaskCodebook
from training.tokens.tokenizer import build_tokenizer

SIDE = 64
STRUCTURES = ("lung_left", "lung_right", "heart", "humerus_left")
SHAPES = {"lung_right": (0.45, 0.3, 0.3, 0.13), "lung_left": (0.45, 0.7, 0.3, 0.13), "heart": (0.6, 0.55, 0.14, 0.15)}


def thorax(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A radiograph float32 [row, column] and its masks."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    dy, dx = rng.normal(0, 0.04, 2)
    masks = {name: ((y - cy - dy) / ry) ** 2 + ((x - cx - dx) / rx) ** 2 < 1 for name, (cy, cx, ry, rx) in SHAPES.items()}
    pixels = 0.6 - 0.4 * (masks["lung_right"] | masks["lung_left"]) + 0.3 * masks["heart"] + rng.normal(0, 0.02, (SIDE, SIDE))
    return np.clip(pixels, 0, 1).astype(np.float32), masks


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 cases of 12 subjects; the humerus is known to be absent."""
    folder = tmp_path_factory.mktemp("data") / "set"
    made = Dataset.create(folder)
    rng = np.random.default_rng(0)
    for i in range(24):
        pixels, masks = thorax(rng)
        view = ("PA", "AP")[i % 2]
        name = f"case{i:02d}"
        made.add(
            Case(
                name, f"subject{i % 12}", view, None, f"images/{name}.png", tuple(masks), ("humerus_left",), (), "drawn", i, "0"
            ),
            Radiograph(pixels),
            masks,
        )
    return folder


@pytest.fixture(scope="session")
def codebook_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random mask codebook whose decoder draws the whole box, whatever the codes: what is learnt then shows in the boxes."""
    path = tmp_path_factory.mktemp("codebook") / "codebook.safetensors"
    torch.manual_seed(0)
    codebook = MaskCodebook()
    codebook.embedding.copy_(torch.randn_like(codebook.embedding) * 0.1)
    last = codebook.decoder[-1]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.ones_(last.bias)
    codebook.save(path)
    return path


@pytest.fixture(scope="module")
def records(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Its training cases, decoded."""
    return load_records([dataset], "train", STRUCTURES, 64, tmp_path_factory.mktemp("cache"), workers=1)


TINY: dict[str, Any] = {
    "structures": STRUCTURES,
    "image_size": 64,
    "vision_width": 32,
    "vision_depth": 2,
    "text_width": 32,
    "text_depth": 2,
    "text_hidden": 64,
    "images": 4,
    "queries": 4,
    "workers": 1,
    "log_steps": 5,
    "validate_images": 2,
    "cache_size": 64,
}


@pytest.fixture
def config(dataset: Path, codebook_file: Path, tmp_path: Path) -> PretrainConfig:
    return PretrainConfig((dataset,), tmp_path / "run", codebook_file, max_steps=8, **TINY)


@pytest.fixture(scope="module")
def tokens() -> SpecialTokens:
    return SpecialTokens(build_tokenizer())


def asker_for(records: Records, config: PretrainConfig, tokens: SpecialTokens, tasks: Tasks | None = None) -> Asker:
    return Asker(records, tokens, tasks or config.tasks)


def questions(
    asker: Asker, config: PretrainConfig, moved: Moved, count: int, seed: int, pixels: torch.Tensor | None = None
) -> tuple[Segments, torch.Tensor]:
    assert config.codebook
    asked = asker.ask(moved, count, np.random.default_rng(seed))
    crops = asked.masks.drawn()[0]
    if pixels is not None:
        asked.mark(pixels, crops)
    return asked.answers(crops, MaskCodebook.load(config.codebook), asker.tokens.seg)
