"""Single volume files: NIfTI by its layout, NRRD and MetaImage through SimpleITK."""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import UnreadableFile
from training.images.grid import Stored
from training.images.nifti import four_dimensional, read_nifti
from training.images.paths import check_volume_size, damaged, kind, leads_outside, not_this

_WANTED = "give a NIfTI (.nii, .nii.gz), NRRD or MHA/MHD file"

MOST_HEADER_BYTES = 1 << 20
"""Headers of NRRD and MetaImage files take some kilobytes; what goes on beyond this is no header."""
MOST_DATA_FILES = 1 << 16

_ENTRIES = {
    "NRRD": re.compile(rb"(?:^|\r)[ \t]*data ?file[ \t]*:[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE),
    "MetaImage": re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*)\r?\n?", re.MULTILINE),
}
_NUMBERED = re.compile("[^%]*%0?[0-9]{0,2}d[^%]*")
_WIDTHS = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
"""MetaImage's types, without MET_ and the U of those without a sign -> bytes."""
_PART = 1 << 16
"""Bytes of a deflated stream taken at a time; they unpack to 70 MB at most."""


def read_stored(path: Path, wanted: str = _WANTED) -> Stored:
    """Read the volume file at an existing path. Raises UnreadableFile; `wanted` is the remedy for a file of another kind."""
    match kind(path):
        case "nifti":
            return read_nifti(path)
        case "nrrd":
            return _read_itk(path, "NrrdImageIO", "NRRD")
        case "meta":
            return _read_itk(path, "MetaImageIO", "MetaImage")
        case _:
            raise not_this(path, wanted)


def _read_itk(path: Path, engine: str, form: str) -> Stored:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(engine)
    reader.SetFileName(str(path))
    try:
        head, entries = _header(path, form)
        files = _data_files(path, head, entries)
        reader.ReadImageInformation()
        sizes = [int(n) for n in reader.GetSize()]
        check_volume_size(path, sizes, reader.GetNumberOfComponents())
        while len(sizes) > 3 and sizes[-1] == 1:
            sizes.pop()
        if len(sizes) > 3:
            raise four_dimensional(path, sizes)
        if reader.GetNumberOfComponents() > 1:
            several = f"{path.name} holds {reader.GetNumberOfComponents()} values per voxel (colours or time points), not one"
            raise UnreadableFile(f"{several}; save one volume of it as its own file.")
        if reader.GetDimension() > 3:
            reader.SetExtractSize([*sizes, 0])
        if form == "MetaImage":
            _check_length(path, head, entries[0], files)
        image = reader.Execute()
    except (RuntimeError, ValueError, OSError, IndexError, zlib.error) as error:
        if "orthonormal" in str(error) or "irection" in str(error):
            raise UnreadableFile(
                f"{path.name} states a sheared orientation, which {form} files cannot be read with; convert it to NIfTI."
            ) from error
        raise damaged(path, form) from error
    array = sitk.GetArrayFromImage(image)
    array = array.reshape((1,) * (3 - array.ndim) + array.shape)
    return Stored(array, _patient_from_index(image), names=_slicer_names(image))


def _header(path: Path, form: str) -> tuple[bytes, list[re.Match[bytes]]]:
    """The first bytes of a file, which hold all of its header, and the entries in it that name where the data lie."""
    with path.open("rb") as file:
        head = file.read(MOST_HEADER_BYTES)
    end = re.search(rb"\n\r?\n", head) if form == "NRRD" else None
    entries = list(_ENTRIES[form].finditer(head, 0, end.start() if end else len(head)))
    if form == "MetaImage":
        entries = entries[:1]  # what follows are voxels
    complete = end if form == "NRRD" else entries
    if len(head) == MOST_HEADER_BYTES and (not complete or any(entry[1].startswith(b"LIST") for entry in entries)):
        raise UnreadableFile(f"{path.name} has a header of more than a megabyte, as no volume has; save it again.")
    return head, entries


