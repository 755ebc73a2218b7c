import json

import numpy as np
import pytest

from training.dataset import Case, Dataset, export_folders
from training.errors import BrokenDataset
from training.images import Radiograph, to_rle

from .conftest import make_case, make_masks


def test_what_is_added_is_read_back(dataset):
    rng = np.random.default_rng(1)
    pixels, masks = rng.random((120, 100)).astype(np.float32), make_masks(rng)
    case = make_case(99, geometry={"spacing": [0.5, 0.6]}, view="LATERAL")
    dataset.add(case, Radiograph(pixels), masks)
    again = Dataset.open(dataset.folder)
    assert again.cases[-1] == case
    read = again.image(again.case(case.id))
    np.testing.assert_allclose(read.pixels, pixels, atol=1 / 65535)
    assert (read.spacing, read.view) == ((0.5, 0.6), "LATERAL")
    for name, mask in again.masks(case).items():
        np.testing.assert_array_equal(mask, masks[name])


def test_only_the_masks_asked_for_are_returned(dataset):
    assert list(dataset.masks(dataset.cases[0], ["heart", "colon"])) == ["heart"]


def test_the_same_id_twice_is_refused(dataset):
    with pytest.raises(BrokenDataset, match="already"):
        dataset.add(make_case(0), Radiograph(np.zeros((4, 4), np.float32)), {})
    assert dataset.image(make_case(0)).pixels.shape == (120, 100), "compared first, written after"
    assert len(Dataset.open(dataset.folder).cases) == 20


def test_a_line_torn_by_a_crash_is_passed_over_and_repaired_before_adding(dataset):
    path = dataset.folder / "cases.jsonl"
    path.write_bytes(path.read_bytes() + b'{"id":"half')
    assert len(Dataset.open(dataset.folder).cases) == 20
    repaired = Dataset.create(dataset.folder)
    repaired.add(make_case(50), Radiograph(np.zeros((4, 4), np.float32)), {})
    assert [c.id for c in Dataset.open(dataset.folder).cases][-1] == "someone-00050"


def test_a_data_set_without_a_case_can_be_opened_for_adding_again(tmp_path):
    Dataset.create(tmp_path / "data")
    Dataset.create(tmp_path / "data")
    assert (tmp_path / "data/cases.jsonl").read_bytes() == b""
    assert Dataset.open(tmp_path / "data").cases == []


def test_a_last_case_that_lacks_only_its_line_end_stays(dataset):
    path = dataset.folder / "cases.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.rstrip(b"\n"))
    assert len(Dataset.open(dataset.folder).cases) == 20
    Dataset.create(dataset.folder).add(make_case(50), Radiograph(np.zeros((4, 4), np.float32)), {})
    assert path.read_bytes().startswith(whole)
    assert len(Dataset.open(dataset.folder).cases) == 21


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[1]",
        "{}",
        json.dumps({**json.loads(make_case(1).to_json()), "present": "heart"}),
        json.dumps({**json.loads(make_case(1).to_json()), "image": "../../secret.png"}),
        json.dumps({**json.loads(make_case(1).to_json()), "id": "/etc/x"}),
        make_case(0).to_json(),
    ],
)
def test_a_damaged_or_hostile_line_is_named(dataset, line):
    path = dataset.folder / "cases.jsonl"
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(BrokenDataset, match=r"cases\.jsonl"):
        Dataset.open(dataset.folder)


def test_a_folder_with_other_things_is_not_taken_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BrokenDataset, match="no data set"):
        Dataset.create(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_opening_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(BrokenDataset):
        Dataset.open(tmp_path)


def test_a_missing_image_or_mask_file_is_named(dataset):
    (dataset.folder / dataset.cases[3].image).unlink()
    with pytest.raises(BrokenDataset, match="someone-00003"):
        dataset.image(dataset.cases[3])
    (dataset.folder / "masks" / f"{dataset.cases[4].id}.json").write_text("{")
    with pytest.raises(BrokenDataset, match="someone-00004"):
        dataset.masks(dataset.cases[4])


def test_the_split_depends_on_the_subject_alone_and_is_about_80_10_10():
    splits = [make_case(0, subject=f"person {i}").split for i in range(1000)]
    assert splits == [make_case(7, subject=f"person {i}", view="AP").split for i in range(1000)]
    assert 750 < splits.count("train") < 850
    assert 60 < splits.count("val") < 140
    assert 60 < splits.count("test") < 140


def test_a_case_survives_its_line():
    case = make_case(5, geometry={"sdd": 1800.0})
    assert Case.from_json(case.to_json()) == case


def test_one_process_adds_to_a_data_set_at_a_time(tmp_path):
    with Dataset.adding(tmp_path / "data") as dataset:
        (dataset.folder / "masks" / "someone-00001.part").write_text("being written")
        with pytest.raises(BrokenDataset, match="Another run is adding to data"), Dataset.adding(dataset.folder):
            raise AssertionError("two of them")
        assert (dataset.folder / "masks" / "someone-00001.part").exists(), "the second must not sweep up what the first writes"
        dataset.add(make_case(1), Radiograph(np.zeros((4, 4), np.float32)), {})
    with Dataset.adding(tmp_path / "data") as dataset:
        assert [c.id for c in dataset.cases] == ["someone-00001"]
        assert not list(dataset.folder.glob("masks/*.part"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("years of work")
    with pytest.raises(BrokenDataset, match="no data set"), Dataset.adding(tmp_path / "other"):
        pass
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("heart", "flaw"), [(to_rle(np.ones((60, 50), bool)), "another size"), ({"size": [120, 100]}, "damaged")]
)
def test_a_mask_that_cannot_be_used_is_named_and_the_others_can_be_had(dataset, heart, flaw):
    case = dataset.cases[3]
    path = dataset.folder / "masks" / f"{case.id}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "heart": heart}))
    with pytest.raises(BrokenDataset, match=f"The mask of heart in someone-00003 .*{flaw}"):
        dataset.masks(case)
    assert set(dataset.masks(case, ["lung_left"])) == {"lung_left"}
    assert set(dataset.sound_masks(case)) == {"lung_left", "lung_right"}
    with pytest.raises(BrokenDataset, match="someone-00003"):
        export_folders(dataset, dataset.folder.parent / "out")
    dataset.reviews.decide(case.id, "heart", "reject")
    assert export_folders(dataset, dataset.folder.parent / "out") == 20
