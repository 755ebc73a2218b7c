"""DICOM segmentations of a CT become label maps on its grid, whatever their type and the CT's orientation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from tests.training.images.makers import ct_series
from training.errors import FrameMismatch, UnreadableFile
from training.images import read_any, read_ct, read_labels
from training.images.codes import code_of
from training.images.types import LabelMap

COUNT, ROWS, COLUMNS = 8, 10, 12
ORIENTATIONS = [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (0, 1, 0, 0, 0, -1)]
AT: dict[str, tuple[slice, slice, slice]] = {
    "heart": (slice(2, 5), slice(3, 7), slice(4, 9)),
    "liver": (slice(5, 7), slice(2, 6), slice(1, 5)),
}


def planes(boxes: dict[str, tuple[slice, slice, slice]]) -> np.ndarray:
    """[slice, row, column, segment] with every box filled."""
    stack = np.zeros((COUNT, ROWS, COLUMNS, len(boxes)), np.uint8)
    for number, box in enumerate(boxes.values()):
        stack[(*box, number)] = 1
    return stack


def write_seg(files: list[Path], boxes: dict[str, tuple[slice, slice, slice]], path: Path, kind: str = "BINARY") -> Path:
    """Write a segmentation of a series with highdicom; every second slice is left out where it is empty."""
    import highdicom as hd

    slices = sorted((pydicom.dcmread(f) for f in files), key=lambda d: -int(Path(d.filename).stem[-3:]))
    for header in slices:
        header.FrameOfReferenceUID = "1.2.3.5"
        for keyword in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
                        "ReferringPhysicianName", "SeriesNumber", "InstanceNumber"):  # fmt: skip
            setattr(header, keyword, 1 if keyword.endswith("Number") and keyword[0] != "A" else "")
    pixels: Any = planes(boxes)
    if kind == "FRACTIONAL":
        pixels = pixels * np.float32(0.7)
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=number, segment_label=name,
            segmented_property_category=hd.sr.CodedConcept("91723000", "SCT", "Anatomical Structure"),
            segmented_property_type=hd.sr.CodedConcept(code_of(name).kind.value, "SCT", code_of(name).kind.meaning),
            algorithm_type="MANUAL",
        )
        for number, name in enumerate(boxes, 1)
    ]  # fmt: skip
    seg = hd.seg.Segmentation(
        slices, pixels, kind, descriptions, hd.UID(), 1, hd.UID(), 1, "m", "m", "1", "1",
        **({"fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}),
    )  # fmt: skip
    seg.save_as(path)
    return path


def same_as_drawn(labels: LabelMap, files: list[Path], boxes: dict[str, tuple[slice, slice, slice]]) -> None:
    """Every voxel of every structure, by its place in the patient."""
    headers = {int(f.stem[-3:]): pydicom.dcmread(f) for f in files}
    for name, box in boxes.items():
        wanted = set()
        for k in range(*box[0].indices(COUNT)):
            header = headers[COUNT - k]
            across, down = np.split(np.array(header.ImageOrientationPatient, float), 2)
            down_step, across_step = (float(v) for v in header.PixelSpacing)
            for r in range(*box[1].indices(ROWS)):
                for c in range(*box[2].indices(COLUMNS)):
                    point = np.array(header.ImagePositionPatient, float) + across * across_step * c + down * down_step * r
                    wanted.add(tuple(np.rint((point - labels.origin) / labels.spacing).astype(int)[::-1].tolist()))
        held = [i for i, names in labels.members.items() if name in names]
        assert set(map(tuple, np.argwhere(np.isin(labels.ids, held)).tolist())) == wanted


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=["axial", "prone", "sagittal"])
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_a_segmentation_lies_where_its_ct_does(tmp_path: Path, orientation: tuple[float, ...], kind: str) -> None:
    files = ct_series(tmp_path / "ct", COUNT, orientation=orientation)
    seg = write_seg(files, AT, tmp_path / "seg.dcm", kind)
    ct = read_ct(tmp_path / "ct")
    labels = read_labels(seg, ct)
    assert labels.ids.shape == ct.hu.shape
    assert sorted(labels.structures) == ["heart", "liver"]
    same_as_drawn(labels, files, AT)
    same_as_drawn(read_labels(seg, None), files, AT)
    (opened,) = read_any(seg, [ct])
    assert isinstance(opened, LabelMap)
    assert np.array_equal(opened.ids, labels.ids)


def test_overlapping_segments_are_kept(tmp_path: Path) -> None:
    files = ct_series(tmp_path / "ct", COUNT)
    boxes = {"lungs": (slice(1, 6), slice(1, 8), slice(1, 10)), **AT}
    labels = read_labels(write_seg(files, boxes, tmp_path / "seg.dcm"), read_ct(tmp_path / "ct"))
    assert {"lungs", "heart"} <= {name for names in labels.members.values() if len(names) > 1 for name in names}
    same_as_drawn(labels, files, boxes)


def test_a_segmentation_of_another_ct_is_refused(tmp_path: Path) -> None:
    seg = write_seg(ct_series(tmp_path / "ct", COUNT), AT, tmp_path / "seg.dcm")
    elsewhere = replace(read_ct(tmp_path / "ct"), origin=(400.0, 400.0, 400.0))
    with pytest.raises(FrameMismatch, match=r"seg\.dcm does not belong"):
        read_labels(seg, elsewhere)


def test_a_damaged_segmentation_gets_one_sentence(tmp_path: Path) -> None:
    seg = write_seg(ct_series(tmp_path / "ct", COUNT), AT, tmp_path / "seg.dcm")
    header = pydicom.dcmread(seg)
    header.PixelData = header.PixelData[: len(header.PixelData) // 2 // 2 * 2]
    header.save_as(seg)
    with pytest.raises(UnreadableFile) as caught:
        read_labels(seg, None)
    assert "\n" not in str(caught.value)


def test_segments_that_are_described_twice_or_not_at_all_are_refused(tmp_path: Path) -> None:
    seg = write_seg(ct_series(tmp_path / "ct", COUNT), AT, tmp_path / "seg.dcm")
    twice = pydicom.dcmread(seg)
    twice.SegmentSequence[1].SegmentNumber = 1
    twice.save_as(tmp_path / "twice.dcm")
    with pytest.raises(UnreadableFile, match=r"twice\.dcm describes several segments under one number"):
        read_labels(tmp_path / "twice.dcm", None)
    unknown = pydicom.dcmread(seg)
    unknown.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9
    unknown.save_as(tmp_path / "unknown.dcm")
    with pytest.raises(UnreadableFile, match=r"unknown\.dcm holds frames of segment 9"):
        read_labels(tmp_path / "unknown.dcm", None)


def test_a_segmentation_of_unevenly_spaced_slices_is_refused_as_such(tmp_path: Path) -> None:
    files = ct_series(tmp_path / "ct", COUNT)
    for number, file in enumerate(files):
        header = pydicom.dcmread(file)
        header.ImagePositionPatient[2] += 1.3 * (number > 3)
        header.save_as(file)
    with pytest.raises(UnreadableFile, match=r"seg\.dcm are unevenly spaced"):
        read_labels(write_seg(files, AT, tmp_path / "seg.dcm"), None)
