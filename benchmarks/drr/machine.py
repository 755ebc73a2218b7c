"""What a measurement was made on."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("numba", "llvmlite", "numpy", "torch", "itk-rtk", "nanodrr")


def processor() -> str:
    """The CPU's model name."""
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def features() -> str:
    """The widest vector instructions the CPU has."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return ""
    return next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")) if flag in flags), "")


def installed() -> dict[str, str]:
    """Versions of the libraries that take part."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def described(versions: dict[str, str]) -> str:
    """One paragraph."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else 0
    libraries = installed() | {k: v for k, v in versions.items() if k == "plastimatch"}
    named = ", ".join(f"{k} {v.removeprefix(k).strip()}" for k, v in libraries.items())
    kernel = ".".join(platform.release().split(".")[:2])
    return (
        f"{processor()} ({features()}), {os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()} {kernel}, "
        f"Python {platform.python_version()}; {named}."
    )
