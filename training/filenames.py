"""Names of structures and images as names of files."""

from __future__ import annotations

from pathlib import Path

_FORBIDDEN = '/\\:*?"<>|'


def file_stem(name: str) -> str:
    """Return a structure's name as a file name, without suffix, that every operating system takes and that leads nowhere else."""
    return "".join("_" if c in _FORBIDDEN or ord(c) < 32 else c for c in name).strip(". ") or "_"


def image_stem(path: Path) -> str:
    """Return the name of an image's file without its ending, as `file_stem` does; the last number of a UID is no ending."""
    return file_stem(path.name if path.suffix[1:].isdigit() else path.stem)