def _data_files(path: Path, head: bytes, entries: list[re.Match[bytes]]) -> list[Path]:
    """The files that a header takes its data from, none where they lie in its own. Raises UnreadableFile where one is in
    another folder, by its name or by a link: no volume may have others read for it. A pattern of another kind than ct%03d.raw
    would end the process in ITK's formatting.
    """
    names: list[str] = []
    for entry in entries:
        name = entry[1].decode("utf-8", "replace").strip()
        if name.startswith("LIST"):
            names += [line.strip() for line in head[entry.end() :].decode("utf-8", "replace").splitlines()]
        elif "%" in name:
            pattern, *numbers = name.split()
            if not _NUMBERED.fullmatch(pattern) or len(numbers) < 3:
                raise UnreadableFile(f"{path.name} wants its data from {name}, which numbers no files; save it as one file.")
            low, high, step = (int(number) for number in numbers[:3])
            numbered = range(low, high + (1 if step > 0 else -1), step)
            if len(numbered) > MOST_DATA_FILES:
                raise ValueError("more files than a volume has slices")
            names += [pattern % number for number in numbered]
        elif name != "LOCAL":
            names.append(name)
    files = [path.parent / name for name in names if name]
    homes = (path.parent.resolve(), path.resolve().parent)
    for name, file in zip(filter(None, names), files, strict=True):
        if leads_outside(name) or not any(file.resolve().is_relative_to(home) for home in homes):
            raise UnreadableFile(f"{path.name} wants its data from {name}, outside its own folder; put both into one folder.")
    return files


def _check_length(path: Path, head: bytes, entry: re.Match[bytes], files: list[Path]) -> None:
    """Raise where the data of a MetaImage file are not those that its header promises: ITK would read it without a word."""
    text = head[: entry.start()].decode("latin-1")
    entries = dict(re.findall(r"^[ \t]*(\w+)[ \t]*[=:][ \t]*(.*?)[ \t]*\r?$", text, re.MULTILINE))
    missing = next((file.name for file in files if not file.is_file()), None)
    if missing is not None:
        raise UnreadableFile(f"{path.name} needs its data file {missing} beside it; put both into one folder.")
    begin = 0 if files else entry.end()
    sizes = [file.stat().st_size - begin for file in files or [path]]
    dims = [int(n) for n in entries.get("DimSize", "0").split()]
    width = _WIDTHS.get(entries.get("ElementType", "").removeprefix("MET_").removeprefix("U"), 1)
    wanted = width * math.prod(dims)
    if entries.get("CompressedData", "F")[:1] in "Tt1":
        packed = int(entries.get("CompressedDataSize", sizes[0] if files else 0))
        whole = len(sizes) == 1 and packed <= sizes[0] and int(entries.get("HeaderSize", 0)) == 0
        if not whole or not _unpacks_to((files or [path])[0], begin, packed, wanted):
            raise damaged(path, "MetaImage")
    elif len(sizes) not in (1, dims[-1]) or min(sizes) * len(sizes) < wanted:
        raise damaged(path, "MetaImage")


def _unpacks_to(path: Path, begin: int, packed: int, wanted: int) -> bool:
    """Whether the deflated stream in `packed` bytes of a file is whole and unpacks to `wanted` bytes."""
    unpacker, size = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    with path.open("rb") as file:
        file.seek(begin)
        while packed > 0 and not unpacker.eof and size <= wanted:
            part = file.read(min(packed, _PART))
            packed -= len(part)
            size += len(unpacker.decompress(part))
    return unpacker.eof and size == wanted


def _patient_from_index(image: Any) -> np.ndarray:
    """LPS from index [mm]; ITK's own frame is LPS."""
    n = image.GetDimension()
    matrix = np.eye(4)
    matrix[:n, :n] = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    matrix[:n, 3] = image.GetOrigin()
    return matrix


def _slicer_names(image: Any) -> dict[int, tuple[str, ...]]:
    """Return id -> names of the segments that 3D Slicer writes into a .seg.nrrd header."""
    names: dict[int, tuple[str, ...]] = {}
    keys = set(image.GetMetaDataKeys())
    for key in sorted(keys):
        match = re.fullmatch(r"(Segment\d+)_LabelValue", key)
        if match and f"{match[1]}_Name" in keys and image.GetMetaData(key).strip().isdigit():
            names[int(image.GetMetaData(key))] = (image.GetMetaData(f"{match[1]}_Name").strip(),)
    return names
