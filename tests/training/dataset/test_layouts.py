import json
import os
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from training.dataset import Case, Dataset, export_coco, export_dicom, export_folders, export_webdataset, import_folders, layouts
from training.errors import BrokenDataset
from training.images import Radiograph, from_rle, read_coco, read_masks_dicom

from .conftest import make_case


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


def test_views_of_a_subject_stay_together_when_they_come_back(dataset, tmp_path):
    export_folders(dataset, tmp_path / "out")
    again = import_folders(tmp_path / "out", tmp_path / "again")
    assert {case.subject for case in again.cases} == {"someone"}
    assert [replace(case, present=dataset.case(case.id).present) for case in again.cases] == dataset.cases
    (tmp_path / "out/someone-00001/case.json").write_text("[]")
    with pytest.raises(BrokenDataset, match=r"case\.json of someone-00001"):
        import_folders(tmp_path / "out", tmp_path / "more")


def test_ids_that_differ_by_a_dot_have_keys_of_their_own(tmp_path):
    made = Dataset.create(tmp_path / "data")
    names = ["a.b", "a_b", "a.b.c", "a_b.c"]
    for name in names:
        made.add(make_case(0, id=name, image=f"images/{name}.png"), Radiograph(np.zeros((20, 20), np.float32)), {})
    export_webdataset(made, tmp_path / "out")
    (shard,) = (tmp_path / "out").iterdir()
    with tarfile.open(shard) as tar:
        read = {n: Case.from_json(tar.extractfile(n).read().decode()).id for n in tar.getnames() if n.endswith(".case.json")}
    assert sorted(read.values()) == sorted(names)
    assert read["a_b.case.json"] == "a_b"
    assert all(key.count(".") == 2 for key in read)


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
    for export in (export_folders, export_webdataset, export_coco, export_dicom):
        with pytest.raises(BrokenDataset, match="already"):
            export(dataset, tmp_path)


def test_a_folder_without_cases_is_refused(tmp_path):
    with pytest.raises(BrokenDataset, match=r"ct\.png"):
        import_folders(tmp_path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_coco_holds_every_kept_mask(dataset, tmp_path):
    dataset.reviews.decide("someone-00001", "heart", "reject")
    assert export_coco(dataset, tmp_path / "out") == 20
    sets = read_coco(tmp_path / "out/annotations.json")
    for one, case in zip(sets, dataset.kept(), strict=True):
        assert (tmp_path / "out/images" / one.image).is_file()
        assert set(one.masks) == {*case.present, *case.absent}
        for structure, mask in dataset.masks(case, case.present).items():
            np.testing.assert_array_equal(one.masks[structure], mask)


def test_dicom_files_cases_under_one_made_up_patient_a_subject(dataset, tmp_path):
    assert export_dicom(dataset, tmp_path / "out") == 20
    patients = set()
    for case in dataset.cases:
        for structure, mask in read_masks_dicom(tmp_path / "out" / case.id / "masks.dcm").masks.items():
            np.testing.assert_array_equal(mask, dataset.masks(case)[structure])
        patients.add(pydicom.dcmread(tmp_path / "out" / case.id / "radiograph.dcm").PatientID)
    assert len(patients) == 1


@pytest.mark.parametrize("export", [export_folders, export_webdataset, export_coco, export_dicom])
def test_an_interrupted_export_goes_on_and_ends_as_if_it_had_not_been(dataset, tmp_path, export):
    def stop_after_seven(progress):
        if progress.done == 7:
            raise KeyboardInterrupt

    options = {"cases_per_shard": 7} if export is export_webdataset else {}
    export(dataset, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        export(dataset, tmp_path / "out", progress=stop_after_seven, **options)
    (tmp_path / "out" / ".part-x").write_text("half")
    export(dataset, tmp_path / "out", **options)
    whole, again = ({p.relative_to(f) for p in f.rglob("*")} for f in (tmp_path / "whole", tmp_path / "out"))
    assert whole == again
    with pytest.raises(BrokenDataset, match="already"):
        export(dataset, tmp_path / "out", **options)


def test_an_export_begun_before_the_data_changed_is_not_mixed_with_the_new(dataset, tmp_path):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_folders(dataset, tmp_path / "out", stop)
    dataset.reviews.decide("someone-00001", "heart", "reject")
    with pytest.raises(BrokenDataset, match="before the data changed"):
        export_folders(dataset, tmp_path / "out")


def test_an_interrupted_import_goes_on(dataset, tmp_path):
    def stop_after_seven(progress):
        if progress.done == 7:
            raise KeyboardInterrupt

    export_folders(dataset, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        import_folders(tmp_path / "out", tmp_path / "again", stop_after_seven)
    assert len(import_folders(tmp_path / "out", tmp_path / "again").cases) == 20


def test_an_import_goes_on_after_an_update_and_after_a_repair(dataset, tmp_path, monkeypatch):
    export_folders(dataset, tmp_path / "out")
    for path in (tmp_path / "out").glob("*/case.json"):
        path.unlink()
    again = import_folders(tmp_path / "out", tmp_path / "again")
    monkeypatch.setattr(layouts, "__version__", "2")
    again.reviews.correct("someone-00003", "colon", np.ones((120, 100), bool))
    again.reviews.correct("someone-00003", "heart", np.zeros((120, 100), bool))
    assert len(import_folders(tmp_path / "out", tmp_path / "again").cases) == 20
    (tmp_path / "out/someone-00003/heart.png").unlink()
    before = (tmp_path / "again/masks/someone-00003.json").read_bytes()
    with pytest.raises(BrokenDataset, match="already"):
        import_folders(tmp_path / "out", tmp_path / "again")
    assert (tmp_path / "again/masks/someone-00003.json").read_bytes() == before


def test_a_coco_export_holds_one_case_in_memory(tmp_path, monkeypatch):
    import tracemalloc

    from training.dataset import Case, Dataset, export_coco
    from training.images import Radiograph

    def peak(count):
        made = Dataset.create(tmp_path / f"data{count}")
        masks = {f"part_{i}": np.eye(256, dtype=bool) for i in range(20)}
        for i in range(count):
            case = Case(f"c{i}", f"s{i}", "PA", None, f"images/c{i}.png", tuple(masks), (), (), "drawn", i, "0")
            made.add(case, Radiograph(np.zeros((256, 256), np.float32)), masks)
        tracemalloc.start()
        export_coco(made, tmp_path / f"coco{count}")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(2), peak(12)
    assert many - few < 10 * 20 * 256 * 256 / 4, "ten cases more hold 13 MB of masks"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_case_folders_whose_names_are_no_utf8_come_in(dataset, tmp_path):
    export_folders(dataset, tmp_path / "out")
    old = tmp_path / "out/someone-00001"
    (old / "case.json").unlink()
    (old / "heart.png").rename(old / os.fsdecode(b"c\xe9ur.png"))
    old.rename(old.with_name(os.fsdecode(b"Andr\xe9")))
    again = import_folders(tmp_path / "out", tmp_path / "again")
    assert Dataset.open(again.folder).case("Andr\ufffd").subject == "Andr\ufffd"
    assert "c\ufffdur" in again.case("Andr\ufffd").present
