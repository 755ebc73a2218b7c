"""Names of structures as names of files."""

from __future__ import annotations

_FORBIDDEN = '/\\:*?"<>|'


def file_stem(name: str) -> str:
    """Return a structure's name as a file name, without suffix, that every operating system takes and that leads nowhere else."""
    return "".join("_" if c in _FORBIDDEN or ord(c) < 32 else c for c in name).strip(". ") or "_"
