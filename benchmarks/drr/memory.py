"""Resident memory of a process as Linux counts it (/proc); zero elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path


def _status(pid: int | str, field: str) -> int:
    try:
        told = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"{field}:\s+(\d+) kB", told)
    return 1024 * int(found[1]) if found else 0


def resident() -> int:
    """Bytes this process holds now."""
    return _status("self", "VmRSS")


def peak_of(pid: int | None = None) -> int:
    """Most bytes that a process (None: this one) has held since it began or since forget_peak."""
    return _status(os.getpid() if pid is None else pid, "VmHWM")


def forget_peak() -> bool:
    """Start counting this process's peak anew (proc(5), clear_refs); False where that is not possible."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True
