"""The command: choose what to compare, take up where the last run stopped, write table and plot."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from benchmarks.drr.bodies import Body, store, thorax_body
from benchmarks.drr.engines import ENGINES
from benchmarks.drr.machine import described
from benchmarks.drr.report import write_report
from benchmarks.drr.turns import POSES, Cell, Result, compare, start

QUICK = (512, 512, 300)
SIZES = [(n, n, n) for n in (128, 256, 512)]
PIXELS = (512, 256, 1024)
LABELS = (1, 10, 90)


def cells(everything: bool, size: tuple[int, int, int] = QUICK) -> Iterator[Cell]:
    """The cells of the short comparison, or of the whole one: that of the budgets first."""
    for threads in (2, 1) if everything else (2,):
        for view in POSES:
            yield Cell(size, threads, 512, view, LABELS if everything else LABELS[-1:])
    if everything:
        for size in reversed(SIZES):
            for threads in (2, 1):
                for pixels in PIXELS:
                    for view in POSES:
                        yield Cell(size, threads, pixels, view, LABELS)


def read(path: Path) -> list[Result]:
    """The results so far."""
    return [Result.read(line) for line in path.read_text().splitlines()] if path.exists() else []


def file_body(cache: Path, ct_file: Path, labels_file: Path | None) -> Body:
    """A body from files: HU + 1000 clipped at 0, and labels numbered on (the number is cut off at 90)."""
    import numpy as np

    from training.images import read_ct, read_labels

    ct = read_ct(ct_file)
    ids = np.minimum(read_labels(labels_file, ct).ids, 90) if labels_file else np.ones(ct.shape)
    size = "x".join(map(str, ct.shape[::-1]))
    values = np.clip(ct.hu.astype(np.int32) + 1000, 0, None).astype(np.int16)
    return store(cache / f"{size}-file", values, ids.astype(np.uint8), ct.spacing, ct.origin)


def main() -> None:
    """Compare and report."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.drr", description=__doc__)
    options.add_argument("--all", action="store_true", help="every size, detector and number of threads: an hour or more")
    options.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="folder for volumes and results")
    options.add_argument("--docs", type=Path, default=None, help="folder for benchmarks.md and images/ (default: that of --out)")
    options.add_argument("--engines", default=",".join(ENGINES), help="which to compare; ours is always among them")
    options.add_argument("--ct", type=Path, default=None, help="a CT file in place of the thorax, short comparison only")
    options.add_argument("--labels", type=Path, default=None, help="its label map")
    options.add_argument("--minutes", type=float, default=float("inf"), help="stop after the view that passes this time")
    options.add_argument("--again", action="store_true", help="take views again that are there: their turns count together")
    options.add_argument("--report", action="store_true", help="measure nothing, write the report of the results that are there")
    chosen = options.parse_args()
    engines = ["ours", *(e for e in chosen.engines.split(",") if e in ENGINES and e != "ours")]
    results_file, versions_file = chosen.out / "results.jsonl", chosen.out / "versions.json"
    chosen.out.mkdir(parents=True, exist_ok=True)
    done = set() if chosen.again else {(r.size, r.threads, r.pixels, r.view, r.engine, r.labels) for r in read(results_file)}
    body = file_body(chosen.out, chosen.ct, chosen.labels) if chosen.ct else None
    planned = cells(chosen.all, body.ct().shape[::-1] if body else QUICK)

    def left(cell: Cell, engines: Iterable[str]) -> bool:
        return any((cell.size, cell.threads, cell.pixels, cell.view, *task) not in done for task in cell.tasks(engines))

    wanted = [c for c in planned if left(c, engines)]
    deadline = time.monotonic() + 60 * chosen.minutes
    for (size, threads), group in groupby([] if chosen.report else wanted, key=lambda c: (c.size, c.threads)):
        if time.monotonic() > deadline:
            break
        volume = body or thorax_body(chosen.out, size)
        ct = volume.ct()
        workers, missing = start(engines, threads, volume)
        for engine, reason in missing.items():
            print(f"{engine} is left out: {reason}")
        versions_file.write_text(json.dumps({e: w.hello["version"] for e, w in workers.items()}))
        for cell in group:
            if not left(cell, workers):
                continue
            results = list(compare(cell, volume, ct, workers))
            with results_file.open("a") as file:
                file.writelines(r.line() + "\n" for r in results)
            said = [f"{r.engine}{f' {r.labels} masks' if r.labels else ''} {1000 * r.best:.0f} ms" for r in results]
            print("x".join(map(str, size)), f"{threads} threads {cell.pixels} px {cell.view}:", ", ".join(said), flush=True)
            if time.monotonic() > deadline:
                break
        for worker in workers.values():
            worker.end()
    versions = json.loads(versions_file.read_text()) if versions_file.exists() else {}
    print(write_report(read(results_file), described(versions), chosen.docs or chosen.out))


if __name__ == "__main__":
    main()
