"""Memory that the program no longer needs, given back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
from functools import cache

LARGE = 4 * 2**20
"""Arrays from this size on come from the system by themselves, and go back to it as soon as they are free [bytes]."""
KEPT = 64 * 2**20
"""Free memory at the end of the heap that the C library keeps [bytes]."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""glibc's numbers for `mallopt`, from malloc.h."""
WITHOUT_GLIBC = (OSError, AttributeError, TypeError)
"""What asking for its functions raises elsewhere, a TypeError on Windows."""


@cache
def settle() -> None:
    """Have glibc keep large arrays apart and serve all threads from two heaps. It would otherwise learn to put arrays of up to
    32 MB between small ones, in a heap for every thread, where they leave holes that cannot be given back; who set its
    `MALLOC_` variables keeps them."""
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    with contextlib.suppress(*WITHOUT_GLIBC):
        library = ctypes.CDLL(None)
        for what, value in ((_MMAP_THRESHOLD, LARGE), (_TRIM_THRESHOLD, KEPT), (_ARENA_MAX, 2)):
            library.mallopt(what, value)


def give_back() -> None:
    """Collect what nobody holds any more, and have the C library return its free pages; without glibc only the former.

    Pictures and masks of a closed widget would otherwise stay counted as the program's. It takes some hundredths of a second.
    """
    gc.collect()
    with contextlib.suppress(*WITHOUT_GLIBC):
        ctypes.CDLL(None).malloc_trim(0)
