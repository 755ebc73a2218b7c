"""Broken and odd volume files of the corpus: NIfTI, NRRD, MetaImage."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.corpus import Entry
from tests.training.images.makers import affine, sampled, write_itk

SPACING, SIZE = (2.0, 1.5, 3.0), (9, 8, 7)
MATRIX = affine(np.eye(3), SPACING, (-8.0, -6.0, -9.0))


def _plain(ending: str = ".nii", array: np.ndarray | None = None, matrix: np.ndarray = MATRIX) -> Callable[[Path], Path]:
    return lambda folder: write_itk(folder / f"ct{ending}", sampled(MATRIX, SIZE) if array is None else array, matrix)


def _raw(change: Callable[[bytearray], None], array: np.ndarray | None = None) -> Callable[[Path], Path]:
    """A .nii file whose bytes are changed in place."""

    def make(folder: Path) -> Path:
        path = _plain(array=array)(folder)
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)
        return path

    return make


def _floats(value: float, everywhere: bool = False) -> np.ndarray:
    array = sampled(MATRIX, SIZE).astype(np.float32)
    array[slice(None) if everywhere else 2] = value
    return array


def _qform_elsewhere(raw: bytearray) -> None:
    raw[268:280] = np.array([500, -300, 70], "<f4").tobytes()


def _no_orientation(raw: bytearray) -> None:
    raw[252:256] = bytes(4)


def _absurd(raw: bytearray) -> None:
    raw[42:48] = np.array([32767] * 3, "<i2").tobytes()


def _zero_spacing(raw: bytearray) -> None:
    raw[252:256] = bytes(4)
    raw[80:92] = bytes(12)


def _complex(raw: bytearray) -> None:
    raw[70:72] = (32).to_bytes(2, "little")


def _sheared(raw: bytearray) -> None:
    raw[252:254] = bytes(2)
    raw[280:328] = np.array([[-2, 1, 0, 0], [0, -1.5, 0, 0], [0, 0, 3, 0]], "<f4").tobytes()


def _flat(raw: bytearray) -> None:
    raw[252:254] = bytes(2)
    raw[280:328] = np.array([[-2, -2, 0, 0], [0, 0.001, 0, 0], [0, 0, 3, 0]], "<f4").tobytes()


def _cut(ending: str, part: float) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        path = write_itk(folder / f"ct{ending}", rng.integers(-1000, 1000, (20, 30, 40)).astype(np.int16), MATRIX)
        path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
        return path

    return make


def _four_dimensional(folder: Path) -> Path:
    import SimpleITK as sitk

    volumes = [sitk.GetImageFromArray(sampled(MATRIX, SIZE)) for _ in range(3)]
    sitk.WriteImage(sitk.JoinSeries(volumes), str(folder / "time.nii.gz"))
    return folder / "time.nii.gz"


def _outside(text: str, name: str) -> Callable[[Path], Path]:
    """A header that takes its data from a file of another folder."""

    def make(folder: Path) -> Path:
        (folder / "secret.raw").write_bytes(sampled(MATRIX, (8, 8, 8)).tobytes())
        (folder / "ct").mkdir()
        (folder / "ct" / name).write_text(text)
        return folder / "ct" / name

    return make


_NHDR = """NRRD0004
type: short
dimension: 3
sizes: 8 8 8
encoding: raw
endian: little
data file: ../secret.raw

"""
_MHD = """ObjectType = Image
NDims = 3
DimSize = 8 8 8
ElementType = MET_SHORT
ElementDataFile = ../secret.raw
"""


def _flipped(folder: Path) -> Path:
    """A compressed MetaImage file with a damaged byte."""
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(sampled(MATRIX, SIZE)), str(folder / "ct.mha"), True)
    content = bytearray((folder / "ct.mha").read_bytes())
    content[-100] ^= 0x55
    (folder / "ct.mha").write_bytes(content)
    return folder / "ct.mha"


def _huge_nrrd(folder: Path) -> Path:
    head = _NHDR.replace("8 8 8", "60000 60000 60000").replace("data file: ../secret.raw\n", "").replace("raw", "gzip")
    (folder / "ct.nrrd").write_bytes(head.encode() + gzip.compress(bytes(1000)))
    return folder / "ct.nrrd"


def _text(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


ENTRIES = [
    Entry("NIfTI", "ct", _plain(".nii.gz")),
    Entry("NIfTI 4D", "ct", _four_dimensional, "dimensions"),
    Entry("NIfTI with NaN", "ct", _plain(array=_floats(np.nan))),
    Entry("NIfTI with infinity", "ct", _plain(array=_floats(np.inf))),
    Entry("NIfTI of nothing but NaN", "ct", _plain(array=_floats(np.nan, everywhere=True)), "no CT in Hounsfield units"),
    Entry("NIfTI qform and sform disagree", "ct", _raw(_qform_elsewhere)),
    Entry("NIfTI negative determinant", "ct", _plain(matrix=affine(np.diag([-1.0, 1, 1]), SPACING, (8.0, -6.0, -9.0)))),
    Entry("NIfTI without orientation", "ct", _raw(_no_orientation)),
    Entry("NIfTI sheared", "ct", _raw(_sheared)),
    Entry("NIfTI flat axes", "ct", _raw(_flat), "do not span the room"),
    Entry("NIfTI zero spacing", "ct", _raw(_zero_spacing), "voxel spacing of zero"),
    Entry("NIfTI complex values", "ct", _raw(_complex), "no plain numbers"),
    Entry("NIfTI header of absurd size", "ct", _raw(_absurd), "damaged or incomplete"),
    Entry("NIfTI gz cut short", "ct", _cut(".nii.gz", 0.6), "damaged or incomplete"),
    Entry("NIfTI cut short", "ct", _cut(".nii", 0.97), "damaged or incomplete"),
    Entry("NRRD cut short", "ct", _cut(".nrrd", 0.5), "damaged or incomplete"),
    Entry("NRRD of 60,000 voxels a side", "ct", _huge_nrrd, "more than any CT has"),
    Entry("NRRD with data outside its folder", "ct", _outside(_NHDR, "ct.nhdr"), "outside its own folder"),
    Entry("MetaImage cut short", "ct", _cut(".mha", 0.5), "damaged or incomplete"),
    Entry("MetaImage with data outside its folder", "ct", _outside(_MHD, "ct.mhd"), "outside its own folder"),
    Entry(
        "NRRD with a long header", "ct", _outside(_NHDR.replace("\n", "\n#" + "x" * 70_000 + "\n", 1), "ct.nhdr"), "outside its"
    ),
    Entry("MetaImage compressed and damaged", "ct", _flipped, "damaged or incomplete"),
    Entry(
        "MetaImage with formats for names", "ct", _outside(_MHD.replace("../secret.raw", "%s%n%d 1 8 1"), "ct.mhd"), "no files"
    ),
    Entry("label map as a CT", "ct", _plain(array=np.tile(np.arange(9, dtype=np.uint8), (7, 8, 1))), "open it as labels"),
    Entry("text as a CT", "ct", _text("ct.nii.gz", b"patient is well"), "damaged or not what its name says"),
    Entry("empty file", "ct", _text("ct.nii", b""), "empty file"),
    Entry("name that acts on a terminal", "ct", _text("a\n\x1b[31m{0}%s<img src=x>.nii", b"no"), "damaged or not what"),
]
