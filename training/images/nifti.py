"""NIfTI-1 and NIfTI-2 single files, read and written by their published layout (https://nifti.nimh.nih.gov).

Read here and not through SimpleITK for three reasons: sheared affines (tilted gantries) are kept, the header extension with the
structures' names is seen, and a file that breaks off is noticed.
"""

from __future__ import annotations

import gzip
import html
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from training.errors import UnreadableFile
from training.images.grid import HasGrid, Stored
from training.images.paths import check_volume_size, damaged, replacing

_FIELDS = [
    *("dim", "datatype", "pixdim", "vox_offset", "slope", "intercept"),
    *("units", "qform", "sform", "quatern", "qoffset", "srow"),
]
_NIFTI1 = np.dtype({
    "names": _FIELDS,
    "formats": ["8i2", "i2", "8f4", "f4", "f4", "f4", "u1", "i2", "i2", "3f4", "3f4", "(3,4)f4"],
    "offsets": [40, 70, 76, 108, 112, 116, 123, 252, 254, 256, 268, 280],
    "itemsize": 348,
})  # fmt: skip
_NIFTI2 = np.dtype({
    "names": _FIELDS,
    "formats": ["8i8", "i2", "8f8", "i8", "f8", "f8", "i4", "i4", "i4", "3f8", "3f8", "(3,4)f8"],
    "offsets": [16, 12, 104, 168, 176, 184, 500, 344, 348, 352, 376, 400],
    "itemsize": 540,
})  # fmt: skip
_DATATYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_COLOUR_DATATYPES = (128, 2304)
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_MOST_DEFLATED = 1100
"""Deflate packs at most about 1030 bytes into one: more is claimed only by a file that breaks off."""
MOST_HEADER_BYTES = 1 << 26
"""TotalSegmentator's names take some kilobytes; a header beyond this is no header."""
MOST_EXTENSION_BYTES = 1 << 23
"""What of a header's extensions is searched for names; the longest tables in use take some hundred kilobytes."""
_KEY = re.compile(r'\sKey="(\d{1,9})"')


def read_nifti(path: Path) -> Stored:
    """Read a .nii or .nii.gz file. Raises UnreadableFile for 4D, colour or complex data, a pair of files, and damage."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0, 2)
            size = raw.tell() * (_MOST_DEFLATED if packed else 1)
            raw.seek(0)
            with gzip.GzipFile(fileobj=raw) if packed else path.open("rb") as file:
                return _read(file, path, size)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise damaged(path, "NIfTI") from error


def _read(file: IO[bytes] | gzip.GzipFile, path: Path, most_bytes: int) -> Stored:
    head = file.read(348)
    if len(head) < 348:
        raise damaged(path, "NIfTI")
    order = "<" if head[:2] in (b"\x5c\x01", b"\x1c\x02") else ">"
    version2 = int.from_bytes(head[:4], "little" if order == "<" else "big") == 540
    if version2:
        head += file.read(540 - 348)
    elif head[344:348] == b"ni1\0":
        raise UnreadableFile(f"{path.name} is half of a NIfTI pair (.hdr and .img); save it as a single .nii.gz file.")
    layout = (_NIFTI2 if version2 else _NIFTI1).newbyteorder(order)  # type: ignore[arg-type]
    header = np.frombuffer(head, layout, count=1)[0]

    dim = [int(n) for n in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        raise damaged(path, "NIfTI")
    extra = [n for n in dim[4 : dim[0] + 1] if n > 1]
    if extra:
        raise four_dimensional(path, dim[1 : dim[0] + 1])
    shape = tuple(dim[axis] if axis <= dim[0] else 1 for axis in (3, 2, 1))
    datatype = int(header["datatype"])
    if datatype in _COLOUR_DATATYPES:
        raise UnreadableFile(f"{path.name} holds colours, not one value per voxel; give the volume it was made from.")
    if datatype not in _DATATYPES:
        raise UnreadableFile(
            f"{path.name} holds values of NIfTI type {datatype}, which are no plain numbers; save it as integers or floats."
        )
    dtype = np.dtype(order + _DATATYPES[datatype])

    offset = int(header["vox_offset"])
    count = shape[0] * shape[1] * shape[2]
    if count * dtype.itemsize + offset > most_bytes or offset > MOST_HEADER_BYTES:
        raise damaged(path, "NIfTI")
    check_volume_size(path, shape, dtype.itemsize)
    extensions = file.read(offset - len(head)) if offset > len(head) else b""
    array = np.empty(count, dtype)
    if _fill(file, array.view(np.uint8)) < array.nbytes:
        raise damaged(path, "NIfTI")
    for _ in range(64):  # reaching the end has gzip verify its checksum
        if not file.read(1 << 20):
            break
    slope, intercept = float(header["slope"]), float(header["intercept"])
    if not np.isfinite(slope) or slope == 0:
        slope, intercept = 1.0, 0.0
    matrix, notes = _patient_from_index(header, path)
    if order == ">":
        array = array.astype(dtype.newbyteorder("="))
    return Stored(
        array.reshape(shape), matrix, slope, intercept if np.isfinite(intercept) else 0.0, _names(extensions, order), notes
    )


def _fill(file: IO[bytes] | gzip.GzipFile, buffer: np.ndarray) -> int:
    """Read into a uint8 buffer until it is full or the file ends; return the bytes read."""
    view, done = memoryview(buffer), 0  # type: ignore[arg-type]
    while done < len(view):
        got = file.readinto(view[done : done + (1 << 24)])  # type: ignore[union-attr]
        if not got:
            break
        done += got
    return done


def four_dimensional(path: Path, sizes: list[int]) -> UnreadableFile:
    """The error for a file with more than one volume."""
    text = " x ".join(str(n) for n in sizes)
    return UnreadableFile(f"{path.name} has {len(sizes)} dimensions ({text}), not three; save one volume of it as its own file.")


def _patient_from_index(header: Any, path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return LPS from index [mm] by the sform, else the qform, else the voxel sizes alone."""
    scale = _MM_PER_UNIT.get(int(header["units"]) & 7, 1.0)
    pixdim = np.abs(header["pixdim"][1:4].astype(np.float64))
    matrix, notes = np.eye(4), tuple[str, ...]()
    srow = header["srow"].astype(np.float64)
    if header["sform"] > 0 and np.isfinite(srow).all() and abs(np.linalg.det(srow[:, :3])) > 1e-12:
        matrix[:3] = srow
    elif header["qform"] > 0:
        matrix[:3, :3] = _rotation(header["quatern"].astype(np.float64)) * pixdim
        if header["pixdim"][0] < 0:
            matrix[:3, 2] *= -1
        matrix[:3, 3] = header["qoffset"]
    else:
        matrix[:3, :3] = np.diag(pixdim)
        notes = (f"{path.name} states no orientation; its axes were taken as right, anterior, superior: check left and right.",)
    matrix[:3] *= scale
    return _LPS_FROM_RAS @ matrix, notes


