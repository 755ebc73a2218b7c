"""Kill -9 at random moments, and full disks, during every job that writes; what was committed must be there, whole, and go on.

    python tools/crashes.py --kills 50 --seed 0            # 50 kills of each job
    python tools/crashes.py --only review export --kills 5
    sudo python tools/crashes.py --full-disk               # also on a small tmpfs, mounted and unmounted here (Linux, root)

Each job is a process of its own, forked from one that has imported everything, so that the kill falls into the work and not into
the imports. A kill counts only when the process was still at work. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crash_job import Broken, Job, require
from crash_jobs import JOBS

LONGEST = 600
"""A job that takes longer [s] is given up: something hangs."""


@contextlib.contextmanager
def child(work: Callable[[Callable[[str], None]], None], noise: Path) -> Iterator[tuple[int, int]]:
    """Run work in a forked process; give its id and the pipe on which it says what is committed."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            os.close(reading)
            out = os.open(noise, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            work(lambda what: (os.write(writing, what.encode() + b"\n"), None)[1])
            status = 0
        except BaseException:  # noqa: BLE001 - the child says why and ends here
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(writing)
    try:
        yield process, reading
    finally:
        os.close(reading)


def run(job: Job, seconds: float | None, noise: Path, told: set[str]) -> int:
    """Let the job work, kill it after `seconds` (None: let it end); return its status, negative for a signal."""
    import select
    import threading

    with child(job.work, noise) as (process, pipe):
        deadline = time.monotonic() + (seconds if seconds is not None else LONGEST)
        killer = threading.Timer(max(0.0, deadline - time.monotonic()), os.kill, (process, signal.SIGKILL))
        killer.start()
        rest = b""
        while select.select([pipe], [], [], LONGEST)[0]:
            got = os.read(pipe, 1 << 16)
            if not got:
                break
            lines = (rest + got).split(b"\n")
            rest = lines.pop()
            told |= {line.decode() for line in lines}
        _, status = os.waitpid(process, 0)
        killer.cancel()
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def kill_at_random(job: Job, kills: int, rng: random.Random, folder: Path, minutes: float) -> dict[str, Any]:
    """Kill a job again and again, checking after every kill, starting anew whenever it gets to its end."""
    noise = folder / "noise.txt"
    counts = {"kills": 0, "finished": 0, "committed_at_kills": 0}
    told: set[str] = set()
    with contextlib.ExitStack() as stack:
        process, _ = stack.enter_context(child(lambda told: job.prepare(), noise))
        require(os.waitpid(process, 0)[1] == 0, f"preparing failed: {noise.read_text()[-500:]}")
    begun = time.monotonic()
    require(run(job, None, noise, told) == 0, f"the first run failed: {noise.read_text()[-1500:]}")
    job.finished()
    usual = time.monotonic() - begun
    until = begun + 60 * minutes
    while counts["kills"] < kills and time.monotonic() < until:
        job.anew()
        told.clear()
        while counts["kills"] < kills and time.monotonic() < until:
            status = run(job, rng.uniform(0.02, 0.9) * usual, noise, told)
            if status == 0:
                job.finished()
                counts["finished"] += 1
                break
            require(status == -signal.SIGKILL, f"it ended with {status} instead of going on: {noise.read_text()[-1500:]}")
            counts["kills"] += 1
            counts["committed_at_kills"] += job.check(told) > 0
    require(run(job, None, noise, told) == 0, f"it does not go on to its end: {noise.read_text()[-1500:]}")
    job.finished()
    return {**counts, "seconds_of_a_run": round(usual, 1)}


def fill_the_disk(job: Job, folder: Path, sizes: list[int]) -> dict[str, Any]:
    """Run a job on file systems that are too small, check, make them larger and let it end."""
    noise = folder / "noise.txt"
    counts = {"full_disks": 0}
    for kilobytes in sizes:
        job.anew()
        job.out.mkdir(parents=True)
        told: set[str] = set()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(job.out)], check=True)
        try:
            full = run(job, None, noise, told) != 0
            counts["full_disks"] += full
            subprocess.run(["mount", "-o", "remount,size=500m", str(job.out)], check=True)
            job.check(told)
            require(run(job, None, noise, told) == 0, f"it does not go on with room: {noise.read_text()[-1500:]}")
            job.finished()
        finally:
            subprocess.run(["umount", str(job.out)], check=True)
    return counts


def main() -> int:
    """Run what was asked for and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills of each job")
    parser.add_argument("--only", nargs="+", choices=JOBS, default=list(JOBS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60, help="most minutes for each job")
    parser.add_argument("--full-disk", action="store_true", help="also on a small tmpfs; needs root")
    given = parser.parse_args()
    import training.cli.entry
    import training.dataset
    import training.fit
    import training.model.checkpoint
    import training.synthesis  # noqa: F401 - imported once, before the processes are forked

    results: dict[str, Any] = {}
    status = 0
    with tempfile.TemporaryDirectory(prefix="crashes-") as scratch:
        for name in given.only:
            folder = Path(scratch) / name
            job = JOBS[name](folder)
            try:
                results[name] = kill_at_random(job, given.kills, random.Random(f"{given.seed}/{name}"), folder, given.minutes)
                print(json.dumps({name: results[name]}), flush=True)
                if given.full_disk:
                    results[name] |= fill_the_disk(job, folder, FULL[name])
            except Broken as problem:
                results[name] = {"broken": str(problem)}
                status = 1
            print(json.dumps({name: results[name]}), flush=True)
    print(json.dumps(results))
    return status


FULL = {
    "synthesize": [40, 120, 200],
    "train": [200, 1500, 4000],
    "adapt": [40, 120, 400],
    "replace": [40, 120, 200],
    "review": [60, 100, 160],
    "export": [100, 300, 600],
}
"""Sizes of the file systems that are too small [KiB]: for the first write, for one in the middle, for one near the end."""

if __name__ == "__main__":
    sys.exit(main())
