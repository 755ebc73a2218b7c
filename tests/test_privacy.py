"""A DICOM file full of planted identifiers goes through commands and window, and none is found in any byte that comes out."""

from __future__ import annotations

import gzip
import logging
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import corpus_models
from tests.corpus_dicom import ramp
from tests.training.images.makers import ct_series, dicom
from training.cli import main
from training.drr import Geometry
from training.fit.adapters import export_adapter, read_adapter
from training.images import LabelMap, read_ct, read_radiograph, write_labels_nifti, write_mask_png
from training.images.identity import BURNED_IN, PERHAPS_BURNED_IN, names_patient, neutral

PLANTED = {
    "PatientName": "Zebulon^Quixworth",
    "PatientID": "MRN-7730991",
    "OtherPatientIDs": "OTHER-5512337",
    "PatientBirthDate": "19471103",
    "StudyDate": "20190827",
    "SeriesDate": "20190828",
    "AcquisitionDate": "20190829",
    "AccessionNumber": "ACC-99120457",
    "ReferringPhysicianName": "Thaddeus^Orlikov",
    "InstitutionName": "Saint Wulfstan Infirmary",
    "StudyDescription": "studytext Zebulon",
    "PatientComments": "lives in Nether Wallop",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.111222333444",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.555666777888",
}
PRIVATE = "PRIVATE-SECRET-4471"
NEEDLES = [
    *(b"Zebulon", b"Quixworth", b"7730991", b"5512337", b"19471103", b"20190827", b"20190828", b"20190829", b"99120457"),
    *(b"Orlikov", b"Wulfstan", b"Nether Wallop", b"111222333444", b"555666777888", b"SECRET-4471"),
]


def plant(path: Path) -> Path:
    """Add private tags to a file that was written with PLANTED."""
    import pydicom

    dataset = pydicom.dcmread(path)
    block = dataset.private_block(0x0041, "QUIX PRIVATE", create=True)
    block.add_new(1, "LO", PRIVATE)
    dataset.save_as(path)
    return path


def found_in(folder: Path) -> list[str]:
    """Where a planted identifier occurs: in names and bytes, plain, in UTF-16, or unpacked."""
    hits = []
    for path in folder.rglob("*"):
        contents = [str(path.relative_to(folder)).encode()]
        if path.is_file():
            raw = path.read_bytes()
            contents.append(raw)
            if raw.startswith(b"\x1f\x8b"):
                contents.append(gzip.decompress(raw))
            if raw.startswith(b"PK"):
                with zipfile.ZipFile(path) as archive:
                    contents += [name.encode() + b"\n" + archive.read(name) for name in archive.namelist()]
            at = raw.find(b"zTXt")
            if at >= 0:
                contents.append(zlib.decompressobj().decompress(raw[at + 4 :].partition(b"\0\0")[2]))
        for content in contents:
            low = content.lower()
            hits += [f"{path}: {n!r}" for n in NEEDLES if n.lower() in low or n.decode().lower().encode("utf-16-le") in low]
    return hits


@pytest.fixture
def patient(tmp_path: Path) -> dict[str, Path]:
    """A CT series and a radiograph of one person, in files and folders that bear the person's name."""
    home = tmp_path / "in" / "QUIXWORTH_ZEBULON_MRN-7730991"
    for path in ct_series(home / "ct-19471103", 24, size=(40, 40), **PLANTED):
        plant(path)
    attributes = {"Modality": "DX", "WindowCenter": 2048, "WindowWidth": 4096, "BurnedInAnnotation": "YES", **PLANTED}
    chest = dicom(home / "Quixworth.dcm", np.kron(ramp(), np.ones((3, 3), np.uint16)), **attributes)
    return {"ct": home / "ct-19471103", "chest": plant(chest)}


def test_no_identifier_is_in_anything_that_commands_write_say_or_log(
    patient: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    model, out = corpus_models.good(tmp_path), tmp_path / "out"
    asked = ("--structures", "heart,lung_left", "--model", str(model), "--also", "coco", "dicom")
    assert main(["render", str(patient["ct"]), "--size", "32", "32", "--out", str(out / "render")]) == 0
    assert main(["predict", str(patient["chest"]), *asked, "--measure", "--out", str(out / "predict")]) == 0
    assert len(list(out.rglob("*"))) > 8
    assert found_in(out) == []
    said = capfd.readouterr()
    assert BURNED_IN in said.err
    logged = "".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("training", "napari_chex", "pydicom"))
    )
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "log").write_text(logged + said.err)
    assert found_in(tmp_path / "words") == []


