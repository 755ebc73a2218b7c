"""Threads for compiled work: numpy-filling kernels that release the interpreter, called for one stretch of rows each.

Unlike threads compiled into a kernel, these may be used from several Python threads at once on every platform, as a window does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

_pool: ThreadPoolExecutor | None = None
_limit: int | None = None


def in_stretches(work: Callable[[int, int], object], count: int, stretch: int) -> None:
    """Call work(begin, end) for every stretch of range(count), on as many threads as NUMBA_NUM_THREADS or the processor has.

    Errors of the work are raised here.
    """
    begins = range(0, count, stretch)
    threads = thread_count()
    if threads == 1 or len(begins) == 1:
        for begin in begins:
            work(begin, min(begin + stretch, count))
        return
    global _pool
    if _pool is None:
        _pool = ThreadPoolExecutor(threads, thread_name_prefix="kernel")
    for _ in _pool.map(lambda begin: work(begin, min(begin + stretch, count)), begins):
        pass


def limit_threads(count: int) -> None:
    """Give kernels of this process no more than count threads from now on: one of several processes shares its machine."""
    global _limit
    _limit = max(1, count)


def thread_count() -> int:
    """How many threads kernels are given."""
    if _limit is not None:
        return _limit
    asked = os.environ.get("NUMBA_NUM_THREADS", "")
    return (
        max(1, int(asked))
        if asked.isdigit()
        else len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


def _forget_pool() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
