"""Drives one worker per engine in turns: every engine takes each view right after the others, under the same noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drr.bodies import Body
from benchmarks.drr.engines import WITH_MASKS
from training.drr import Geometry
from training.images.types import CT

POSES = {"PA": (0.0, 0.0, 0.0), "AP": (180.0, 0.0, 0.0), "lateral": (90.0, 0.0, 0.0), "oblique": (25.0, 12.0, 8.0)}
"""View -> primary angle, secondary angle, roll [degrees]."""
SID = 1500.0
"""Source to isocentre [mm]; with the usual 1800 mm to the detector no volume reaches through the detector."""
ROUNDS = 5
PATIENCE = 6.0
"""An engine takes no further turn at a view once it has spent this long on it [s]."""
LIMIT = 6_000_000_000
"""Calls that would take more memory than this are left out [bytes]."""
REFERENCE = "RTK"
THREAD_SETTINGS = (
    "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What is compared in one go: size = (x, y, z) voxels, detector of pixels x pixels; labels: counts of structures."""

    size: tuple[int, int, int]
    threads: int
    pixels: int
    view: str
    labels: tuple[int, ...]

    def geometry(self, ct: CT) -> Geometry:
        """The pose."""
        primary, secondary, roll = POSES[self.view]
        return Geometry.view(ct, primary, secondary, roll=roll, rows=self.pixels, columns=self.pixels, sid=SID)

    def tasks(self, engines: Iterable[str]) -> list[tuple[str, int]]:
        """(engine, labels), labels 0 being the projection; other engines' masks in the PA view only: they take minutes."""
        ours = [(e, 0) for e in engines] + [("ours", n) for n in self.labels]
        return ours + [(e, n) for e in engines for n in self.labels if e in WITH_MASKS and e != "ours" and self.view == "PA"]


@dataclass(frozen=True)
class Result:
    """One engine at one cell.

    seconds: of each turn [s]; first: of the one before them, which is not counted unless it is alone; paired: of every turn both
    took, its seconds over those of RTK's projection, or for masks over those of our projection; processor: least processor time
    of a turn, all threads together [s]; held, work: bytes as the worker says; error: relative root mean square difference to
    RTK's (else our) picture, or for masks 1 - Dice to ours, None where there is nothing to compare; left_out: why there are no
    seconds; load: of the machine.
    """

    engine: str
    labels: int
    size: tuple[int, int, int]
    threads: int
    pixels: int
    view: str
    seconds: tuple[float, ...]
    first: float
    paired: tuple[float, ...]
    processor: float
    held: int
    work: int
    error: float | None
    left_out: str
    load: float

    @property
    def best(self) -> float:
        """Shortest turn [s]."""
        return min(self.seconds) if self.seconds else float("nan")

    @property
    def share(self) -> float:
        """Median of the paired turns."""
        return float(np.median(self.paired)) if self.paired else float("nan")

    @property
    def median(self) -> float:
        """Median turn [s]."""
        return float(np.median(self.seconds)) if self.seconds else float("nan")

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, line: str) -> Result:
        """From a line of JSON."""
        values = json.loads(line)
        return cls(**values | {name: tuple(values[name]) for name in ("size", "seconds", "paired")})


class Process:
    """A worker: one engine with a fixed number of threads."""

    def __init__(self, engine: str, threads: int) -> None:
        environment = os.environ | dict.fromkeys(THREAD_SETTINGS, str(threads))
        command = [sys.executable, "-m", "benchmarks.drr.worker", engine]
        self.engine, self.held = engine, 0
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        self.hello = self._answer()

    def order(self, **order: Any) -> dict[str, Any]:
        """Have something done."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"The worker of {self.engine} ended; `python -m benchmarks.drr.worker {self.engine}` says why.")
        return json.loads(line)

    def end(self) -> None:
        """Close its input and wait."""
        self.process.communicate()


def start(engines: Iterable[str], threads: int, body: Body | None = None) -> tuple[dict[str, Process], dict[str, str]]:
    """Start workers and give them a volume; the engines that are not installed are named with the reason."""
    started = {e: Process(e, threads) for e in engines}
    missing = {e: p.hello["missing"] for e, p in started.items() if "missing" in p.hello}
    for e in missing:
        started.pop(e).end()
    for process in started.values():
        if body is not None:
            process.held = process.order(do="load", folder=str(body.folder))["held"]
    return started, missing


def compare(cell: Cell, body: Body, ct: CT, workers: dict[str, Process]) -> Iterator[Result]:
    """Take a cell's views in turns."""
    geometry = cell.geometry(ct).to_dict()
    tasks = cell.tasks(workers)
    load = os.getloadavg()[0]

    def view(engine: str, labels: int, save: str = "") -> dict[str, Any]:
        return workers[engine].order(do="view", geometry=geometry, labels=labels, save=save, limit=LIMIT)

    def saved(engine: str, labels: int) -> Path:
        return body.folder / f"{engine}-{labels}.npy"

    firsts = {task: view(*task, save=str(saved(*task))) for task in tasks}
    turns: dict[tuple[str, int], list[dict[str, Any]]] = {task: [] for task in tasks}
    for _ in range(ROUNDS):
        for task in tasks:
            spent = firsts[task].get("seconds", PATIENCE) + sum(t["seconds"] for t in turns[task])
            if spent < PATIENCE:
                turns[task].append(view(*task))
    for engine, labels in tasks:
        first, more = firsts[engine, labels], turns[engine, labels]
        taken = [t["seconds"] for t in more] or [first["seconds"]] * ("seconds" in first)
        error = None
        reference = (REFERENCE if REFERENCE in workers else "ours") if labels == 0 else "ours"
        if taken and reference != engine and saved(reference, labels).exists():
            error = difference(saved(engine, labels), saved(reference, labels))
        yield Result(
            engine, labels, cell.size, cell.threads, cell.pixels, cell.view, tuple(taken), first.get("seconds", 0.0),
            paired((engine, labels), ("ours" if labels or REFERENCE not in workers else REFERENCE, 0), firsts, turns),
            min((t["processor"] for t in more or [first] if "processor" in t), default=0.0),
            workers[engine].held, max((t["work"] for t in [first, *more] if "work" in t), default=-1), error,
            first.get("left_out", ""), load,
        )  # fmt: skip
    for task in tasks:
        saved(*task).unlink(missing_ok=True)


def paired(
    task: tuple[str, int],
    other: tuple[str, int],
    firsts: dict[tuple[str, int], dict[str, Any]],
    turns: dict[tuple[str, int], list[dict[str, Any]]],
) -> tuple[float, ...]:
    """Seconds of a task over those of another, turn by turn; of the first turns where one of them took no other."""
    both = turns[task] and turns[other]
    mine, others = (turns[t] if both else [firsts[t]] * ("seconds" in firsts[t]) for t in (task, other))
    return tuple(a["seconds"] / b["seconds"] for a, b in zip(mine, others, strict=False))


def difference(one: Path, other: Path) -> float:
    """Relative root mean square difference of pictures, 1 - Dice of packed masks."""
    a, b = np.load(one), np.load(other)
    if a.dtype == np.uint8:
        both, each = np.bitwise_count(a & b).sum(), np.bitwise_count(a).sum() + np.bitwise_count(b).sum()
        return float(1 - 2 * both / max(each, 1))
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))
