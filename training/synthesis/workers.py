"""Where units of a run are worked on: in this process, on several of this machine, or on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TypeVar

from training.errors import ChexanatomyError
from training.threads import limit_threads

AHEAD = 4
"""Units per worker handed out before the oldest is awaited."""
ATTEMPTS = 3
"""How often a cluster may begin a unit anew after an error of its worker."""
Unit = TypeVar("Unit")
Made = TypeVar("Made")
Submit = Callable[[Unit], Callable[[], Made]]
"""Start a unit and return what waits for what it makes."""


def in_order(work: Callable[[Unit], Made], units: Iterable[Unit], workers: int, dask: str) -> Iterator[Made]:
    """Yield what work makes of every unit, in the order of the units, on workers processes or on the cluster at address dask."""
    with _cluster(work, dask) if dask else _processes(work, workers) as (submit, ahead):
        waiting: list[Callable[[], Made]] = []
        for unit in units:
            waiting.append(submit(unit))
            if len(waiting) >= ahead:
                yield waiting.pop(0)()
        while waiting:
            yield waiting.pop(0)()


@contextmanager
def _processes(work: Callable[[Unit], Made], workers: int) -> Iterator[tuple[Submit[Unit, Made], int]]:
    if workers == 1:
        yield lambda unit: lambda: work(unit), 1
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin)
    try:

        def submit(unit: Unit) -> Callable[[], Made]:
            future: Future[Made] = pool.submit(work, unit)
            return future.result

        yield submit, AHEAD * workers
    except BrokenProcessPool as error:
        raise ChexanatomyError(
            "A worker was ended from outside, most often because memory ran out: repeat the command with fewer workers to go on."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _cluster(work: Callable[[Unit], Made], address: str) -> Iterator[tuple[Submit[Unit, Made], int]]:
    from distributed import Client, KilledWorker

    try:
        client = Client(address, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise ChexanatomyError(f"No Dask scheduler answers at {address}: {error}.") from error
    try:
        threads = sum(client.nthreads().values())
        yield lambda unit: client.submit(_on_one_thread, work, unit, pure=False, retries=ATTEMPTS).result, AHEAD * max(1, threads)
    except KilledWorker as error:
        raise ChexanatomyError(
            "Workers of the cluster ended again and again on the same body, most often because memory ran out: give each more "
            "memory and repeat the command to go on."
        ) from error
    finally:
        client.close()


def _on_one_thread(work: Callable[[Unit], Made], unit: Unit) -> Made:
    """Work on one thread of compiled code: workers share their machine."""
    _single_threaded()
    return work(unit)


def _begin() -> None:
    """Prepare a process of the pool; it ends with the one that began it, also where that one is killed."""
    _single_threaded()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _single_threaded() -> None:
    import numba

    limit_threads(1)
    numba.set_num_threads(1)
