"""Which structures are better put together is measured, not assumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.dataset import Case, Dataset
from training.fit import PretrainConfig, parts
from training.fit.pupils import starting_point
from training.fit.records import Records, load_records
from training.images import Radiograph
from training.model.predictor import Finding

WHOLE, UPPER, LOWER = "lung_left", "lung_upper_lobe_left", "lung_lower_lobe_left"
SIDE = 64


@pytest.fixture
def lobes(tmp_path: Path) -> Records:
    """Eight lungs of two lobes, at other places each."""
    made = Dataset.create(tmp_path / "lobes")
    for i in range(8):
        masks = {name: np.zeros((SIDE, SIDE), bool) for name in (WHOLE, UPPER, LOWER)}
        masks[UPPER][8 + i : 24 + i, 20:40] = True
        masks[LOWER][24 + i : 44 + i, 20:40] = True
        masks[WHOLE] = masks[UPPER] | masks[LOWER]
        case = Case(f"case{i}", f"subject{i}", "PA", None, f"images/{i}.png", tuple(masks), (), (), "drawn", i, "0")
        made.add(case, Radiograph(0.2 + 0.6 * masks[WHOLE].astype(np.float32)), masks)
    return load_records([tmp_path / "lobes"], "all", (WHOLE, UPPER, LOWER), SIDE, tmp_path / "cache", workers=1)


class Reader:
    """Answers from the picture: a share of the rows of the whole lung, and the lobes as they are."""

    rows = 1.0

    def __init__(self, checkpoint: Any, device: str) -> None:
        assert checkpoint.card["in_parts"] == {}

    def segment(self, picture: Radiograph, asked: list[str]) -> list[Finding]:
        there = picture.pixels > 0.5
        row = np.flatnonzero(there.any(1))[:, None]
        index = np.arange(SIDE)[:, None]
        cut = {
            WHOLE: there & (index < row[0] + self.rows * len(row)),
            UPPER: there & (index < row[16]),
            LOWER: there & (index >= row[16]),
        }
        return [Finding(key, True, (0.0, 0.0, 1.0, 1.0), cut[key], 1.0, (), "") for key in asked]


@pytest.mark.parametrize(("rows", "better"), [(0.5, {WHOLE: [UPPER, LOWER]}), (1.0, {})])
def test_what_is_drawn_better_in_parts_is_found(
    config: PretrainConfig, lobes: Records, monkeypatch: pytest.MonkeyPatch, rows: float, better: dict[str, list[str]]
) -> None:
    monkeypatch.setattr(parts, "Predictor", Reader)
    monkeypatch.setattr(Reader, "rows", rows)
    checkpoint, _ = starting_point(config)
    assert parts.better_in_parts(checkpoint, lobes, 8) == better


def test_a_model_of_no_parts_has_nothing_to_put_together(config: PretrainConfig, records: Records) -> None:
    checkpoint, _ = starting_point(config)
    assert parts.better_in_parts(checkpoint, records, 4) == {}
