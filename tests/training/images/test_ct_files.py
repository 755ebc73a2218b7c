"""CTs from NIfTI, NRRD and MetaImage files: every orientation lands where it belongs, and what is no CT is refused."""

from __future__ import annotations

import gzip
import itertools
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import shared_data
from tests.training.images.makers import affine, hu_at, places_of, sampled, write_itk
from training.errors import UnreadableFile
from training.images import read_ct, write_ct_nifti
from training.images.types import CT

SPACING = (2.0, 1.5, 3.0)
SIZE = (9, 8, 7)
SIGNS = list(itertools.product((1, -1), repeat=3))
ORIENTATIONS = [np.eye(3)[:, list(order)] * signs for order in itertools.permutations(range(3)) for signs in SIGNS]


def assert_true_to_place(ct: CT, tolerance: float = 0.5) -> None:
    assert np.abs(ct.hu - hu_at(*places_of(ct))).max() <= tolerance


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_every_orientation_is_reordered_exactly(tmp_path: Path, ending: str) -> None:
    for number, directions in enumerate(ORIENTATIONS):
        matrix = affine(directions, SPACING, (-20.0, 5.0, -30.0))
        ct = read_ct(write_itk(tmp_path / f"v{number}{ending}", sampled(matrix, SIZE), matrix))
        assert_true_to_place(ct)
        assert min(ct.spacing) > 0
        assert ct.hu.flags.c_contiguous
        assert ct.notes == ()


@pytest.mark.parametrize("version", ["sform", "qform"])
def test_nifti_orientation_is_found_in_sform_and_qform(tmp_path: Path, version: str) -> None:
    matrix = affine(np.diag([-1.0, 1.0, -1.0]), SPACING, (20.0, -5.0, 3.0))
    raw = bytearray(gzip.decompress(write_itk(tmp_path / "v.nii.gz", sampled(matrix, SIZE), matrix).read_bytes()))
    other = 252 if version == "sform" else 254
    raw[other : other + 2] = b"\0\0"
    (tmp_path / "one.nii").write_bytes(raw)
    assert_true_to_place(read_ct(tmp_path / "one.nii"))


def test_nifti_without_orientation_is_said(tmp_path: Path) -> None:
    matrix = affine(np.eye(3), SPACING, (0.0, 0.0, 0.0))
    raw = bytearray(gzip.decompress(write_itk(tmp_path / "v.nii.gz", sampled(matrix, SIZE), matrix).read_bytes()))
    raw[252:256] = bytes(4)
    (tmp_path / "one.nii").write_bytes(raw)
    assert any("orientation" in note for note in read_ct(tmp_path / "one.nii").notes)


def test_big_endian_and_scaled_nifti_keep_their_values(tmp_path: Path) -> None:
    grid = CT(sampled(affine(np.eye(3), SPACING, (0, 0, -9)), SIZE), SPACING, (0.0, 0.0, -9.0))
    write_ct_nifti(grid, tmp_path / "ct.nii")
    raw = bytearray((tmp_path / "ct.nii").read_bytes())
    raw[112:120] = np.array([2.0, 100.0], "<f4").tobytes()
    (tmp_path / "scaled.nii").write_bytes(raw)
    assert np.abs(read_ct(tmp_path / "scaled.nii").hu - np.maximum(2 * grid.hu + 100, -1024)).max() == 0

    from training.images.nifti import _NIFTI1

    header = np.frombuffer(bytes(raw[:348]), _NIFTI1).astype(_NIFTI1.newbyteorder(">"))
    swapped = bytearray(header.tobytes())
    swapped[0:4], swapped[344:348] = (348).to_bytes(4, "big"), b"n+1\0"
    (tmp_path / "big.nii").write_bytes(bytes(swapped) + bytes(4) + grid.hu.astype(">i2").tobytes())
    assert np.array_equal(read_ct(tmp_path / "big.nii").hu, read_ct(tmp_path / "scaled.nii").hu)