def _rotation(quatern: np.ndarray) -> np.ndarray:
    """Rotation matrix of NIfTI's quaternion (b, c, d)."""
    b, c, d = quatern
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    return np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip


def _names(extensions: bytes, order: str) -> dict[int, tuple[str, ...]]:
    """Return id -> names of the label table that TotalSegmentator writes into a header extension (a CIFTI LabelTable)."""
    names: dict[int, list[str]] = {}
    byteorder = "little" if order == "<" else "big"
    extensions, position = extensions[:MOST_EXTENSION_BYTES], 4
    while extensions[:1] not in (b"", b"\0") and position + 8 <= len(extensions):
        size = int.from_bytes(extensions[position : position + 4], byteorder)  # type: ignore[arg-type]
        if size < 8:
            break
        text = extensions[position + 8 : position + size].decode("utf-8", "replace")
        for piece in text.split("</Label>")[:-1]:
            attributes, _, content = piece[piece.rfind("<Label") :].partition(">")
            key = _KEY.search(attributes)
            content = content.strip()
            quoted = content.startswith("<![CDATA[") and content.endswith("]]>")
            name = (content[9:-3] if quoted else html.unescape(content)).strip()
            if key and int(key[1]) and name:
                names.setdefault(int(key[1]), []).append(name)
        position += size
    return {number: tuple(held) for number, held in names.items()}


def write_nifti(path: Path, array: np.ndarray, grid: HasGrid, names: Mapping[int, tuple[str, ...]] | None = None) -> None:
    """Write an array [z, y, x] on an axis-aligned LPS grid as .nii or .nii.gz, whole or not at all.

    names: id -> structure names, kept in a header extension as TotalSegmentator writes it.
    """
    codes = {np.dtype(kind): code for code, kind in _DATATYPES.items()}
    extension = _label_table(names) if names else b""
    head = np.zeros(1, _NIFTI1)
    z, y, x = grid.shape
    lps = np.array(grid.origin)
    head["dim"] = (3, x, y, z, 1, 1, 1, 1)
    head["datatype"] = codes[array.dtype]
    head["pixdim"] = (1, *grid.spacing, 0, 0, 0, 0)
    head["vox_offset"] = 352 + len(extension)
    head["slope"] = 1
    head["units"] = 2
    head["qform"] = head["sform"] = 1
    head["quatern"] = (0, 0, 1)  # half a turn about z: index axes point left and posterior, NIfTI's world right and anterior
    head["qoffset"] = lps * (-1, -1, 1)
    head["srow"] = np.column_stack([np.diag(np.array(grid.spacing) * (-1, -1, 1)), lps * (-1, -1, 1)])
    raw = bytearray(head.tobytes())
    raw[0:4] = (348).to_bytes(4, "little")
    raw[72:74] = (8 * array.dtype.itemsize).to_bytes(2, "little")
    raw[344:348] = b"n+1\0"
    flag = b"\1\0\0\0" if extension else b"\0\0\0\0"
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    with replacing(path) as temporary, temporary.open("wb") as plain:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(filename="", fileobj=plain, mode="wb", compresslevel=2, mtime=0) as file:
                _write_parts(file, bytes(raw) + flag + extension, little)
        else:
            _write_parts(plain, bytes(raw) + flag + extension, little)


def _write_parts(file: IO[bytes] | gzip.GzipFile, head: bytes, array: np.ndarray) -> None:
    file.write(head)
    for part in array:
        file.write(np.ascontiguousarray(part).data)


def _label_table(names: Mapping[int, tuple[str, ...]]) -> bytes:
    rows = "".join(f'<Label Key="{i}"><![CDATA[{name}]]></Label>' for i in sorted(names) for name in names[i])
    xml = f'<?xml version="1.0" encoding="UTF-8"?><CaretExtension><VolumeInformation Index="0"><LabelTable>{rows}'
    text = (xml + "</LabelTable></VolumeInformation></CaretExtension>").encode()
    size = -(-(len(text) + 8) // 16) * 16
    return size.to_bytes(4, "little") + (0).to_bytes(4, "little") + text.ljust(size - 8)