def test_no_identifier_is_in_data_sets_models_and_reports(
    patient: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, out = corpus_models.good(tmp_path), tmp_path / "out"
    home = patient["chest"].parent
    ct, chest = read_ct(patient["ct"]), read_radiograph(patient["chest"])
    ids = np.zeros(ct.shape, np.uint8)
    ids[1:-1, 8:-8, 8:-8] = 1
    write_labels_nifti(LabelMap(ids, {1: ("heart",)}, ct.spacing, ct.origin), home / "labels-Zebulon.nii.gz")
    for kind in ("images", "masks"):
        (home / kind).mkdir()
    for number, name in enumerate(("Quixworth", "Zebulon 2", "Zebulon 3")):
        dicom(home / "images" / f"{name}.dcm", np.kron(ramp(), np.ones((3, 3), np.uint16)), Modality="DX", **PLANTED)
        write_mask_png(np.roll(chest.pixels > 0.5, number), home / "masks" / f"{name}.png")
    drawn = ("--images", str(home / "images"), "--masks", str(home / "masks"))
    made, adapter = str(out / "data"), str(out / "adapter")
    labelled = ("--ct", str(patient["ct"]), "--labels", str(home / "labels-Zebulon.nii.gz"))
    small = ("--image-size", "32", "--images", "1", "--queries", "2", "--steps", "1", "--workers", "0", "--threads", "1")
    synthesize = ("synthesize", *labelled, "--views-per-subject", "1", "--size", "64", "--grid", "4", "--out", made)
    for command in (
        synthesize,
        synthesize,  # goes on where it was, though the paths in synthesis.json are stand-ins
        ("review", made, "--html", str(out / "review.html"), "--csv", str(out / "review.csv"), "--workers", "1"),
        ("train", "--dataset", made, "--out", str(out / "run"), *small),
        ("adapt", *drawn, "--structure", "heart", "--model", str(model), "--steps", "1", "--out", adapter,
         "--held-out-images", "Zebulon 2"),
        ("suggest", str(home / "images"), "--structure", "heart", "--model", str(model), "--out", str(out / "suggested.json")),
        ("evaluate", *drawn, "--structures", "heart", "--model", str(model), "--out", str(out / "report")),
        *(("export", made, "--form", form, "--out", str(out / form)) for form in ("folders", "webdataset", "coco", "dicom")),
    ):  # fmt: skip
        assert main([*command, "--progress", "none"]) == 0, command[0]
    kept = read_adapter(Path(adapter))
    assert kept is not None
    assert list(kept.per_image) != []
    export_adapter(kept, out / "adapter.zip")
    (out / "said").write_text(capfd.readouterr().out)
    assert found_in(out) == []


def test_no_identifier_is_in_what_the_window_saves(patient: dict[str, Path], tmp_path: Path) -> None:
    from napari.layers import Layer

    from napari_chexanatomy.keeping import write_picture
    from napari_chexanatomy.labelling import Project
    from napari_chexanatomy.layers import from_ct, from_radiograph
    from napari_chexanatomy.picture import Order, PictureTaker
    from napari_chexanatomy.writers import write_image, write_mask

    out = tmp_path / "out"
    ct, chest = read_ct(patient["ct"]), read_radiograph(patient["chest"])
    for data, path in ((from_ct(ct), out / "ct.nii.gz"), (from_radiograph(chest), out / "chest.png")):
        layer = Layer.create(*data)
        write_image(str(path), layer.data, layer.as_layer_data_tuple()[1])
    write_mask(str(out / "mask.png"), (chest.pixels > 0.5).astype(np.uint8), {})
    order = Order(ct, None, Geometry.pa(ct, rows=32, columns=32), (), "fill", None, True)
    write_picture(PictureTaker().take(order), out / "view")
    project = Project.create(out / "project")
    item = project.add(chest)
    project.set_mask(item, chest.pixels > 0.5)
    assert (out / "project" / "images" / f"{item.name}.png").is_file()
    assert found_in(out) == []


def test_the_byte_search_finds_what_is_planted(patient: dict[str, Path], tmp_path: Path) -> None:
    hits = " ".join(found_in(tmp_path / "in"))
    assert all(needle.decode() in hits for needle in NEEDLES)


def test_a_name_that_tells_nobody_is_kept_and_one_that_does_gets_the_same_stand_in_again(tmp_path: Path) -> None:
    values: dict[str, Any] = {"Modality": "DX", **PLANTED}
    assert read_radiograph(dicom(tmp_path / "chest 12.dcm", ramp(), **values)).name == "chest 12"
    named = dicom(tmp_path / "mrn7730991.dcm", ramp(), **values)
    first, second = read_radiograph(named).name, read_radiograph(named).name
    assert first == second
    assert first.startswith("P")
    assert "773" not in first


def test_text_in_the_picture_is_warned_about(tmp_path: Path) -> None:
    said = [BURNED_IN], [PERHAPS_BURNED_IN], [], []
    asked = (("DX", "YES"), ("OT", None), ("OT", "NO"), ("DX", None))
    for number, ((modality, stated), expected) in enumerate(zip(asked, said, strict=True)):
        values = {"Modality": modality} | ({"BurnedInAnnotation": stated} if stated else {})
        notes = read_radiograph(dicom(tmp_path / f"{number}.dcm", ramp(), **values)).notes
        assert [note for note in notes if note in (BURNED_IN, PERHAPS_BURNED_IN)] == expected


def test_a_dicom_subject_of_a_data_set_goes_by_a_pseudonym(patient: dict[str, Path]) -> None:
    from training.cli.make import Synthesize

    (subject,) = Synthesize(out=Path("x"), ct=patient["ct"], labels=Path("labels.nii.gz"))._people()
    assert subject.name.startswith("P")
    assert "ct-1947" not in subject.name
    (asked,) = Synthesize(out=Path("x"), ct=patient["ct"], labels=Path("l.nii.gz"), subject="me")._people()
    assert asked.name == "me"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("Müller^Hans", "Mu\u0308ller thorax", True),
        ("Mu\u0308ller^Hans", "M\u00fcller thorax", True),
        ("Müller^Hans", "muller_ap", True),
        ("Müller^Hans", "MUELLER_ap", True),
        ("Weiß^Ada", "weiss", True),
        ("Łukasz^Ćwik", "lukasz", True),
        ("Müller^Hans", "thorax mull", False),
    ],
)
def test_a_name_is_known_in_every_spelling(name: str, text: str, told: bool) -> None:
    from pydicom import Dataset as Header

    header = Header()
    header.PatientName = name
    assert names_patient(text, header) == told


