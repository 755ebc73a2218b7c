import json
import tarfile

import numpy as np
import pytest

from training.dataset import Case, Dataset, export_folders, export_webdataset, import_folders
from training.errors import BrokenDataset
from training.images import from_rle


def test_case_folders_go_out_and_come_back(dataset, tmp_path):
    dataset.reviews.decide("someone-00001", "heart", "reject")
    dataset.reviews.decide("someone-00002", "", "reject")
    assert export_folders(dataset, tmp_path / "out") == 19
    assert not (tmp_path / "out" / "someone-00001" / "heart.png").exists()
    again = import_folders(tmp_path / "out", tmp_path / "again")
    assert "someone-00002" not in {c.id for c in again.cases}
    for case in again.cases:
        original = dataset.case(case.id)
        np.testing.assert_allclose(again.image(case).pixels, dataset.image(original).pixels, atol=0.51 / 255)
        for structure, mask in again.masks(case).items():
            np.testing.assert_array_equal(mask, dataset.masks(original)[structure])
    assert Dataset.open(again.folder).cases == again.cases


def test_shards_hold_every_kept_case_once(dataset, tmp_path):
    dataset.reviews.decide("someone-00001", "heart", "reject")
    assert export_webdataset(dataset, tmp_path / "out", cases_per_shard=7) == 20
    seen = {}
    shards = sorted((tmp_path / "out").iterdir())
    assert len(shards) == 3
    for shard in shards:
        with tarfile.open(shard) as tar:
            for name in tar.getnames():
                seen[name] = tar.extractfile(name).read()
    assert len(seen) == 60
    for case in dataset.kept():
        assert Case.from_json(seen[f"{case.id}.case.json"].decode()) == case
        masks = json.loads(seen[f"{case.id}.masks.json"])
        assert ("heart" in masks) == (case.id != "someone-00001")
        for structure, code in masks.items():
            np.testing.assert_array_equal(from_rle(code), dataset.masks(case)[structure])


def test_a_folder_in_use_is_not_written_into(dataset, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for export in (export_folders, export_webdataset):
        with pytest.raises(BrokenDataset, match="already"):
            export(dataset, tmp_path)


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(BrokenDataset, match=r"ct\.png"):
        import_folders(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()
