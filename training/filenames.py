"""Names of structures and images as names of files."""

from __future__ import annotations

from pathlib import Path

from training.plain import writable

_FORBIDDEN = '/\\:*?"<>|'
_MOST = 220
"""Bytes of a name that are kept: file systems take 255, endings included."""


def file_stem(name: str) -> str:
    """Return a structure's name as a file name, without suffix, that every operating system takes and that leads nowhere else."""
    stem = "".join("_" if c in _FORBIDDEN or ord(c) < 32 else c for c in writable(name)).strip(". ")
    return stem.encode()[:_MOST].decode(errors="ignore").rstrip(". ") or "_"


def image_stem(path: Path) -> str:
    """Return the name of an image's file without its ending, as `file_stem` does; the last number of a UID is no ending."""
    return file_stem(path.name if path.suffix[1:].isdigit() else path.stem)