LATER = {
    "PatientName": "Yamada^Tarou=山田^太郎",
    "PatientID": "7Q",
    "PatientBirthDate": "19750312",
    "StudyDate": "20240131",
    "AcquisitionDateTime": "20230203142233.5+0100",
    "PerformingPhysicianName": "Quackenbush^Q",
    "RequestingPhysician": "Ng^An",
    "InstitutionName": "Sankt Gallen Hospital",
    "PatientAddress": "Elmstreet 17",
    "PatientComments": "daughter of Zenobia",
    "StudyDescription": "CHEST PA Xanthippe",
    "FrameOfReferenceUID": "1.2.840.99.424242",
    "Modality": "CR",
    "BodyPartExamined": "THORAX",
    "ViewPosition": "PA",
    "Manufacturer": "Siemens",
}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *((name, True) for name in ("山田太郎", "太郎 chest", "tarouYamada2", "7Q", "7q_pa", "12.03.1975_thorax")),
        *((name, True) for name in ("thorax-01-31-2024", "cxr240131", "img_20230203142233", "NgAn42", "an_ng")),
        *(
            (name, True)
            for name in ("Quackenbush2", "Gallen-1", "Elmstreet", "Zenobia", "Xanthippe", "1.2.840.99.424242", "MRN887766")
        ),
        *((name, True) for name in ("ACCN9911_1", "2023-02-03")),
        *(
            (name, False)
            for name in ("chest_pa", "CHEST PA", "thorax", "IM0001", "I77Q3", "cr siemens", "hospital 3", "angnu", "cxr 2024")
        ),
    ],
)
def test_a_name_may_repeat_nothing_that_tells_of_the_patient(tmp_path: Path, name: str, told: bool) -> None:
    from pydicom import Dataset as Header

    asked, other = Header(), Header()
    asked.AccessionNumber, other.PatientID = "ACCN9911", "MRN887766"
    nested = {"RequestAttributesSequence": [asked], "OtherPatientIDsSequence": [other], "SpecificCharacterSet": "ISO_IR 192"}
    path = dicom(tmp_path / f"{name}.dcm", ramp(), **nested, **LATER)
    assert (read_radiograph(path).name != name) == told
    assert (neutral(path) != path) == told


def test_running_numbers_and_folders_in_use_for_anything_stay(tmp_path: Path) -> None:
    header = LATER | {"PatientBirthDate": "19000101", "SpecificCharacterSet": "ISO_IR 192"}
    for name in ("chest_000101", "00000101_000", "1240131", "radiograph 7", "exam", "Gallen/7"):
        path = dicom(tmp_path / f"{name}.dcm", ramp(), **header)
        assert neutral(path) == path
    path = dicom(tmp_path / "Yamada/7.dcm", ramp(), **header)
    assert neutral(path) != path, "a folder that names a person"


def test_chinese_names_are_known_without_spaces() -> None:
    from pydicom import Dataset as Header

    header = Header()
    header.PatientName = "王^小明"
    assert [names_patient(text, header) for text in ("王小明", "小明", "王", "大王 3")] == [True, True, False, False]


def test_a_damaged_element_does_not_hide_the_others(tmp_path: Path) -> None:
    path = dicom(tmp_path / "Quixworth.dcm", ramp(), Modality="DX", **PLANTED, PatientWeight="70")
    path.write_bytes(path.read_bytes().replace(b"DS\x02\x0070", b"DS\x02\x00\xff\xfe"))
    assert neutral(path) != path
