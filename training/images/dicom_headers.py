"""DICOM headers: which series lie in a folder, and what each of their slices says of itself."""

from __future__ import annotations

import logging
import os
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import UnreadableFile
from training.images.paths import READING_ERRORS, existing, is_volume_name, kind, stem

MOST_UNPACKED = 1 << 30
"""Bytes that a deflated DICOM file may unpack to."""
_HEAD_BYTES = 1 << 20
_DEFLATED = b"1.2.840.10008.1.2.1.99"

MOST_FILES = 50_000
"""A folder with more files is somebody's whole disk, not an examination."""

PIXEL_SPACING_MM = 0.01, 20.0
"""No detector and no scanner has a finer or coarser pixel spacing; a file that states one is wrong."""

_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Modality", "ImageType"),
    *("PatientID", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
]

logging.getLogger("pydicom").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Series:
    """One DICOM series in a folder: its number of slices, and their thickness [mm], 0 where not stated."""

    uid: str
    description: str
    slices: int
    modality: str
    thickness: float = 0.0


@dataclass(frozen=True)
class Slice:
    """One slice of a CT: the file and frame that hold it, its place in the patient [mm, LPS], and what makes HU of its values."""

    path: Path
    frame: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]
    size: tuple[int, int]
    slope: float
    intercept: float
    padding: float | None
    thickness: float
    identity: str
    belongs: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """A series with its slices; localizers are left out and counted. damaged: files of the same scan without a legible header;
    unplaced: those of CT images that do not state where in the patient they lie."""

    series: Series
    slices: tuple[Slice, ...]
    localizers: int
    damaged: tuple[str, ...] = ()
    unplaced: tuple[str, ...] = ()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the remarks of pydicom, GDCM and ITK on odd headers from the user's console."""
    import gdcm
    import pydicom

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    mode = pydicom.config.settings.reading_validation_mode
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        pydicom.config.settings.reading_validation_mode = mode


def dicom_errors() -> tuple[type[Exception], ...]:
    """What pydicom and its decoders raise when a file is damaged."""
    import pydicom
    from PIL import Image

    own = (pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, Image.DecompressionBombError)
    return (*READING_ERRORS, struct.error, zlib.error, AttributeError, MemoryError, *own)


def read_dataset(path: Path, **options: Any) -> Any:
    """Read a DICOM file with pydicom, after a look at what a deflated one unpacks to. Call within `quiet`.

    options: of pydicom.dcmread. Raises dicom_errors; a file that unpacks to more than any image has counts as damaged.
    """
    import pydicom

    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if _DEFLATED in head:
            # Where the data begin is not worth finding out exactly: a bomb is one from wherever it unpacks.
            start = 144 + int.from_bytes(head[140:144], "little") if head[128:132] == b"DICM" else len(head)
            file.seek(start)
            unpacker, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
            while not unpacker.eof and size <= MOST_UNPACKED:
                part = unpacker.unconsumed_tail or file.read(_HEAD_BYTES)
                if not part:
                    break
                size += len(unpacker.decompress(part, _HEAD_BYTES))
            if size > MOST_UNPACKED or start == len(head):
                raise ValueError(f"unpacks to more than {MOST_UNPACKED} bytes")
    return pydicom.dcmread(path, force=True, **options)


def read_header(path: Path, tags: list[str] | None = None) -> Any | None:
    """Return a file's header without pixels (all of it, or only `tags`), or None when it is damaged. Call within `quiet`."""
    try:
        header = read_dataset(path, stop_before_pixels=True, specific_tags=tags)
        for _ in header:  # pydicom understands an element when it is asked for it: damage shows here and not later
            pass
        return header
    except dicom_errors():
        return None


def dicom_files(folder: Path) -> list[Path]:
    """Return the DICOM files in a folder and the folders below it, in a fixed order; DICOMDIR and hidden files are left out."""
    found, seen = [], 0
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        seen += len(names)
        if seen > MOST_FILES:
            raise UnreadableFile(f"{folder.name} holds more than {MOST_FILES} files; point at the folder of one examination.")
        for name in sorted(names):
            path = Path(here, name)
            if not name.startswith(".") and name.upper() != "DICOMDIR" and path.is_file() and kind(path) == "dicom":
                found.append(path)
    return found


def list_series(folder: str | os.PathLike[str]) -> list[Series]:
    """Return the series in a DICOM folder (folders below it included), the one that `read_ct` would choose first.

    Raises UnreadableFile when there is no DICOM file in it.
    """
    found = scan(existing(folder))
    return [one.series for one in sorted(found, key=preference)]


def preference(found: Found) -> tuple[Any, ...]:
    """Sort key of the choice: a CT before other modalities, more slices before fewer, thinner before thicker, then by UID."""
    series = found.series
    return series.modality != "CT", -series.slices, series.thickness or np.inf, series.uid


def scan(path: Path) -> list[Found]:
    """Return every series of a folder, or of one file. Raises UnreadableFile when there is none."""
    files = dicom_files(path) if path.is_dir() else [path]
    if not files:
        raise _without_dicom(path)
    by_uid: dict[str, list[tuple[Path, Any]]] = {}
    damaged: list[str] = []
    with quiet():
        for file in files:
            header = read_header(file, _TAGS)
            if header is None:
                damaged.append(file.name)
            elif word(header, "SeriesInstanceUID"):
                by_uid.setdefault(word(header, "SeriesInstanceUID"), []).append((file, header))
        found = [_found(uid, items, tuple(damaged)) for uid, items in by_uid.items()]
    if not found and damaged:
        raise UnreadableFile(f"{path.name} holds only damaged DICOM files, such as {damaged[0]}; copy or export them again.")
    if not found:
        raise UnreadableFile(
            f"{path.name} holds DICOM files without a series, such as a DICOMDIR; give the folder of the slices themselves."
        )
    return found


