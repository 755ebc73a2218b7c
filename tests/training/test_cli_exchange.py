"""Exchange on the command line: DICOM beside what render and predict write, convert, and exports for other programs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.training.images.makers import dicom
from tests.training.test_cli import Run, body, one_line, picture, run, untrained
from training.images import read_coco, read_mask_pictures, read_masks_dicom

__all__ = ["body", "run", "untrained"]


def test_rendered_dicom_holds_the_same_masks_and_takes_the_same_picture_again(run: Run, body: Path, tmp_path: Path) -> None:
    labels = ("--labels", body / "labels.nii.gz", "--label-names", body / "labels_names.csv", "--structures", "heart,lung_left")
    pose = ("--primary", 12, "--size", 40, 50, "--spacing", 8)
    assert run("render", body / "ct.nii.gz", *labels, *pose, "--dicom", "--out", tmp_path / "a")[0] == 0
    pictures, segments = read_mask_pictures(tmp_path / "a"), read_masks_dicom(tmp_path / "a/masks.dcm")
    assert set(pictures.masks) == set(segments.masks) == {"heart", "lung_left"}
    assert all(np.array_equal(mask, segments.masks[name]) for name, mask in pictures.masks.items())
    assert run("render", body / "ct.nii.gz", "--geometry", tmp_path / "a/radiograph.dcm", "--out", tmp_path / "b")[0] == 0
    assert (tmp_path / "b/geometry.json").read_text() == (tmp_path / "a/geometry.json").read_text()
    assert (tmp_path / "b/radiograph.png").read_bytes() == (tmp_path / "a/radiograph.png").read_bytes()


def test_masks_go_through_every_form_unchanged(run: Run, body: Path, tmp_path: Path) -> None:
    labels = ("--labels", body / "labels.nii.gz", "--label-names", body / "labels_names.csv")
    assert run("render", body / "ct.nii.gz", *labels, "--size", 40, 50, "--spacing", 8, "--out", tmp_path / "a")[0] == 0
    image = tmp_path / "a/radiograph.png"
    for source, form, target in (("a", "coco", "c.json"), ("c.json", "dicom", "d"), ("d/masks.dcm", "png", "p")):
        status, _, complaint = run("convert", tmp_path / source, "--image", image, "--form", form, "--out", tmp_path / target)
        assert (status, complaint) == (0, "")
    first, last = read_mask_pictures(tmp_path / "a"), read_mask_pictures(tmp_path / "p")
    assert set(first.masks) == set(last.masks)
    assert all(np.array_equal(mask, last.masks[name]) for name, mask in first.masks.items())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("c.json --form dicom --out x", "add --image"),
        ("c.json --form dicom --out x --image a.png --attach", "no DICOM file"),
        ("nowhere --form coco --out x", "nowhere"),
        ("a.png --form coco --out x", "COCO JSON"),
        ("c.json --form dicom --out x --image small.png", "40 x 40"),
        ("c.json --form coco --out x --image nothere.png", "no file"),
    ],
)
def test_what_cannot_be_converted_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str
) -> None:
    from training.images import MaskSet, write_coco

    monkeypatch.chdir(tmp_path)
    write_coco([MaskSet("a.png", (48, 64), {"heart": np.eye(48, 64, dtype=bool)})], tmp_path / "c.json")
    picture(tmp_path / "a.png", (48, 64))
    picture(tmp_path / "small.png", (40, 40))
    status, _, complaint = run("convert", *arguments.split())
    assert status == 2
    assert one_line(complaint), complaint
    assert expected in complaint


def test_predictions_name_the_patient_only_where_that_was_asked_for(run: Run, untrained: Path, tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 900, (48, 64)).astype(np.uint16)
    source = dicom(tmp_path / "x.dcm", stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.1", Modality="CR", PatientID="4711-geheim")
    ask = ("predict", source, "--structures", "heart,lung_left", "--model", untrained)
    assert run(*ask, "--also", "coco", "dicom", "--out", tmp_path / "found")[0] == 0
    assert run(*ask, "--also", "dicom-attached", "--out", tmp_path / "attached")[0] == 0
    (record,) = json.loads((tmp_path / "found/predictions.json").read_text())
    (coco,) = read_coco(tmp_path / "found/coco.json")
    (predicted,) = read_coco(tmp_path / "found/predictions.json")
    segments = read_masks_dicom(tmp_path / "found/x/masks.dcm")
    assert [f["structure"] for f in record["findings"]] == list(segments.masks)
    for name, mask in segments.masks.items():
        assert np.array_equal(mask, coco.masks[name])
        assert np.array_equal(mask, predicted.masks[name])
    assert not [p for p in (tmp_path / "found").rglob("*") if p.is_file() and b"geheim" in p.read_bytes()]
    assert pydicom.dcmread(tmp_path / "attached/x/masks.dcm").PatientID == "4711-geheim"
    assert run(*ask, "--also", "dicom", "dicom-attached", "--out", tmp_path / "both")[0] == 2


def test_a_coco_file_does_not_repeat_an_image_name_that_names_the_patient(run: Run, tmp_path: Path) -> None:
    from training.images import MaskSet, write_coco

    write_coco([MaskSet("a.png", (48, 64), {"heart": np.eye(48, 64, dtype=bool)})], tmp_path / "c.json")
    for name, kept in (("Secret_Person.dcm", False), ("chest.dcm", True)):
        image = dicom(tmp_path / name, np.arange(48 * 64, dtype=np.uint16).reshape(48, 64), Modality="CR")
        assert run("convert", tmp_path / "c.json", "--form", "coco", "--image", image, "--out", tmp_path / "d.json")[0] == 0
        assert (read_coco(tmp_path / "d.json")[0].image == name) == kept


def test_a_name_in_a_file_leads_nowhere_out_of_the_folder(run: Run, tmp_path: Path) -> None:
    from training.images import MaskSet, write_coco

    mask = {"heart": np.eye(48, 64, dtype=bool)}
    write_coco([MaskSet(name, (48, 64), mask) for name in ("..", "a/..", "b.png")], tmp_path / "c.json")
    assert run("convert", tmp_path / "c.json", "--form", "png", "--out", tmp_path / "safe/out")[0] == 0
    assert {p.name for p in (tmp_path / "safe").iterdir()} == {"out"}
    assert len(list((tmp_path / "safe/out").glob("*/heart.png"))) == 3


def test_a_folder_shows_one_pose(run: Run, body: Path, tmp_path: Path) -> None:
    labels = ("--labels", body / "labels.nii.gz", "--label-names", body / "labels_names.csv", "--size", 40, 50, "--spacing", 8)
    take = ("render", body / "ct.nii.gz", *labels, "--out", tmp_path / "a")
    assert run(*take, "--view", "AP", "--dicom", "--structures", "heart,lung_left")[0] == 0
    assert run(*take, "--view", "AP", "--structures", "lung_right")[0] == 0
    assert {p.stem for p in (tmp_path / "a/masks").iterdir()} == {"heart", "lung_left", "lung_right"}, "the same pose: one more"
    assert run(*take, "--view", "PA", "--structures", "heart")[0] == 0
    assert {p.stem for p in (tmp_path / "a/masks").iterdir()} == {"heart"}
    assert not list((tmp_path / "a").glob("*.dcm"))


def test_masks_of_another_body_do_not_stay_beside_a_new_picture_in_the_same_pose(run: Run, body: Path, tmp_path: Path) -> None:
    from training.images import read_ct, write_ct_nifti

    ct = read_ct(body / "ct.nii.gz")
    other = ct.hu.copy()
    other[2:10, 5:35, 4:56] = 300
    write_ct_nifti(replace(ct, hu=other), tmp_path / "other.nii.gz")
    take = ("--size", 40, 50, "--spacing", 8, "--dicom", "--out", tmp_path / "a")
    labels = ("--labels", body / "labels.nii.gz", "--label-names", body / "labels_names.csv", "--structures", "heart")
    assert run("render", body / "ct.nii.gz", *labels, *take)[0] == 0
    assert run("render", tmp_path / "other.nii.gz", *take)[0] == 0
    assert {p.name for p in (tmp_path / "a").rglob("*") if p.is_file()} == {
        "radiograph.png",
        "radiograph.json",
        "radiograph.dcm",
        "geometry.json",
    }


def test_a_refused_segmentation_leaves_no_picture(run: Run, tmp_path: Path) -> None:
    from training.images import MaskSet, write_coco

    write_coco([MaskSet("a.png", (48, 64), {"heart": np.eye(48, 64, dtype=bool)})], tmp_path / "c.json")
    picture(tmp_path / "small.png", (40, 40))
    small = ("--image", tmp_path / "small.png")
    assert run("convert", tmp_path / "c.json", "--form", "dicom", *small, "--out", tmp_path / "x")[0] == 2
    write_coco([MaskSet("a.png", (48, 64), {"a\\b": np.eye(48, 64, dtype=bool)})], tmp_path / "c.json")
    right = ("--image", picture(tmp_path / "right.png"))
    assert run("convert", tmp_path / "c.json", "--form", "dicom", *right, "--out", tmp_path / "x")[0] == 2
    assert not (tmp_path / "x").exists()


def test_other_pixels_are_another_image(run: Run, body: Path, tmp_path: Path) -> None:
    take = ("render", body / "ct.nii.gz", "--size", 40, 50, "--spacing", 8, "--dicom")
    for out, look in (("a", "digital"), ("b", "film"), ("c", "digital")):
        assert run(*take, "--look", look, "--out", tmp_path / out)[0] == 0
    a, b, c = (pydicom.dcmread(tmp_path / out / "radiograph.dcm") for out in "abc")
    assert (a.PatientID, a.StudyInstanceUID) == (b.PatientID, b.StudyInstanceUID)
    assert a.SOPInstanceUID != b.SOPInstanceUID
    assert a.SeriesInstanceUID != b.SeriesInstanceUID
    assert a.SOPInstanceUID == c.SOPInstanceUID == a.file_meta.MediaStorageSOPInstanceUID


@pytest.mark.parametrize("name", ["a\ud800b", "x" * 300, "心" * 100])
def test_masks_of_any_name_become_pictures(run: Run, tmp_path: Path, name: str) -> None:
    from training.images import MaskSet, write_coco

    masks = {"heart": np.eye(48, 64, dtype=bool), name: np.ones((48, 64), bool)}
    write_coco([MaskSet("a.png", (48, 64), masks)], tmp_path / "c.json")
    assert run("convert", tmp_path / "c.json", "--form", "png", "--out", tmp_path / "x")[0] == 0
    assert set(read_mask_pictures(tmp_path / "x").masks) == {"heart", name.replace("\ud800", "\ufffd")}
    (tmp_path / "d").mkdir()
    status, _, complaint = run("convert", tmp_path / "c.json", "--form", "coco", "--out", tmp_path / "d")
    assert (status, complaint) == (2, f"chexanatomy: {tmp_path / 'd'}: is a directory\n")
