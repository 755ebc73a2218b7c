"""Data sets as training keeps them: decoded once, and again when a reviewer changes something."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.training.fit.conftest import STRUCTURES
from training.dataset import Dataset, Reviews
from training.errors import BrokenDataset, Cancelled
from training.fit import Augmentation
from training.fit.placement import place
from training.fit.records import ABSENT, PRESENT, UNKNOWN, Records, load_records
from training.fit.targets import Moved
from training.progress import Progress


def test_records_hold_boxes_masks_and_what_is_absent(dataset: Path, records: Records) -> None:
    assert (records.state[:, :3] == PRESENT).all()
    assert (records.state[:, 3] == ABSENT).all()
    opened = Dataset.open(dataset)
    case = next(c for c in opened.cases if c.id == str(records.ids[0]))
    mask = opened.masks(case, ["heart"])["heart"]
    rows, columns = np.nonzero(mask)
    edges = [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    assert np.allclose(records.boxes[0, 2] * 64, edges, atol=1e-4)
    still = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
    assert np.array_equal(still.dense(np.array([2]), 64)[0, 0].numpy() > 0.5, mask)


def test_a_cache_is_read_again_and_follows_its_settings(dataset: Path, records: Records, tmp_path: Path) -> None:
    first = load_records([dataset], "train", STRUCTURES, 64, tmp_path, workers=1)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    again = load_records([dataset], "train", STRUCTURES, 64, tmp_path, workers=1)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert np.array_equal(again.images[[1, 0]], first.images[[1, 0]])
    load_records([dataset], "train", STRUCTURES[:2], 64, tmp_path, workers=1)
    assert len(list(tmp_path.glob("train-*"))) == 2


def test_runs_that_share_a_cache_wait_for_each_other(dataset: Path, records: Records, tmp_path: Path) -> None:
    said: list[str] = []

    def cancel(progress: Progress) -> None:
        said.append(progress.text)
        raise Cancelled

    with FileLock(tmp_path / ".lock"), pytest.raises(Cancelled):
        load_records([dataset], "train", STRUCTURES, 64, tmp_path, workers=1, progress=cancel)
    assert said == ["Waiting for another run that reads the data set"]
    assert not list(tmp_path.glob("train-*"))
    with ThreadPoolExecutor(2) as both:
        first, second = both.map(lambda _: load_records([dataset], "train", STRUCTURES, 64, tmp_path, workers=1), range(2))
    for one in (first, second):
        assert np.array_equal(one.masks, records.masks)
        assert np.array_equal(one.images[[0]], records.images[[0]])


def test_several_data_sets_stand_behind_one_another(dataset: Path, records: Records, tmp_path: Path) -> None:
    twice = load_records([dataset, dataset], "train", STRUCTURES, 64, tmp_path, workers=1)
    n = len(records)
    assert len(twice) == 2 * n
    assert np.array_equal(twice.images[[n, 1]], records.images[[0, 1]])
    assert np.array_equal(
        twice.only(np.array([n + 1])).crops(np.array([0]), np.array([2])), records.crops(np.array([1]), np.array([2]))
    )


def test_rejected_masks_are_not_trained_on(dataset: Path, tmp_path: Path) -> None:
    copied = tmp_path / "reviewed"
    shutil.copytree(dataset, copied)
    case = next(c for c in Dataset.open(copied).cases if c.split == "train")
    reviews = Reviews(copied, "reviewer")
    reviews.decide(case.id, "heart", "reject")
    records = load_records([copied], "train", STRUCTURES, 64, tmp_path / "cache", workers=1)
    row = list(records.ids).index(case.id)
    assert records.state[row].tolist() == [PRESENT, PRESENT, UNKNOWN, ABSENT]


def test_a_case_rejected_as_a_whole_is_left_out(dataset: Path, records: Records, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "data")
    rejected = str(records.ids[1])
    Reviews(tmp_path / "data", "someone").decide(rejected, "", "reject")
    left = load_records([tmp_path / "data"], "train", STRUCTURES, 64, tmp_path, workers=1)
    assert list(left.ids) == [name for name in records.ids if name != rejected]
    assert np.array_equal(left.images[[1]], records.images[[2]])
    for name in left.ids:
        Reviews(tmp_path / "data", "someone").decide(str(name), "", "reject")
    with pytest.raises(BrokenDataset, match="No case of the train split"):
        load_records([tmp_path / "data"], "train", STRUCTURES, 64, tmp_path, workers=1)


def test_a_mask_that_is_repaired_later_is_learnt_from_as_it_is_now(dataset: Path, tmp_path: Path) -> None:
    copied = tmp_path / "data"
    shutil.copytree(dataset, copied)
    case = next(c for c in Dataset.open(copied).cases if c.split == "train")
    before = load_records([copied], "train", STRUCTURES, 64, tmp_path / "cache", workers=1)
    row, heart = list(before.ids).index(case.id), STRUCTURES.index("heart")
    repaired = np.zeros_like(Dataset.open(copied).masks(case, ["heart"])["heart"])
    repaired[:4, :6] = True
    Reviews(copied, "reviewer").correct(case.id, "heart", repaired)
    after = load_records([copied], "train", STRUCTURES, 64, tmp_path / "cache", workers=1)
    assert not np.array_equal(before.boxes[row, heart], after.boxes[row, heart])
    assert np.array_equal(before.boxes[row, 0], after.boxes[row, 0])
    moved = copied.rename(tmp_path / "elsewhere")
    (tmp_path / "there").mkdir()
    again = load_records([moved.rename(tmp_path / "there" / "data")], "train", STRUCTURES, 64, tmp_path / "cache", workers=1)
    assert np.array_equal(again.boxes, after.boxes)
    assert len(list((tmp_path / "cache").glob("train-*"))) == 2