@pytest.mark.parametrize("ending", [".nii", ".nrrd"])
def test_oblique_volume_is_resampled_by_physical_position_and_said(tmp_path: Path, ending: str) -> None:
    angle = np.radians(12)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = affine(tilt, (2.0, 2.0, 2.0), (-20.0, 5.0, -30.0))
    ct = read_ct(write_itk(tmp_path / f"tilted{ending}", sampled(matrix, (12, 30, 28)), matrix))
    assert any("resampled" in note for note in ct.notes)
    expected = hu_at(*places_of(ct))
    middle = (slice(10, -10), slice(10, -10), slice(1, -1))
    assert np.abs(ct.hu - expected)[middle].max() <= 1.5
    assert ct.hu[0, -1, 0] == -1024


def test_a_hair_of_obliqueness_is_not_resampled(tmp_path: Path) -> None:
    turn = np.eye(3)
    turn[0, 1], turn[1, 0] = 1e-4, -1e-4
    matrix = affine(turn / np.linalg.norm(turn, axis=0), SPACING, (0, 0, -9))
    array = sampled(matrix, SIZE)
    ct = read_ct(write_itk(tmp_path / "v.nii", array, matrix))
    assert np.array_equal(ct.hu, array)
    assert ct.notes == ()


def test_padding_fractions_and_high_values_are_handled_and_said(tmp_path: Path) -> None:
    array = np.full((8, 8, 8), -1000.0, np.float32)
    array[0], array[1], array[2, 0, 0], array[3] = -3024, 99.6, np.nan, 40000
    ct = read_ct(write_itk(tmp_path / "v.nii.gz", array, np.eye(4)))
    assert (ct.hu[0] == -1024).all()
    assert (ct.hu[1] == 100).all()
    assert ct.hu[2, 0, 0] == -1024
    assert (ct.hu[3] == 32767).all()
    assert [word in " ".join(ct.notes) for word in ("64 voxels below -1024", "1 voxels without", "rounded", "above 32767")] == [
        True
    ] * 4


def test_written_ct_is_read_back_and_agrees_with_itk(tmp_path: Path) -> None:
    import SimpleITK as sitk

    ct = CT(sampled(affine(np.eye(3), SPACING, (3, -4, -19)), SIZE), SPACING, (3.0, -4.0, -19.0))
    for name in ("a.nii", "a.nii.gz"):
        write_ct_nifti(ct, tmp_path / name)
        back = read_ct(tmp_path / name)
        image = sitk.ReadImage(str(tmp_path / name))
        assert np.array_equal(back.hu, ct.hu)
        assert np.array_equal(sitk.GetArrayFromImage(image), ct.hu)
        assert back.origin == ct.origin == image.GetOrigin()
        assert back.spacing == ct.spacing == image.GetSpacing()
        assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
        assert back.name == "a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii", "a.nii.gz"]


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        read_ct(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_what_is_not_there_or_no_volume_is_refused(tmp_path: Path) -> None:
    from PIL import Image

    assert "no file or folder" in refusal(tmp_path / "absent.nii.gz")
    (tmp_path / "notes.txt").write_text("patient is well")
    assert "no image format" in refusal(tmp_path / "notes.txt")
    (tmp_path / "notes.nii.gz").write_text("patient is well")
    assert "damaged" in refusal(tmp_path / "notes.nii.gz")
    (tmp_path / "empty.nrrd").touch()
    assert "empty file" in refusal(tmp_path / "empty.nrrd")
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "holiday.jpg")
    assert "photograph" in refusal(tmp_path / "holiday.jpg")
    (tmp_path / "folder").mkdir()
    assert "no DICOM" in refusal(tmp_path / "folder")
    write_itk(tmp_path / "folder" / "ct.nii.gz", np.zeros((8, 8, 8), np.int16), np.eye(4))
    assert "ct.nii.gz" in refusal(tmp_path / "folder")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize("part", [0.3, 0.97])
