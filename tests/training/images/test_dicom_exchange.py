"""Radiographs and masks as DICOM: exact round trips, other programs' readers, whose name the files bear."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.training.images.makers import dicom
from training.anatomy import vocabulary
from training.drr import Geometry
from training.errors import ChexanatomyError, UnreadableFile
from training.images import (
    Radiograph,
    read_masks_dicom,
    read_radiograph,
    write_masks_dicom,
    write_radiograph_dicom,
)
from training.images.codes import OUR_SCHEME, code_of, snomed_codes, structure_of
from training.images.dicom_geometry import read_geometry_dicom
from training.images.dicom_write import owner_of

POSES = {
    "PA": Geometry(rows=40, columns=64, spacing=(1 / 3, 0.7)),
    "left lateral": Geometry(primary=90, rows=40, columns=64, isocentre=(1.25, -3, 7)),
    "rolled": Geometry(primary=-37.123456789012, secondary=11.3, roll=95, rows=40, columns=64),
}


def picture(rows: int = 40, columns: int = 64, spacing: tuple[float, float] | None = (0.5, 0.7)) -> Radiograph:
    pixels = np.random.default_rng(0).random((rows, columns)).astype(np.float32)
    return Radiograph(pixels, spacing, "PA")


def overlapping(rows: int = 40, columns: int = 64) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    names = ("lung_left", "lung_right", "heart", "rib_right_5", "lung_field_left", "my own pacemaker")
    masks = {name: rng.random((rows, columns)) < 0.4 for name in names}
    return masks | {"trachea": np.zeros((rows, columns), bool)}


def grey16(radiograph: Radiograph) -> np.ndarray:
    return np.rint(radiograph.pixels * 65535).astype(np.uint16)


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
def test_a_computed_radiograph_is_a_dx_image_that_knows_its_pose(tmp_path: Path, pose: Geometry) -> None:
    taken = replace(picture(), spacing=pose.spacing)
    image = write_radiograph_dicom(taken, tmp_path / "a.dcm", pose)
    assert (image.Modality, float(image.DistanceSourceToDetector)) == ("DX", pose.sdd)
    assert float(image.PositionerPrimaryAngle) == pytest.approx(pose.primary)
    back = read_radiograph(tmp_path / "a.dcm")
    assert (back.spacing, back.notes) == (pose.spacing, ())
    np.testing.assert_array_equal(grey16(back), grey16(taken))
    assert Geometry.from_dict(read_geometry_dicom(tmp_path / "a.dcm")) == pose


def test_any_other_radiograph_is_a_secondary_capture(tmp_path: Path) -> None:
    for spacing in ((0.5, 0.7), None):
        taken = picture(spacing=spacing)
        assert write_radiograph_dicom(taken, tmp_path / "a.dcm").SOPClassUID.name == "Secondary Capture Image Storage"
        back = read_radiograph(tmp_path / "a.dcm")
        assert (back.spacing, back.view) == (spacing, "PA")
        np.testing.assert_array_equal(grey16(back), grey16(taken))
    with pytest.raises(UnreadableFile, match="where tube and detector stood"):
        read_geometry_dicom(tmp_path / "a.dcm")


@pytest.mark.parametrize("pose", POSES.values(), ids=POSES)
def test_overlapping_masks_come_back_exactly(tmp_path: Path, pose: Geometry) -> None:
    masks = overlapping()
    image = write_radiograph_dicom(picture(), tmp_path / "a.dcm", pose)
    write_masks_dicom(masks, tmp_path / "m.dcm", image, made_by="embedded")
    back = read_masks_dicom(tmp_path / "m.dcm")
    assert list(back.masks) == list(masks)
    for structure, mask in masks.items():
        np.testing.assert_array_equal(back.masks[structure], mask)
    seg = pydicom.dcmread(tmp_path / "m.dcm")
    assert seg.SegmentationType == "BINARY"
    assert seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == image.SOPInstanceUID
    assert (seg.StudyInstanceUID, seg.PatientID) == (image.StudyInstanceUID, image.PatientID)


@pytest.mark.parametrize("orientation", [("L", "F"), ("R", "F"), ("F", "R"), ("H", "L"), ("L", "H"), None])
def test_masks_drawn_on_a_turned_image_lie_where_the_file_has_them(tmp_path: Path, orientation: tuple[str, str] | None) -> None:
    stored = np.zeros((40, 64), np.uint16)
    stored[5:20, 8:50], stored[25:38, 3:9] = 900, 400
    source = dicom(
        tmp_path / "x.dcm", stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.1", Modality="CR", WindowCenter=450, WindowWidth=900,
        PatientOrientation=list(orientation or ()),
    )  # fmt: skip
    drawn = {"heart": read_radiograph(source).pixels > 0.8}
    write_masks_dicom(drawn, tmp_path / "m.dcm", pydicom.dcmread(source))
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "m.dcm").pixel_array.reshape(40, 64) > 0, stored > 800)
    np.testing.assert_array_equal(read_masks_dicom(tmp_path / "m.dcm").masks["heart"], drawn["heart"])


def test_sitk_reads_the_masks_and_the_radiograph(tmp_path: Path) -> None:
    import SimpleITK as sitk

    masks = overlapping()
    image = write_radiograph_dicom(picture(), tmp_path / "a.dcm", POSES["PA"])
    write_masks_dicom(masks, tmp_path / "m.dcm", image)
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "m.dcm")))
    assert frames.shape == (len(masks), 40, 64)
    for frame, mask in zip(frames, masks.values(), strict=True):
        np.testing.assert_array_equal(frame > 0, mask)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.dcm"))).squeeze(), grey16(picture()))


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools (dciodvfy) is not installed")
def test_dciodvfy_finds_no_error(tmp_path: Path) -> None:
    image = write_radiograph_dicom(picture(), tmp_path / "dx.dcm", POSES["PA"])
    write_radiograph_dicom(picture(), tmp_path / "sc.dcm")
    write_masks_dicom(overlapping(), tmp_path / "m.dcm", image, made_by="embedded")
    for name in ("dx.dcm", "sc.dcm", "m.dcm"):
        said = subprocess.run(["dciodvfy", str(tmp_path / name)], capture_output=True, text=True, check=False).stderr
        assert not [line for line in said.splitlines() if line.startswith("Error")], said


def test_an_image_that_nothing_can_refer_to_is_refused(tmp_path: Path) -> None:
    stored = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64)
    image = pydicom.dcmread(dicom(tmp_path / "cr.dcm", stored, Modality="CR"))  # a CT by its class, without a frame of reference
    with pytest.raises(ChexanatomyError, match="No DICOM SEG can refer to this image"):
        write_masks_dicom({"heart": stored > 9}, tmp_path / "masks.dcm", image)
    assert not (tmp_path / "masks.dcm").exists()


def test_only_attaching_to_the_source_takes_over_who_it_is(tmp_path: Path) -> None:
    stored = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64)
    source = dicom(tmp_path / "x.dcm", stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.1", Modality="CR", PatientID="QXZV-geheim")
    image = write_radiograph_dicom(read_radiograph(source), tmp_path / "a.dcm", owner=owner_of(source))
    write_masks_dicom({"heart": stored > 9}, tmp_path / "m.dcm", image)
    for name in ("a.dcm", "m.dcm"):
        content = (tmp_path / name).read_bytes()
        for secret in (b"Secret", b"geheim", b"QXZV", b"1.2.3.4", pydicom.dcmread(source).SOPInstanceUID.encode()):
            assert secret not in content, (name, secret)
    assert owner_of(source) == owner_of(source)
    write_masks_dicom({"heart": stored > 9}, tmp_path / "attached.dcm", pydicom.dcmread(source))
    attached = pydicom.dcmread(tmp_path / "attached.dcm")
    assert (attached.PatientID, attached.StudyInstanceUID) == ("QXZV-geheim", "1.2.3")


@pytest.mark.parametrize(
    ("characters", "patient"), [("ISO_IR 100", "Müller^Jörg"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")]
)
def test_names_in_any_script_come_back(tmp_path: Path, characters: str | list[str], patient: str) -> None:
    stored = np.arange(40 * 64, dtype=np.uint16).reshape(40, 64)
    masks = {"心臓": stored > 9, "左肺": stored > 99, "Сердце": stored > 999}
    header = {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1", "Modality": "CR", "SpecificCharacterSet": characters}
    source = dicom(tmp_path / "x.dcm", stored, **header, PatientName=patient)
    for image in (pydicom.dcmread(source), write_radiograph_dicom(read_radiograph(source), tmp_path / "a.dcm")):
        write_masks_dicom(masks, tmp_path / "m.dcm", image)
        back = read_masks_dicom(tmp_path / "m.dcm").masks
        assert list(back) == list(masks)
        assert all(np.array_equal(back[name], mask) for name, mask in masks.items())
        assert str(pydicom.dcmread(tmp_path / "m.dcm").PatientName) == str(image.PatientName)
    assert str(pydicom.dcmread(source).PatientName) == patient


def test_every_structure_has_a_code_that_leads_back_to_it() -> None:
    for key, structure in vocabulary().items():
        code = code_of(key)
        side = (code.side.value, code.side.scheme) if code.side is not None else None
        assert structure_of("", (code.kind.value, code.kind.scheme), side) == key
        assert (code.kind.scheme == OUR_SCHEME) == (key not in snomed_codes()), structure
    assert set(snomed_codes()) <= set(vocabulary())


def test_codes_said_to_be_dicoms_stand_in_its_dictionary() -> None:
    import csv
    from importlib.resources import files

    from pydicom.sr._concepts_dict import concepts

    known = {(code, meaning) for entry in concepts["SCT"].values() for code, (meaning, _) in entry.items()}
    rows = list(csv.DictReader(files("training").joinpath("snomed.csv").read_text().splitlines()))
    assert {row["source"] for row in rows} == {"dicom", "totalsegmentator"}
    for row in rows:
        assert row["source"] != "dicom" or (row["code"], row["meaning"]) in known, row


def test_masks_that_do_not_belong_are_refused_in_one_sentence(tmp_path: Path) -> None:
    image = write_radiograph_dicom(picture(), tmp_path / "a.dcm")
    for masks in ({"heart": np.zeros((3, 3), bool)}, {}, {"x" * 65: np.zeros((40, 64), bool)}):
        with pytest.raises(ChexanatomyError):
            write_masks_dicom(masks, tmp_path / "m.dcm", image)
    assert not (tmp_path / "m.dcm").exists()
    with pytest.raises(UnreadableFile, match="no DICOM segmentation"):
        read_masks_dicom(tmp_path / "a.dcm")
    write_masks_dicom(overlapping(), tmp_path / "m.dcm", image)
    half = tmp_path / "half.dcm"
    half.write_bytes((tmp_path / "m.dcm").read_bytes()[:-200])
    with pytest.raises(UnreadableFile, match="half"):
        read_masks_dicom(half)
