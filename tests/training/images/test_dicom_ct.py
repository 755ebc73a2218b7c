"""CTs from DICOM: slices are ordered by position, one series is chosen and said, and a series that is not whole is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.images.makers import compress, ct_series, dicom, hu_at, places_of, sampled
from training.errors import UnreadableFile
from training.images import list_series, read_ct
from training.images.types import CT


def assert_true_to_place(ct: CT, inside: int = 0, tolerance: float = 0.5) -> None:
    core = tuple(slice(inside, n - inside) for n in ct.shape)
    assert np.abs(ct.hu - hu_at(*places_of(ct)))[core].max() <= tolerance


def refusal(path: Path, series: str | None = None) -> str:
    with pytest.raises(UnreadableFile) as caught:
        read_ct(path, series)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize(
    "orientation",
    [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, -1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)],
    ids=["axial", "feet first", "prone", "coronal", "sagittal"],
)
def test_slices_are_ordered_by_position_in_every_orientation(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    ct_series(tmp_path / "ct", orientation=orientation)
    ct = read_ct(tmp_path / "ct")
    assert_true_to_place(ct)
    assert ct.name == "ct"
    assert ct.notes == ()


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless", "RLELossless"])
def test_compressed_slices_equal_plain_ones(tmp_path: Path, syntax: str, capfd: pytest.CaptureFixture[str]) -> None:
    for path in ct_series(tmp_path, size=(32, 40)):
        compress(path, syntax)
    assert_true_to_place(read_ct(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_tilted_gantry_is_resampled_and_said(tmp_path: Path) -> None:
    angle = np.radians(15)
    ct_series(tmp_path, 12, size=(20, 12), orientation=(1, 0, 0, 0, np.cos(angle), -np.sin(angle)), step=(0.0, 0.0, 4.0))
    ct = read_ct(tmp_path)
    assert "tilted by 15.0 degrees" in " ".join(ct.notes)
    assert "resampled" in " ".join(ct.notes)
    inside = np.abs(ct.hu - hu_at(*places_of(ct)))[4:-4, 2:-2, 1:-1]
    assert inside.max() <= 1.5


def test_nested_folders_and_other_files_are_looked_through(tmp_path: Path) -> None:
    ct_series(tmp_path / "study" / "series 1")
    (tmp_path / "study" / "report.txt").write_text("well")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    assert_true_to_place(read_ct(tmp_path))


def test_the_ct_with_most_slices_then_the_thinnest_is_chosen_and_said(tmp_path: Path) -> None:
    ct_series(tmp_path / "a", 12, SeriesInstanceUID="1.1", Modality="MR", SeriesDescription="other modality")
    ct_series(tmp_path / "b", 9, SeriesInstanceUID="1.2", SeriesDescription="thick")
    ct_series(tmp_path / "c", 9, spacing=(2.0, 1.5, 2.0), SeriesInstanceUID="1.3", SeriesDescription="thin")
    ct_series(tmp_path / "d", 6, spacing=(2.0, 1.5, 1.0), SeriesInstanceUID="1.4", SeriesDescription="few")
    ct_series(
        tmp_path / "e", 20, spacing=(2.0, 1.5, 1.0), SeriesInstanceUID="1.5", SeriesDescription="scouts",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )  # fmt: skip
    ct = read_ct(tmp_path)
    assert ct.shape[0] == 9
    assert ct.spacing[2] == pytest.approx(2.0)
    assert "'thin' (CT, 9 slices of 2 mm)" in ct.notes[0]
    assert "'thick'" in ct.notes[0]
    listed = list_series(tmp_path)
    assert [one.description for one in listed] == ["thin", "thick", "few", "scouts", "other modality"]
    assert (listed[0].uid, listed[0].slices, listed[0].modality, listed[3].slices) == ("1.3", 9, "CT", 0)


def test_a_series_is_picked_by_uid_or_description(tmp_path: Path) -> None:
    ct_series(tmp_path / "a", 9, SeriesInstanceUID="1.2", SeriesDescription="Lung 4.0")
    ct_series(tmp_path / "b", 6, SeriesInstanceUID="1.3", SeriesDescription="Bone")
    ct_series(tmp_path / "c", 6, SeriesInstanceUID="1.4", SeriesDescription="T1", Modality="MR")
    assert read_ct(tmp_path, "1.3").shape[0] == 6
    assert read_ct(tmp_path, "bone").shape[0] == 6
    assert read_ct(tmp_path, "Lung 4.0").shape[0] == 9
    assert "'Lung 4.0'" in refusal(tmp_path, "soft tissue")
    assert "MR" in refusal(tmp_path, "T1")


def test_localizers_in_the_series_are_left_out_and_said(tmp_path: Path) -> None:
    ct_series(tmp_path)
    ct_series(
        tmp_path,
        1,
        orientation=(1, 0, 0, 0, 0, -1),
        size=(30, 20),
        prefix="scout",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    ct = read_ct(tmp_path)
    assert ct.shape == (8, 10, 12)
    assert "1 localizer" in " ".join(ct.notes)


def test_a_missing_slice_is_refused_with_its_place(tmp_path: Path) -> None:
    ct_series(tmp_path, 12, skip=(5,))
    text = refusal(tmp_path)
    assert "A slice is missing" in text
    assert "z = -10.0 mm" in text
    assert "slice008.dcm (z = -14.0 mm) and slice006.dcm (z = -6.0 mm)" in text


def test_several_missing_slices_are_counted(tmp_path: Path) -> None:
    ct_series(tmp_path, 16, skip=(5, 6, 11))
    assert "3 slices are missing" in refusal(tmp_path)


def test_a_slice_that_is_there_twice_is_refused_with_both_files(tmp_path: Path) -> None:
    files = ct_series(tmp_path, 8)
    shutil.copy(files[3], tmp_path / "copy of it.dcm")
    text = refusal(tmp_path)
    assert "twice" in text
    assert "copy of it.dcm" in text
    assert files[3].name in text


def test_two_series_under_one_uid_are_refused(tmp_path: Path) -> None:
    ct_series(tmp_path / "phases")
    ct_series(tmp_path / "phases", prefix="late")
    assert "Two series are mixed" in refusal(tmp_path / "phases")
    for name, changes in {
        "size": {"size": (9, 9)},
        "pixels": {"spacing": (1.0, 1.0, 4.0)},
        "orientation": {"orientation": (1, 0, 0, 0, 0, -1)},
        "patient": {"PatientID": "other"},
    }.items():
        ct_series(tmp_path / name)
        ct_series(tmp_path / name, origin=(-20.0, -10.0, 2.0), prefix="late", **changes)  # type: ignore[arg-type]
        assert "Two series are mixed" in refusal(tmp_path / name)


def test_uneven_spacing_is_refused(tmp_path: Path) -> None:
    ct_series(tmp_path, 8)
    ct_series(tmp_path, 8, origin=(-20.0, -10.0, 2.0), spacing=(2.0, 1.5, 5.5), prefix="wider")
    assert "unevenly spaced, between 4.00 and 5.50 mm" in refusal(tmp_path)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_accepted(tmp_path: Path) -> None:
    import pydicom

    for path in ct_series(tmp_path, 30, spacing=(2.0, 1.5, 0.625)):
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient = [f"{float(v):.1f}" for v in dataset.ImagePositionPatient]
        dataset.save_as(path)
    assert read_ct(tmp_path).spacing[2] == pytest.approx(0.625, abs=0.005)


def test_slices_shifted_sideways_are_refused(tmp_path: Path) -> None:
    ct_series(tmp_path, 8)
    ct_series(tmp_path, 8, origin=(-20.0, 25.0, 2.0), prefix="late")
    assert "shifted" in refusal(tmp_path)


@pytest.mark.parametrize("spacing", [(-1.0, -1.0), (1e-9, 1e-9), (1.0, 300.0), (float("nan"), 1.0)])
def test_a_pixel_spacing_that_no_scanner_has_is_refused(tmp_path: Path, spacing: tuple[float, float]) -> None:
    import pydicom

    for path in ct_series(tmp_path / "ct"):
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelSpacing", "LO", [str(step) for step in spacing])
        dataset.save_as(path)
    assert "which no scanner has" in refusal(tmp_path / "ct")


def test_too_few_slices_and_one_slice_are_refused(tmp_path: Path) -> None:
    files = ct_series(tmp_path, 4)
    assert "4 slices" in refusal(tmp_path)
    assert "folder" in refusal(files[0])


def test_a_truncated_slice_is_refused_by_name(tmp_path: Path) -> None:
    plain = ct_series(tmp_path / "plain")
    plain[2].write_bytes(plain[2].read_bytes()[:-50])
    assert plain[2].name in refusal(tmp_path / "plain")
    packed = ct_series(tmp_path / "packed", size=(64, 64))
    for path in packed:
        compress(path, "JPEGLosslessProcess14_1")
    packed[4].write_bytes(packed[4].read_bytes()[:-600])
    assert packed[4].name in refusal(tmp_path / "packed")


def test_folders_without_a_ct_say_what_they_hold(tmp_path: Path) -> None:
    dicom(tmp_path / "dx" / "1.dcm", np.zeros((20, 20), np.uint16), Modality="DX")
    assert "open it as a radiograph" in refusal(tmp_path / "dx")
    dicom(tmp_path / "shots" / "1.dcm", np.zeros((20, 20, 3), np.uint8))
    assert "screenshots" in refusal(tmp_path / "shots")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "x.dcm").write_bytes(bytes(128) + b"DICM" + b"nonsense" * 20)
    assert "odd" in refusal(tmp_path / "odd")


def test_colour_slices_and_mr_like_values_are_refused(tmp_path: Path) -> None:
    import pydicom

    for path in ct_series(tmp_path / "colour"):
        dataset = pydicom.dcmread(path)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
        dataset.PixelData = bytes(dataset.Rows * dataset.Columns * 3)
        dataset.save_as(path)
    assert "colours" in refusal(tmp_path / "colour")
    ct_series(tmp_path / "raw", RescaleIntercept=0)
    assert "no CT in Hounsfield units" in refusal(tmp_path / "raw")


def test_padding_values_outside_the_field_of_view_become_air(tmp_path: Path) -> None:
    import pydicom

    for path in ct_series(tmp_path):
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array.copy()
        pixels[0, :] = 32000
        dataset.PixelData = pixels.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", 32000)
        dataset.save_as(path)
    ct = read_ct(tmp_path)
    assert (ct.hu[:, 0, :] == -1024).all()
    assert ct.hu.max() < 1000


def test_enhanced_multiframe_ct_is_read(tmp_path: Path) -> None:
    from pydicom import Dataset

    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.diag([2.0, 1.5, 4.0]), (-20, -10, -30)
    stored = (sampled(matrix, (12, 10, 8)) + 1024).astype(np.int16)[::-1].copy()

    def item(**attributes: object) -> Dataset:
        dataset = Dataset()
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        return dataset

    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[1.5, 2.0], SliceThickness=4.0)],
        PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1024)],
    )
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=[-20, -10, -30 + 4 * k])]) for k in reversed(range(8))]
    path = dicom(
        tmp_path / "enhanced.dcm", stored, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=frames
    )
    for source in (path, tmp_path):
        assert_true_to_place(read_ct(source))


def test_no_patient_data_in_name_or_notes(tmp_path: Path) -> None:
    ct_series(tmp_path / "a", 9, SeriesInstanceUID="1.2")
    ct_series(tmp_path / "b", 6, SeriesInstanceUID="1.3")
    ct = read_ct(tmp_path)
    assert "Secret" not in ct.name + " ".join(ct.notes)
    assert "4711" not in ct.name + " ".join(ct.notes)


def test_a_file_with_an_illegible_header_is_left_out_and_said(tmp_path: Path) -> None:
    files = ct_series(tmp_path)
    raw = files[-1].read_bytes()
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(raw.replace(b"\x20\x00\x0e\x00UI", b"\x20\x00\x0e\x00U\0", 1))
    assert "1 damaged DICOM files were left out, such as broken.dcm." in read_ct(tmp_path).notes
    for path in files:
        path.unlink()
    assert "only damaged DICOM files" in refusal(tmp_path)
