"""Broken and odd DICOM of the corpus: CT series and radiographs."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus import Entry
from tests.training.images.makers import compress, ct_series, dicom, sampled

ROWS, COLUMNS = 24, 32
CR_STORAGE = "1.2.840.10008.5.1.4.1.1.1"


def _series(**changes: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        ct_series(folder / "ct", **changes)
        return folder / "ct"

    return make


def _changed(change: Callable[[Any, int], None]) -> Callable[[Path], Path]:
    """A series with every slice's data set changed; the change gets it and its number."""

    def make(folder: Path) -> Path:
        import pydicom

        for number, path in enumerate(ct_series(folder / "ct")):
            dataset = pydicom.dcmread(path)
            change(dataset, number)
            dataset.save_as(path)
        return folder / "ct"

    return make


def _packed(syntax: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        for path in ct_series(folder / "ct", size=(32, 40)):
            compress(path, syntax)
        return folder / "ct"

    return make


def _cut(count: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = ct_series(folder / "ct")[3]
        path.write_bytes(path.read_bytes()[:-count])
        return folder / "ct"

    return make


def _twice(folder: Path) -> Path:
    shutil.copy(ct_series(folder / "ct")[3], folder / "ct" / "again.dcm")
    return folder / "ct"


def _two_of_one_uid(folder: Path) -> Path:
    ct_series(folder / "ct")
    ct_series(folder / "ct", prefix="late")
    return folder / "ct"


def _two_series(folder: Path) -> Path:
    ct_series(folder / "ct" / "a", 9, SeriesInstanceUID="1.2", SeriesDescription="{0.__class__} %s %p <b>&\x1b[31m")
    ct_series(folder / "ct" / "b", 6, SeriesInstanceUID="1.3", SeriesDescription="../../up")
    return folder / "ct"


def _turned(folder: Path) -> Path:
    ct_series(folder / "ct")
    ct_series(folder / "ct", origin=(-20.0, -10.0, 2.0), prefix="late", orientation=(1, 0, 0, 0, 0, -1))
    return folder / "ct"


def _uneven(folder: Path) -> Path:
    ct_series(folder / "ct", 8)
    ct_series(folder / "ct", 8, origin=(-20.0, -10.0, 2.0), spacing=(2.0, 1.5, 5.5), prefix="wider")
    return folder / "ct"


def _tilted(folder: Path) -> Path:
    angle = np.radians(15)
    orientation = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    ct_series(folder / "ct", 12, size=(20, 12), orientation=orientation, step=(0.0, 0.0, 4.0))
    return folder / "ct"


def _without(*keywords: str) -> Callable[[Path], Path]:
    def change(dataset: Any, _: int) -> None:
        for keyword in keywords:
            delattr(dataset, keyword)

    return _changed(change)


def _unsigned(dataset: Any, _: int) -> None:
    dataset.PixelRepresentation = 0


def _twelve_bits(dataset: Any, _: int) -> None:
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0


def _enhanced(folder: Path) -> Path:
    from pydicom import Dataset

    def item(**attributes: Any) -> Dataset:
        dataset = Dataset()
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        return dataset

    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.diag([2.0, 1.5, 4.0]), (-20, -10, -30)
    stored = (sampled(matrix, (12, 10, 8)) + 1024).astype(np.int16)
    shared = item(
        PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
        PixelMeasuresSequence=[item(PixelSpacing=[1.5, 2.0], SliceThickness=4.0)],
        PixelValueTransformationSequence=[item(RescaleSlope=1, RescaleIntercept=-1024)],
    )
    frames = [item(PlanePositionSequence=[item(ImagePositionPatient=[-20, -10, -30 + 4 * k])]) for k in range(8)]
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    return dicom(folder / "enhanced.dcm", stored, SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1", **groups)


def _last_lack(*keywords: str) -> Callable[[Path], Path]:
    """A series of eight, the last three without these attributes."""

    def change(dataset: Any, number: int) -> None:
        for keyword in keywords if number > 4 else ():
            delattr(dataset, keyword)

    return _changed(change)


def _frames(count: int) -> Callable[[Path], Path]:
    """The enhanced multi-frame file with places for so many of its eight frames."""

    def make(folder: Path) -> Path:
        import pydicom

        dataset = pydicom.dcmread(_enhanced(folder))
        groups = list(dataset.PerFrameFunctionalGroupsSequence)
        dataset.PerFrameFunctionalGroupsSequence = (groups * 2)[:count]
        dataset.save_as(folder / "enhanced.dcm")
        return folder / "enhanced.dcm"

    return make


def _screenshot_beside(folder: Path) -> Path:
    """A series with a screenshot filed under it, which has no place in the patient."""
    ct_series(folder / "ct")
    dicom(folder / "ct/report.dcm", ramp(), SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    return folder / "ct"


def _absurd_size(dataset: Any, _: int) -> None:
    dataset.Rows = dataset.Columns = 60_000


def _nonsense(folder: Path) -> Path:
    (folder / "ct").mkdir()
    (folder / "ct" / "x.dcm").write_bytes(bytes(128) + b"DICM" + b"nonsense" * 20)
    return folder / "ct"


def _dicomdir(folder: Path) -> Path:
    (folder / "ct").mkdir()
    (folder / "ct" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    return folder / "ct"


def ramp() -> np.ndarray:
    """uint16 [row, column] of 12 bits, brighter to the right."""
    return np.rint(4095 * np.add.outer(np.arange(ROWS) / ROWS, np.arange(COLUMNS)) / COLUMNS).astype(np.uint16)


def cr(path: Path, values: np.ndarray | None = None, **changes: Any) -> Path:
    """Write a computed radiograph of 12 bits."""
    attributes = {"Modality": "CR", "BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096, **changes}
    return dicom(path, ramp() if values is None else values, SOPClassUID=CR_STORAGE, **attributes)


def _cr(**changes: Any) -> Callable[[Path], Path]:
    return lambda folder: cr(folder / "chest.dcm", **changes)


def _cr_packed(syntax: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = cr(folder / "chest.dcm")
        compress(path, syntax)
        return path

    return make


def _cr_changed(change: Callable[[Any], None]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import pydicom

        path = cr(folder / "chest.dcm")
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)
        return path

    return make


def _signed(dataset: Any) -> None:
    values = (ramp().astype(np.int16) - 2048).tobytes()
    dataset.PixelRepresentation, dataset.PixelData, dataset.WindowCenter = 1, values, 0


def _no_pixels(dataset: Any) -> None:
    del dataset.PixelData


def _no_image(dataset: Any) -> None:
    del dataset.Rows, dataset.Columns, dataset.PixelData


def _cr_cut(folder: Path) -> Path:
    path = cr(folder / "chest.dcm")
    path.write_bytes(path.read_bytes()[:-100])
    return path


def deflated_bomb(path: Path, unpacked: int) -> Path:
    """Write a deflated DICOM file whose data set unpacks to so many zeros [bytes]."""
    uid = b"1.2.840.10008.1.2.1.99"
    syntax = b"\x02\x00\x10\x00UI" + len(uid).to_bytes(2, "little") + uid
    meta = b"\x02\x00\x00\x00UL\x04\x00" + len(syntax).to_bytes(4, "little") + syntax
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    data = b"".join(packer.compress(bytes(1 << 24)) for _ in range(unpacked >> 24)) + packer.flush()
    path.write_bytes(bytes(128) + b"DICM" + meta + data)
    return path


def _palette(grey: bool) -> Callable[[Path], Path]:
    """A scanned film whose stored values are places in a table of greys, the last one black, or of colours."""

    def make(folder: Path) -> Path:
        falling = (65535 - 257 * np.arange(256)).astype("<u2")
        mixed = [falling if grey else np.random.default_rng(seed).permutation(falling) for seed in range(3)]
        tables = dict(zip(("Red", "Green", "Blue"), mixed, strict=True))
        lut: dict[str, Any] = {}
        for name, table in tables.items():
            lut[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
            lut[f"{name}PaletteColorLookupTableData"] = table.tobytes()
        spread = np.random.default_rng(3).permutation(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 256
        values = (np.rint(255 * (ramp() / ramp().max())) if grey else spread).astype(np.uint8)
        return dicom(
            folder / "palette.dcm", values, SOPClassUID="1.2.840.10008.5.1.4.1.1.7", Modality="OT",
            PhotometricInterpretation="PALETTE COLOR", BurnedInAnnotation="NO", **lut,
        )  # fmt: skip

    return make


ENTRIES = [
    Entry("DICOM series", "ct", _series()),
    Entry("DICOM slice cut short", "ct", _cut(50), "damaged or incomplete"),
    Entry("DICOM missing slice", "ct", _series(count=12, skip=(5,)), "A slice is missing"),
    Entry("DICOM duplicate slice", "ct", _twice, "holds a slice twice"),
    Entry("DICOM two series under one UID", "ct", _two_of_one_uid, "Two series are mixed"),
    Entry("DICOM two series", "ct", _two_series),
    Entry("DICOM mixed orientations", "ct", _turned, "Two series are mixed"),
    Entry("DICOM gantry tilt", "ct", _tilted),
    Entry("DICOM unequal spacing", "ct", _uneven, "unevenly spaced"),
    Entry("DICOM JPEG Lossless", "ct", _packed("JPEGLosslessProcess14_1")),
    Entry("DICOM JPEG 2000", "ct", _packed("JPEG2000Lossless")),
    Entry("DICOM JPEG-LS", "ct", _packed("JPEGLSLossless")),
    Entry("DICOM RLE", "ct", _packed("RLELossless")),
    Entry("DICOM without rescale", "ct", _without("RescaleSlope", "RescaleIntercept"), "no CT in Hounsfield units"),
    Entry("DICOM unsigned", "ct", _changed(_unsigned)),
    Entry("DICOM 12 bit", "ct", _changed(_twelve_bits)),
    Entry("DICOM enhanced multi-frame", "ct", _enhanced),
    Entry("DICOM wrong SOP class", "ct", _series(SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR"), "no CT series"),
    Entry("DICOM without pixel data", "ct", _without("PixelData"), "damaged or incomplete"),
    Entry("DICOM of 60,000 x 60,000 pixels", "ct", _changed(_absurd_size), "voxels, more than any CT|damaged or incomplete"),
    Entry("DICOM without positions", "ct", _without("ImagePositionPatient"), "none with a position"),
    Entry("DICOM some slices without positions", "ct", _last_lack("ImagePositionPatient"), "do not say where"),
    Entry("DICOM some slices without a size", "ct", _last_lack("Rows"), "do not say where|damaged or incomplete"),
    Entry("DICOM multi-frame with too few places", "ct", _frames(6), "do not say where|none with a position"),
    Entry("DICOM multi-frame with too many places", "ct", _frames(10), "do not say where|none with a position"),
    Entry("DICOM screenshot among the slices", "ct", _screenshot_beside),
    Entry("DICOM four slices", "ct", _series(count=4), "4 slices"),
    Entry("DICOM one slice alone", "ct", lambda folder: ct_series(folder / "ct")[0], "one slice of a CT"),
    Entry("DICOM nonsense", "ct", _nonsense, "DICOM files"),
    Entry("DICOM nothing but a DICOMDIR", "ct", _dicomdir, "no DICOM files"),
    Entry("DICOM radiograph", "radiograph", _cr()),
    Entry("DICOM radiograph MONOCHROME1", "radiograph", _cr(PhotometricInterpretation="MONOCHROME1")),
    Entry("DICOM radiograph signed", "radiograph", _cr_changed(_signed)),
    Entry("DICOM radiograph 16 bit", "radiograph", _cr(values=16 * ramp(), BitsStored=16, HighBit=15, WindowWidth=65535)),
    Entry("DICOM radiograph JPEG Lossless", "radiograph", _cr_packed("JPEGLosslessProcess14_1")),
    Entry("DICOM radiograph JPEG 2000", "radiograph", _cr_packed("JPEG2000Lossless")),
    Entry("DICOM radiograph several frames", "radiograph", _cr(values=np.stack([ramp(), ramp()[::-1]]), Modality="XA")),
    Entry("DICOM radiograph cut short", "radiograph", _cr_cut, "damaged or incomplete"),
    Entry("DICOM radiograph without pixel data", "radiograph", _cr_changed(_no_pixels), "damaged or incomplete"),
    Entry("DICOM radiograph without an image", "radiograph", _cr_changed(_no_image), "without an image"),
    Entry("DICOM radiograph in colours of a palette", "radiograph", _palette(grey=False), "colour photograph"),
    Entry("DICOM radiograph in greys of a palette", "radiograph", _palette(grey=True)),
    Entry("DICOM MR as a radiograph", "radiograph", _cr(Modality="MR"), "modality MR"),
    Entry("DICOM CT slice as a radiograph", "radiograph", lambda folder: ct_series(folder / "ct", 1)[0], "CT slice"),
    Entry(
        "DICOM deflate bomb", "radiograph", lambda folder: deflated_bomb(folder / "bomb.dcm", 1200 << 20), "damaged or incomplete"
    ),
]