def _without_dicom(folder: Path) -> UnreadableFile:
    volumes = sorted(path.name for path in folder.iterdir() if is_volume_name(path))
    if volumes:
        return UnreadableFile(f"{stem(folder)} holds no DICOM files; it holds {volumes[0]}: give that file itself.")
    return UnreadableFile(f"{stem(folder)} holds no DICOM files; give the folder that the scanner's or archive's export made.")


def _found(uid: str, items: list[tuple[Path, Any]], damaged: tuple[str, ...]) -> Found:
    slices: list[Slice] = []
    unplaced: list[str] = []
    localizers = 0
    for path, header in items:
        if "LOCALIZER" in [str(part).upper() for part in _list(header, "ImageType")]:
            localizers += 1
            continue
        of_file = _slices(path, header)
        slices += filter(None, of_file)
        # Screenshots and reports that lie among the slices have no place; a CT image must.
        if None in of_file and word(header, "SOPClassUID").startswith(_CT_IMAGES):
            unplaced.append(path.name)
    first = items[0][1]
    thickness = Counter(one.thickness for one in slices).most_common(1)[0][0] if slices else 0.0
    series = Series(uid, word(first, "SeriesDescription"), len(slices), word(first, "Modality", 16), thickness)
    return Found(series, tuple(slices), localizers, damaged, tuple(unplaced))


_CT_IMAGES = "1.2.840.10008.5.1.4.1.1.2"
"""SOP classes of CT images begin so: CT, enhanced CT, legacy converted enhanced CT."""


def _slices(path: Path, header: Any) -> list[Slice | None]:
    """Return the slices of a file, one, or one per frame of an enhanced multi-frame image; None for one without a place."""
    shared = _first(header, "SharedFunctionalGroupsSequence")
    frames = _list(header, "PerFrameFunctionalGroupsSequence")
    found: list[Slice | None] = []
    for number, frame in enumerate(frames or [None]):
        try:
            found.append(_slice(path, header, [group for group in (frame, shared) if group is not None], number, bool(frames)))
        except (ValueError, TypeError, AttributeError):
            found.append(None)
    if frames and str(header.get("NumberOfFrames", "")).strip() != str(len(frames)):
        return [None]  # which frame lies where is not known
    return found


def _slice(path: Path, header: Any, groups: list[Any], number: int, framed: bool) -> Slice | None:
    position = _numbers(header, groups, "PlanePositionSequence", "ImagePositionPatient")
    orientation = _numbers(header, groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    spacing = _numbers(header, groups, "PixelMeasuresSequence", "PixelSpacing")
    if (len(position), len(orientation), len(spacing)) != (3, 6, 2):
        return None
    transform = "PixelValueTransformationSequence"
    return Slice(
        path=path,
        frame=number if framed else -1,
        position=position,
        orientation=orientation,
        spacing=spacing,
        size=(int(header.Rows), int(header.Columns)),
        slope=_number(header, groups, transform, "RescaleSlope") or 1.0,
        intercept=_number(header, groups, transform, "RescaleIntercept") or 0.0,
        padding=_number(header, [], "", "PixelPaddingValue"),
        thickness=_number(header, groups, "PixelMeasuresSequence", "SliceThickness") or 0.0,
        identity=f"{header.get('SOPInstanceUID', path)}#{number}",
        belongs=tuple(str(header.get(tag, "")) for tag in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID")),
    )


def word(header: Any, keyword: str, most: int = 64) -> str:
    """Return a text of a header, cut to what such texts may have; "" where it is no text: a sequence would tell everything."""
    value = header.get(keyword, None)
    return str(value).strip()[:most] if isinstance(value, str) else ""


def believable(spacing: Iterable[float]) -> bool:
    """True for pixel spacings [mm] that a detector or scanner may have."""
    return all(PIXEL_SPACING_MM[0] <= step <= PIXEL_SPACING_MM[1] for step in spacing)


def _list(header: Any, keyword: str) -> list[Any]:
    value = header.get(keyword, None)
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _first(header: Any, keyword: str) -> Any | None:
    items = _list(header, keyword)
    return items[0] if items else None


def _numbers(header: Any, groups: list[Any], sequence: str, keyword: str) -> tuple[float, ...]:
    """Numbers of an attribute: from the first functional group that has its sequence, else from the header itself."""
    for group in groups:
        item = _first(group, sequence)
        if item is not None and item.get(keyword, None) is not None:
            return tuple(float(v) for v in item.get(keyword))
    return tuple(float(v) for v in header.get(keyword, None) or ())


def _number(header: Any, groups: list[Any], sequence: str, keyword: str) -> float | None:
    for group in groups:
        item = _first(group, sequence)
        if item is not None and item.get(keyword, None) is not None:
            return float(item.get(keyword))
    value = header.get(keyword, None)
    return None if value is None or value == "" else float(value)
