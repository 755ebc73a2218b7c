"""Radiographs: every kind of picture and DICOM comes out as 0..1 with bone bright, and what is none is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import shared_data
from tests.training.images.makers import compress, ct_series, dicom
from training.errors import UnreadableFile
from training.images import read_radiograph, write_radiograph_png
from training.images.types import Radiograph

ROWS, COLUMNS = 24, 32


@pytest.fixture
def ramp() -> np.ndarray:
    """float [row, column] 0..1, bright to the right and a little brighter downwards."""
    rows, columns = np.mgrid[0:ROWS, 0:COLUMNS]
    return (columns + rows / ROWS) / COLUMNS


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFile) as caught:
        read_radiograph(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def save(path: Path, values: np.ndarray, mode: str | None = None, **options: Any) -> Path:
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def assert_like(radiograph: Radiograph, expected: np.ndarray, tolerance: float = 0.003) -> None:
    assert radiograph.pixels.dtype == np.float32
    assert np.abs(radiograph.pixels - expected).max() <= tolerance


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_8_bit_pictures_are_read(tmp_path: Path, ramp: np.ndarray, ending: str, mode: str) -> None:
    values = np.rint(255 * ramp).astype(np.uint8)
    radiograph = read_radiograph(save(tmp_path / f"chest.{ending}", values, mode))
    assert_like(radiograph, values / 255, 0.03 if ending == "jpg" else 0.003)
    assert radiograph.name == "chest"
    assert (radiograph.spacing, radiograph.view) == (None, "")


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "CMYK"])
def test_alpha_palette_and_print_colours_are_read(tmp_path: Path, ramp: np.ndarray, mode: str) -> None:
    values = np.rint(255 * ramp).astype(np.uint8)
    path = tmp_path / ("chest.tif" if mode == "CMYK" else "chest.png")
    Image.fromarray(values).convert("L" if mode == "P" else "RGB" if mode == "CMYK" else "L").convert(mode).save(path)
    assert_like(read_radiograph(path), values / 255, 0.01)


def test_1_bit_picture_is_read(tmp_path: Path, ramp: np.ndarray) -> None:
    assert_like(read_radiograph(save(tmp_path / "a.png", ramp > 0.5)), ramp > 0.5)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_pictures_are_read_by_the_bits_they_use(tmp_path: Path, ramp: np.ndarray, ending: str) -> None:
    full = np.rint(65535 * ramp).astype(np.uint16)
    radiograph = read_radiograph(save(tmp_path / f"full.{ending}", full))
    assert_like(radiograph, full / 65535, 1e-6)
    assert radiograph.notes == ()
    twelve = np.rint(4095 * ramp).astype(np.uint16)
    radiograph = read_radiograph(save(tmp_path / f"twelve.{ending}", twelve))
    assert_like(radiograph, twelve / 4095, 1e-6)
    assert "4095" in radiograph.notes[0]


def test_float_tiff_is_read(tmp_path: Path, ramp: np.ndarray) -> None:
    assert_like(read_radiograph(save(tmp_path / "a.tif", ramp.astype(np.float32))), ramp, 1e-6)
    wide = read_radiograph(save(tmp_path / "b.tif", (3000 * ramp - 500).astype(np.float32)))
    assert_like(wide, (ramp - ramp.min()) / np.ptp(ramp), 1e-5)


def test_written_radiograph_is_read_back_exactly_however_dark(tmp_path: Path, ramp: np.ndarray) -> None:
    for scale in (1.0, 0.01, 0.0):
        radiograph = Radiograph(np.float32(scale) * ramp.astype(np.float32))
        write_radiograph_png(radiograph, tmp_path / "out" / "r.png")
        assert_like(read_radiograph(tmp_path / "out" / "r.png"), radiograph.pixels, 0.6 / 65535)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["r.png"]


def test_tinted_film_and_coloured_marks_are_accepted_and_a_colour_photograph_is_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = rng.random((80, 90))
    tinted = np.stack([0.8 * grey, 0.9 * grey, np.sqrt(grey)], -1)
    radiograph = read_radiograph(save(tmp_path / "film.png", np.rint(255 * tinted).astype(np.uint8)))
    assert np.corrcoef(radiograph.pixels.ravel(), grey.ravel())[0, 1] > 0.99
    marked = np.rint(255 * np.repeat(grey[..., None], 3, -1)).astype(np.uint8)
    marked[:5, :40] = (255, 0, 0)
    assert read_radiograph(save(tmp_path / "marked.png", marked)).pixels.shape == (80, 90)
    photograph = rng.integers(0, 255, (80, 90, 3)).astype(np.uint8)
    assert "colour photograph" in refusal(save(tmp_path / "photo.png", photograph))
    two_colours = np.zeros((80, 90, 3), np.uint8)
    two_colours[:, :45], two_colours[:, 45:] = (200, 80, 40), (40, 120, 160)
    assert "colour photograph" in refusal(save(tmp_path / "sky.jpg", two_colours))


def test_several_pages_give_the_first_and_say_so(tmp_path: Path, ramp: np.ndarray) -> None:
    values = np.rint(255 * ramp).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "pages.tif", save_all=True, append_images=[Image.fromarray(255 - values)])
    radiograph = read_radiograph(tmp_path / "pages.tif")
    assert_like(radiograph, values / 255)
    assert "2 pages" in radiograph.notes[0]


def test_a_picture_that_viewers_turn_is_read_as_stored_and_says_so(tmp_path: Path, ramp: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "turned.jpg", np.rint(255 * ramp).astype(np.uint8), exif=exif)
    radiograph = read_radiograph(path)
    assert radiograph.pixels.shape == (ROWS, COLUMNS)
    assert "EXIF orientation 6" in " ".join(radiograph.notes)
    exif[0x0112] = 1
    assert not read_radiograph(save(tmp_path / "upright.jpg", np.rint(255 * ramp).astype(np.uint8), exif=exif)).notes


@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.uint16, 4095)])
def test_a_tiff_whose_zero_is_white_is_turned_round(tmp_path: Path, ramp: np.ndarray, dtype: type, full: int) -> None:
    values = np.rint(full * ramp).astype(dtype)
    values.flat[:2] = (0, full)
    stored = values if dtype == np.uint8 else (full - values).astype(dtype)  # Pillow turns 8 bits round as it writes
    Image.fromarray(stored).save(tmp_path / "film.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "film.tif") as written:
        assert written.tag_v2[262] == 0
    assert_like(read_radiograph(tmp_path / "film.tif"), values / full)


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, side: int) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(data)
    assert "100 megapixels" in refusal(tmp_path / "bomb.png")


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_truncated_pictures_are_refused(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (100, 100)).astype(np.uint8)
    path = save(tmp_path / f"a.{ending}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "damaged" in refusal(path)


def test_what_shows_no_chest_is_refused(tmp_path: Path) -> None:
    assert "no file" in refusal(tmp_path / "absent.png")
    assert "same value" in refusal(save(tmp_path / "blank.png", np.full((40, 40), 7, np.uint8)))
    assert "8 x 9 pixels" in refusal(save(tmp_path / "tiny.png", np.zeros((9, 8), np.uint8)))
    (tmp_path / "note.txt").write_text("well")
    assert "no image format" in refusal(tmp_path / "note.txt")
    (tmp_path / "note.png").write_text("well")
    assert "damaged" in refusal(tmp_path / "note.png")
    assert "folder" in refusal(tmp_path)


def cr(path: Path, values: np.ndarray, **changes: Any) -> Path:
    """Write a computed radiograph; values: uint16 of 12 bits."""
    attributes = {"Modality": "CR", "BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096, **changes}
    return dicom(path, values, SOPClassUID="1.2.840.10008.5.1.4.1.1.1", **attributes)


@pytest.fixture
def twelve(ramp: np.ndarray) -> np.ndarray:
    return np.rint(4095 * ramp).astype(np.uint16)


def test_dicom_window_spacing_and_view_are_taken_over(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray) -> None:
    path = cr(tmp_path / "a.dcm", twelve, ImagerPixelSpacing=[0.2, 0.1], PixelSpacing=[0.15, 0.15], ViewPosition="PA")
    radiograph = read_radiograph(path)
    assert_like(radiograph, ramp, 0.001)
    assert radiograph.spacing == (0.2, 0.1)
    assert radiograph.view == "PA"
    assert radiograph.name == "a"
    assert "Secret" not in radiograph.name
    assert read_radiograph(cr(tmp_path / "b.dcm", twelve, PixelSpacing=[0.15, 0.15], ViewPosition="LL")).view == "LATERAL"
    narrow = read_radiograph(cr(tmp_path / "c.dcm", twelve, WindowCenter=["1024", "2000"], WindowWidth=["1024", "10"]))
    assert_like(narrow, np.clip((4095 * ramp - 1023.5) / 1023 + 0.5, 0, 1), 0.002)
    soft = read_radiograph(cr(tmp_path / "d.dcm", twelve, VOILUTFunction="SIGMOID"))
    assert_like(soft, 1 / (1 + np.exp(-4 * (4095 * ramp - 2048) / 4096)), 0.002)


def test_monochrome1_is_inverted_so_that_bone_is_bright(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray) -> None:
    path = cr(tmp_path / "a.dcm", 4095 - twelve, PhotometricInterpretation="MONOCHROME1")
    assert_like(read_radiograph(path), ramp, 0.001)


def test_rescale_and_lookup_tables_are_applied(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray) -> None:
    from pydicom import Dataset

    rescaled = cr(
        tmp_path / "a.dcm",
        twelve,
        RescaleSlope=2,
        RescaleIntercept=-1000,
        RescaleType="US",
        WindowCenter=3095.5,
        WindowWidth=8191,
    )
    assert_like(read_radiograph(rescaled), ramp, 0.002)
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "US", [int(v) for v in np.rint(4095 * (np.arange(4096) / 4095) ** 2)])
    assert_like(read_radiograph(cr(tmp_path / "b.dcm", twelve, VOILUTSequence=[table])), ramp**2, 0.002)


def test_a_lookup_table_in_bytes_has_the_byte_order_of_its_file(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray) -> None:
    import pydicom

    curve = np.rint(4095 * (np.arange(4096) / 4095) ** 2)
    for order, syntax in (("<", pydicom.uid.ExplicitVRLittleEndian), (">", pydicom.uid.ExplicitVRBigEndian)):
        table = pydicom.Dataset()
        table.add_new("LUTDescriptor", "US", [4096, 0, 12])
        table.add_new("LUTData", "OW", curve.astype(f"{order}u2").tobytes())
        dataset = pydicom.Dataset(pydicom.dcmread(cr(tmp_path / "a.dcm", twelve)))
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.VOILUTSequence, dataset.file_meta.TransferSyntaxUID = [table], syntax
        dataset.add_new("PixelData", "OW", twelve.astype(f"{order}u2").tobytes())
        dataset.save_as(tmp_path / "b.dcm", enforce_file_format=True)
        assert_like(read_radiograph(tmp_path / "b.dcm"), ramp**2, 0.002)


@pytest.mark.parametrize("signed", [False, True])
def test_values_in_the_upper_bits_are_brought_down(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray, signed: bool) -> None:
    values = (twelve << 4).astype(np.uint16) if not signed else ((twelve.astype(np.int16) - 2048) << 4).astype(np.int16)
    window = {"WindowCenter": 0 if signed else 2048, "HighBit": 15}
    noise = np.random.default_rng(0).integers(0, 16, values.shape).astype(values.dtype)  # an overlay in the bits below
    assert_like(read_radiograph(cr(tmp_path / "a.dcm", values | noise, **window)), ramp, 0.001)
    if not signed:
        assert_like(read_radiograph(cr(tmp_path / "b.dcm", twelve, **window)), ramp, 0.001)


@pytest.mark.parametrize("high", [16, 255])
def test_a_high_bit_that_no_word_has_is_passed_over(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray, high: int) -> None:
    assert_like(read_radiograph(cr(tmp_path / "a.dcm", twelve, WindowCenter=2048, HighBit=high)), ramp, 0.001)


def test_numbers_with_a_point_end_between_0_and_1(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray) -> None:
    import pydicom

    def floats(name: str, values: np.ndarray, windowed: bool) -> Radiograph:
        dataset = pydicom.dcmread(cr(tmp_path / name, twelve, BitsAllocated=32, BitsStored=32, HighBit=31))
        del dataset.PixelData
        if not windowed:
            del dataset.WindowCenter, dataset.WindowWidth
        dataset.FloatPixelData = values.astype("<f4").tobytes()
        dataset.save_as(tmp_path / name)
        return read_radiograph(tmp_path / name)

    holes = 4095 * ramp.copy()
    holes[0, :3] = np.nan, np.inf, -np.inf
    shown = floats("a.dcm", holes, windowed=True)
    assert_like(Radiograph(shown.pixels[:, 3:]), ramp[:, 3:], 0.001)
    assert shown.pixels[0, :3].max() < 0.05
    for number, values in enumerate((holes, -holes, holes / 1e6 - 7)):
        spread = floats(f"{number}.dcm", values, windowed=False)
        assert (spread.pixels.min(), spread.pixels.max()) == (0, 1)
        assert "spread" in spread.notes[0]


@pytest.mark.parametrize("stated", ["1e400\\inf", "0\\0", "nan\\nan", "-1\\-1", "1e-9\\1e-9", "300\\300"])
def test_a_pixel_spacing_that_no_detector_has_is_not_used(tmp_path: Path, twelve: np.ndarray, stated: str) -> None:
    import pydicom

    dataset = pydicom.dcmread(cr(tmp_path / "a.dcm", twelve))
    dataset.add_new("ImagerPixelSpacing", "LO", stated)
    dataset.save_as(tmp_path / "a.dcm")
    radiograph = read_radiograph(tmp_path / "a.dcm")
    assert radiograph.spacing is None
    assert "no detector has" in radiograph.notes[0]
    dataset.PixelSpacing = [0.2, 0.1]
    dataset.save_as(tmp_path / "a.dcm")
    radiograph = read_radiograph(tmp_path / "a.dcm")
    assert (radiograph.spacing, radiograph.notes) == ((0.2, 0.1), ())


def test_pixels_that_are_not_square_are_said(tmp_path: Path, twelve: np.ndarray) -> None:
    assert "not square (2 to 1)" in read_radiograph(cr(tmp_path / "a.dcm", twelve, PixelAspectRatio=[2, 1])).notes[0]
    assert read_radiograph(cr(tmp_path / "b.dcm", twelve, PixelAspectRatio=[1, 1])).notes == ()


def test_without_a_useful_window_the_values_are_spread_and_that_is_said(tmp_path: Path, twelve: np.ndarray) -> None:
    for name, window in {"none": (None, None), "beside": (30000, 10)}.items():
        values = cr(tmp_path / f"{name}.dcm", twelve)
        if window[0] is None:
            import pydicom

            dataset = pydicom.dcmread(values)
            del dataset.WindowCenter, dataset.WindowWidth
            dataset.save_as(values)
        else:
            cr(values, twelve, WindowCenter=window[0], WindowWidth=window[1])
        radiograph = read_radiograph(values)
        assert radiograph.pixels.min() == 0
        assert radiograph.pixels.max() == 1
        assert "spread" in radiograph.notes[0]


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (["L", "F"], lambda a: a),
        (["R", "F"], lambda a: a[:, ::-1]),
        (["L", "H"], lambda a: a[::-1]),
        (["F", "L"], lambda a: a.T),
        (["A", "F"], lambda a: a),
    ],
)
def test_stated_orientation_brings_patient_right_to_image_left(
    tmp_path: Path, ramp: np.ndarray, orientation: list[str], undo: Any
) -> None:
    stored = np.rint(4095 * undo(ramp)).astype(np.uint16)
    radiograph = read_radiograph(cr(tmp_path / "a.dcm", stored, PatientOrientation=orientation))
    assert_like(radiograph, ramp, 0.001)
    assert bool(radiograph.notes) == (orientation not in (["L", "F"], ["A", "F"]))


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEG2000Lossless", "RLELossless"])
def test_compressed_dicom_radiographs_are_read(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray, syntax: str) -> None:
    path = cr(tmp_path / "a.dcm", twelve)
    compress(path, syntax)
    assert_like(read_radiograph(path), ramp, 0.001)


def test_frames_and_screenshots_are_said(tmp_path: Path, ramp: np.ndarray, twelve: np.ndarray) -> None:
    radiograph = read_radiograph(cr(tmp_path / "run.dcm", np.stack([twelve, 4095 - twelve]), Modality="XA"))
    assert_like(radiograph, ramp, 0.001)
    assert "2 frames" in radiograph.notes[0]
    grey = np.repeat(np.rint(255 * ramp).astype(np.uint8)[..., None], 3, -1)
    shot = read_radiograph(dicom(tmp_path / "shot.dcm", grey, Modality="OT"))
    assert "does not say" in shot.notes[0]
    assert shot.pixels[0, -1] > shot.pixels[0, 0]


def test_other_dicom_files_are_refused_with_their_modality(tmp_path: Path, twelve: np.ndarray) -> None:
    assert "CT slice" in refusal(ct_series(tmp_path / "ct", 1)[0])
    assert "modality MR" in refusal(dicom(tmp_path / "mr.dcm", twelve, Modality="MR"))
    path = cr(tmp_path / "cut.dcm", twelve)
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged" in refusal(path)
    import pydicom

    dataset = pydicom.dcmread(ct_series(tmp_path / "sr", 1)[0])
    del dataset.Rows, dataset.Columns, dataset.PixelData
    dataset.Modality = "CR"
    dataset.save_as(tmp_path / "sr.dcm")
    assert "without an image" in refusal(tmp_path / "sr.dcm")


def test_real_radiographs_are_read() -> None:
    files = sorted(shared_data("cxr_ccby", "images").iterdir())
    for path in files[::10]:
        radiograph = read_radiograph(path)
        assert radiograph.pixels.min() >= 0
        assert radiograph.pixels.max() <= 1
        assert radiograph.pixels.std() > 0.05


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    from tests.corpus_dicom import _palette, ramp

    radiograph = read_radiograph(_palette(grey=True)(tmp_path))
    assert np.corrcoef(radiograph.pixels.ravel(), ramp().ravel())[0, 1] < -0.999, "the table falls"
