from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.dataset import Case, Dataset
from training.errors import ChexanatomyError
from training.evaluate import chosen, from_dataset, from_folders, pairs
from training.images import Radiograph

SIZE = (20, 30)


def block(columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:15, columns] = True
    return mask


RIGHT, LEFT = block(slice(2, 10)), block(slice(18, 28))


def subject_in(split: str) -> str:
    for number in range(1000):
        name = f"subject-{number}"
        if Case(name, name, "PA", None, "x", (), (), (), "", 0, "").split == split:
            return name
    raise AssertionError(split)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    made = Dataset.create(tmp_path / "data")
    for split, count in (("train", 4), ("test", 2)):
        subject = subject_in(split)
        for number in range(count):
            id_ = f"{split}-{number}"
            present, absent = ("lung_left", "lung_right"), ("spleen",)
            case = Case(id_, subject, "PA", None, f"images/{id_}.png", present, absent, (), "made up", 0, "0")
            made.add(case, Radiograph(np.zeros(SIZE, np.float32)), {"lung_left": LEFT, "lung_right": RIGHT})
    return made


def test_a_case_comes_with_what_it_shows_and_what_it_says_is_absent(dataset: Dataset) -> None:
    first, second = from_dataset(dataset, chosen(dataset, "test"))
    assert [first.id, second.id] == ["test-0", "test-1"]
    assert first.radiograph.view == "PA"
    assert set(first.references) == {"lung_left", "lung_right", "spleen"}
    np.testing.assert_array_equal(first.references["lung_left"], LEFT)
    assert not first.references["spleen"].any()


def test_a_union_is_the_union_and_unmentioned_structures_are_not_scored(dataset: Dataset) -> None:
    scored = next(from_dataset(dataset, chosen(dataset, "test"), ["lung_left+lung_right", "heart", "lung_left+heart"]))
    assert list(scored.references) == ["lung_left+lung_right"]
    np.testing.assert_array_equal(scored.references["lung_left+lung_right"], LEFT | RIGHT)


def test_what_a_reviewer_rejected_is_left_out(dataset: Dataset) -> None:
    dataset.reviews.decide("test-0", "lung_left", "reject")
    dataset.reviews.decide("test-1", "", "reject")
    (only,) = from_dataset(dataset, chosen(dataset, "test"))
    assert set(only.references) == {"lung_right", "spleen"}


def test_a_limit_takes_cases_from_the_whole_split(dataset: Dataset) -> None:
    assert [case.id for case in chosen(dataset, "train", limit=2)] == ["train-0", "train-3"]
    assert len(chosen(dataset, "all")) == 6


def test_an_empty_split_is_an_error_that_names_the_others(dataset: Dataset) -> None:
    with pytest.raises(ChexanatomyError, match="only in test, train"):
        chosen(dataset, "val")


def test_a_split_that_review_emptied_is_said_to_be(dataset: Dataset) -> None:
    dataset.reviews.decide_all([case.id for case in dataset.cases if case.split == "train"], "", "reject")
    with pytest.raises(ChexanatomyError, match=r"Review left no case in its train split \(only in test\)"):
        chosen(dataset, "train")


def test_a_structure_listed_without_a_mask_is_not_called_absent(dataset: Dataset) -> None:
    case = replace(dataset.cases[0], id="torn", image="images/torn.png", present=("lung_left", "heart"))
    dataset.add(case, Radiograph(np.zeros(SIZE, np.float32)), {"lung_left": LEFT})
    (scored,) = from_dataset(dataset, [case], ["lung_left", "heart", "lung_left+heart", "spleen"])
    assert list(scored.references) == ["lung_left", "spleen"]


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_that_leaves_nothing_is_refused(dataset: Dataset, tmp_path: Path, limit: int) -> None:
    write(tmp_path / "images/a.png")
    write(tmp_path / "masks/a.png")
    for found in (lambda: chosen(dataset, "all", limit), lambda: pairs(tmp_path / "images", tmp_path / "masks", limit)):
        with pytest.raises(ChexanatomyError, match=f"A limit of {limit} "):
            found()


def write(path: Path, size: tuple[int, int] = SIZE, value: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(0, 200, size[0] * size[1]).reshape(size)
    Image.fromarray((ramp if value is None else np.full(size, value)).astype(np.uint8)).save(path)
    return path


def test_radiographs_and_masks_meet_by_stem_whatever_their_suffix(tmp_path: Path) -> None:
    write(tmp_path / "images/one.jpg")
    write(tmp_path / "images/two.png")
    write(tmp_path / "masks/two.png", value=255)
    write(tmp_path / "masks/one.png", value=1)
    write(tmp_path / "masks/three.png")
    found = pairs(tmp_path / "images", tmp_path / "masks")
    assert [(a.name, b.name) for a, b in found] == [("one.jpg", "one.png"), ("two.png", "two.png")]
    assert all(scored.references["both"].all() for scored in from_folders(found, "both"))


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"images/a.png": SIZE}, "is not a folder"),
        ({"images/readme.txt.png.part": SIZE, "masks/a.png": SIZE}, "holds no radiograph"),
        ({"images/a.png": SIZE, "images/b.png": SIZE, "images/c.png": SIZE, "masks/a.png": SIZE}, "b.png and 1 others"),
        ({"images/a.png": SIZE, "images/a.jpg": SIZE, "masks/a.png": SIZE}, "share the stem a"),
        ({"images/a.png": SIZE, "masks/a.png": (20, 31)}, "20 x 31 pixels, its radiograph 20 x 30"),
    ],
)
def test_folders_that_do_not_fit_are_one_sentence(tmp_path: Path, files: dict[str, tuple[int, int]], complaint: str) -> None:
    for name, size in files.items():
        write(tmp_path / name.removesuffix(".part"), size)
        if name.endswith(".part"):
            (tmp_path / name.removesuffix(".part")).rename(tmp_path / name)
    with pytest.raises(ChexanatomyError, match=complaint):
        list(from_folders(pairs(tmp_path / "images", tmp_path / "masks"), "heart"))
