"""The fuzzers' targets on their seeds, on what fuzzing found, and on a second of plain mutations."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS, seeds

FINDINGS = Path(__file__).with_name("findings")
MUTATIONS = 40


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_mutations_of_them_are_survived(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    good = seeds(name, tmp_path)
    for data in good:
        TARGETS[name](data)
    for _ in range(MUTATIONS):
        data = bytearray(rng.choice(good))
        for _ in range(rng.randrange(1, 5)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        TARGETS[name](bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("path", sorted(FINDINGS.iterdir()), ids=lambda path: path.stem)
def test_what_fuzzing_found_is_survived(path: Path) -> None:
    TARGETS[path.name.split("-")[0]](path.read_bytes())