def test_truncated_files_are_refused(tmp_path: Path, ending: str, part: float) -> None:
    rng = np.random.default_rng(0)
    path = write_itk(tmp_path / f"v{ending}", rng.integers(-1000, 1000, (20, 30, 40)).astype(np.int16), np.eye(4))
    data = path.with_suffix(".raw") if ending == ".mhd" else path
    data.write_bytes(data.read_bytes()[: int(part * data.stat().st_size)])
    assert "damaged" in refusal(path)


def test_corrupted_gzip_is_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write_itk(tmp_path / "v.nii.gz", rng.integers(-1000, 1000, (20, 30, 40)).astype(np.int16), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 40] = bytes(40)
    path.write_bytes(raw)
    assert "damaged" in refusal(path)


def compressed(path: Path, change: str = "") -> Path:
    """A compressed MetaImage file of a CT, its data in a file of their own for .mhd, with one thing wrong."""
    array = sampled(affine(np.eye(3), SPACING, (0, 0, -9)), SIZE)
    stream = bytearray(zlib.compress(array.tobytes()[: -100 if change == "short" else None]))
    size = f"CompressedDataSize = {len(stream) - 9 * (change == 'cut')}\n" if change != "unsized" else ""
    if change == "flipped":
        stream[len(stream) // 2] ^= 0x55
    elif change == "garbage":
        stream = bytearray(b"garbage" * 2000)
    head = f"ObjectType = Image\nNDims = 3\nCompressedData = True\n{size}DimSize = 9 8 7\nElementType = MET_SHORT\n"
    if path.suffix == ".mhd":
        path.with_suffix(".zraw").write_bytes(stream)
        path.write_text(head + f"ElementDataFile = {path.stem}.zraw\n")
    else:
        path.write_bytes((head + "ElementDataFile = LOCAL\n").encode() + stream)
    return path


@pytest.mark.parametrize("ending", [".mha", ".mhd"])
def test_compressed_metaimages_are_read_whole_or_refused(tmp_path: Path, ending: str) -> None:
    ct = read_ct(compressed(tmp_path / f"v{ending}"))
    assert np.array_equal(ct.hu, sampled(affine(np.eye(3), SPACING, (0, 0, -9)), SIZE))
    for change in ("short", "cut", "flipped", "garbage"):
        assert "damaged" in refusal(compressed(tmp_path / f"{change}{ending}", change))
    assert "damaged" in refusal(compressed(tmp_path / "unsized.mha", "unsized"))


SLICES = "ObjectType = Image\nNDims = 3\nDimSize = 9 8 7\nElementType = MET_SHORT\nElementDataFile = "
NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nendian: little\nencoding: raw\ndata file: "


@pytest.mark.parametrize(("head", "ending"), [(SLICES, ".mhd"), (NRRD, ".nhdr")])
def test_data_in_a_file_for_each_slice(tmp_path: Path, head: str, ending: str) -> None:
    array = sampled(affine(np.eye(3), SPACING, (0, 0, -9)), SIZE)
    for number, plane in enumerate(array):
        (tmp_path / f"s{number:02}.raw").write_bytes(plane.tobytes())
    path = tmp_path / f"v{ending}"
    for names in ("s%02d.raw 0 6 1", "LIST\n" + "\n".join(f"s{number:02}.raw" for number in range(7))):
        path.write_text(head + names + "\n")
        assert np.array_equal(read_ct(path).hu, array)
    for names in ("%s%s%d 0 6 1", "%s%n%d 0 6 1", "s%02d.raw"):
        path.write_text(head + names + "\n")
        assert "numbers no files" in refusal(path)
    for names in ("s%02d.raw 0 6 0", "s%02d.raw 0 999999999 1", "s%02d.raw 0 3 1"):
        path.write_text(head + names + "\n")
        assert "damaged" in refusal(path)


@pytest.mark.parametrize(("head", "ending"), [(SLICES, ".mhd"), (NRRD, ".nhdr")])
def test_data_of_another_folder_are_not_read(tmp_path: Path, head: str, ending: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(sampled(affine(np.eye(3), SPACING, (0, 0, -9)), SIZE).tobytes())
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "secret.raw")
    path = tmp_path / "in" / f"v{ending}"
    for names in ("../secret.raw", "link.raw", "LIST\n" + "s.raw\n" * 6 + "link.raw"):
        path.write_text(head + names + "\n")
        assert "outside its own folder" in refusal(path)
    begin, end = head.rsplit("\n", 1)
    path.write_text(f"{begin}\n# Comment = {'x' * (1 << 20)}\n{end}link.raw\n")
    assert "more than a megabyte" in refusal(path)


def test_header_of_absurd_size_is_refused_without_unpacking(tmp_path: Path) -> None:
    path = write_itk(tmp_path / "v.nii", np.full((8, 8, 8), -1000, np.int16), np.eye(4))
    raw = bytearray(path.read_bytes())
    raw[42:48] = np.array([32767] * 3, "<i2").tobytes()
    path.write_bytes(raw)
    assert "damaged" in refusal(path)


def test_mhd_without_its_data_names_the_missing_file(tmp_path: Path) -> None:
    path = write_itk(tmp_path / "v.mhd", np.full((8, 8, 8), -1000, np.int16), np.eye(4))
    (tmp_path / "v.raw").unlink()
    assert "v.raw" in refusal(path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_4d_and_colour_files_are_refused(tmp_path: Path, ending: str) -> None:
    import SimpleITK as sitk

    volumes = [sitk.GetImageFromArray(np.full((6, 7, 8), -1000 + n, np.int16)) for n in range(3)]
    sitk.WriteImage(sitk.JoinSeries(volumes), str(tmp_path / f"time{ending}"))
    text = refusal(tmp_path / f"time{ending}")
    assert "dimensions" in text or "values per voxel" in text
    sitk.WriteImage(sitk.Compose(volumes), str(tmp_path / f"colour{ending}"))
    text = refusal(tmp_path / f"colour{ending}")
    assert "dimensions" in text or "values per voxel" in text or "colours" in text


def test_what_is_no_ct_in_hu_is_refused_with_its_range(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 90, (8, 8, 8)).astype(np.uint8)
    assert "label map" in refusal(write_itk(tmp_path / "labels.nii.gz", labels, np.eye(4)))
    unshifted = rng.integers(0, 3000, (8, 8, 8)).astype(np.uint16)
    assert "subtract 1024" in refusal(write_itk(tmp_path / "unshifted.nii.gz", unshifted, np.eye(4)))
    scaled = rng.random((8, 8, 8)).astype(np.float32)
    assert "0 to 1" in refusal(write_itk(tmp_path / "scaled.nii.gz", scaled, np.eye(4)))
    assert "-1000 to -1000" in refusal(write_itk(tmp_path / "air.nii.gz", np.full((8, 8, 8), -1000, np.int16), np.eye(4)))
    thin = np.tile(np.array([-1000, 500], np.int16), (3, 8, 4))
    assert "8 x 8 x 3 voxels" in refusal(write_itk(tmp_path / "thin.nii.gz", thin, np.eye(4)))


def test_real_nrrd_and_its_dicom_series_agree() -> None:
    folder = shared_data("ct_cip_tiny64")
    nrrd, series = read_ct(folder / "ct-64.nrrd"), read_ct(folder / "dicom")
    assert np.array_equal(nrrd.hu, series.hu)
    assert np.allclose(nrrd.origin, series.origin, atol=0.001)
    assert np.allclose(nrrd.spacing, series.spacing, atol=0.001)
    assert series.name == "dicom"
