"""What lies at a path, by its first bytes; names without suffixes; writing that leaves no half file behind."""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from training.errors import UnreadableFile

MOST_VOXELS = 2**31
"""A volume of 1024 x 1024 pixels and 2048 slices; a file that claims more is refused before it is unpacked."""

Kind = Literal["folder", "dicom", "nifti", "nrrd", "meta", "picture", "empty", "unknown"]

VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""File name endings of the volume formats that are read, longest first."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

READING_ERRORS = (
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What the format libraries raise when a file is damaged."""

_JPEG = b"\xff\xd8\xff"
_PICTURES = (b"\x89PNG", _JPEG, b"II*\0", b"MM\0*", b"II+\0", b"BM", b"GIF8")


def existing(path: str | os.PathLike[str]) -> Path:
    """Return the path; raise UnreadableFile when nothing is there."""
    found = Path(path).expanduser()
    try:
        if not found.exists():
            raise UnreadableFile(f"There is no file or folder at {found}.")
    except (OSError, ValueError) as error:  # a name too long, or with a null character
        raise UnreadableFile(f"{found.name} is no name that a file or folder can have.") from error
    if not found.is_file() and not found.is_dir():
        raise UnreadableFile(f"{found.name} is neither a file nor a folder; give a file or folder on disk.")
    return found


def stem(path: Path) -> str:
    """File or folder name without the ending of an image format, .nii.gz included."""
    lower = path.name.lower()
    for suffix in (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES, ".dcm", ".dicom", ".ima", ".gz"):
        if lower.endswith(suffix) and len(lower) > len(suffix):
            return path.name[: -len(suffix)]
    return path.resolve().name or "unnamed"


def is_volume_name(path: Path) -> bool:
    """True when the name ends like a volume file that is read."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def kind(path: Path) -> Kind:
    """Tell what lies at an existing path, by content and not by name. Raises UnreadableFile when it may not be read."""
    if path.is_dir():
        return "folder"
    try:
        with path.open("rb") as file:
            head = file.read(544)
    except OSError as error:
        raise UnreadableFile(f"{path.name} cannot be opened: {error.strerror or error}.") from error
    if not head:
        return "empty"
    if head[128:132] == b"DICM" or _is_bare_dicom(head):
        return "dicom"
    if head.startswith(b"\x1f\x8b"):
        head = _unzipped_head(path)
    if _is_nifti(head):
        return "nifti"
    if head.startswith(b"NRRD0"):
        return "nrrd"
    if path.suffix.lower() in (".mha", ".mhd") and b"DimSize" in head:
        return "meta"
    if head.startswith(_PICTURES):
        return "picture"
    return "unknown"


def is_jpeg(path: Path) -> bool:
    """True for a JPEG file, by its first bytes."""
    with path.open("rb") as file:
        return file.read(3) == _JPEG


def _is_bare_dicom(head: bytes) -> bool:
    """True for a data set without preamble: it begins with an element of group 0002 or 0008, with a plausible length."""
    return head[:4] in (b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x16\x00", b"\x08\x00\x00\x00", b"\x02\x00\x00\x00")


def _is_nifti(head: bytes) -> bool:
    if head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c"):
        return head[344:348] in (b"n+1\0", b"ni1\0") or len(head) < 348
    return head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") and head[4:7] in (b"n+2", b"ni2")


def _unzipped_head(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(544)
    except (OSError, EOFError, zlib.error):
        return b""


def not_this(path: Path, wanted: str) -> UnreadableFile:
    """The error for a file that cannot be what it was given as; it names what the file is."""
    what = {
        "folder": "is a folder",
        "dicom": "is a DICOM file",
        "nifti": "is a NIfTI volume",
        "nrrd": "is an NRRD volume",
        "meta": "is a MetaImage volume",
        "picture": "is a photograph or picture",
        "empty": "is an empty file",
    }.get(kind(path))
    if what is None:
        endings = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES, ".dcm")
        damaged = path.name.lower().endswith(endings)
        what = "is damaged or not what its name says" if damaged else "is in no image format that is read here"
    return UnreadableFile(f"{path.name} {what}; {wanted}.")


def check_volume_size(path: Path, sizes: Iterable[int], bytes_per_voxel: int) -> None:
    """Raise UnreadableFile for a volume that no scanner makes or the memory cannot hold, before it is unpacked."""
    import psutil

    voxels = math.prod(int(n) for n in sizes)
    if voxels > MOST_VOXELS:
        raise UnreadableFile(
            f"{path.name} claims {voxels:.3g} voxels, more than any CT has; give the volume itself, or a part of it."
        )
    memory = psutil.virtual_memory().total
    if voxels * bytes_per_voxel > memory:
        needed = f"{voxels * bytes_per_voxel / 1e9:.0f} GB, more than this machine's memory of {memory / 1e9:.0f} GB"
        raise UnreadableFile(f"{path.name} unpacks to {needed}; give a part of it, or resample it first.")


def leads_outside(name: str) -> bool:
    """True for a file name, found inside another file, that points anywhere but into the folder of that file or below it."""
    parts = name.replace("\\", "/").split("/")
    return not name or ".." in parts or parts[0] in ("", "~") or re.match("[A-Za-z]+:", name) is not None or "\0" in name


def damaged(path: Path, form: str) -> UnreadableFile:
    """The error for a file of a known form that breaks off or holds nonsense."""
    return UnreadableFile(f"{path.name} is damaged or incomplete and cannot be read as {form}; fetch or export it again.")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`, of the same ending, and move it into place when the block ends well."""
    final = Path(path).expanduser()
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".writing-", suffix="".join(final.suffixes[-2:]), dir=final.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
