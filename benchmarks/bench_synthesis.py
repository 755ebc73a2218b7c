"""How fast cases are made: `python benchmarks/bench_synthesis.py SAMPLE [--phantoms N] [--views N] [--size N] [--workers 1 2]`.

SAMPLE is the folder that `chexanatomy sample ct SAMPLE` writes. Each number of workers makes a few cases to fill caches of
compiled code, then the asked number. Timed: views a minute, with the start of the workers and from the first case to the last;
processor seconds a view; peak memory of a process; bytes of a case on disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from training.synthesis import Subject, SynthesisConfig, synthesize


def main() -> None:
    """Time every number of workers in turn and print one line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sample", type=Path)
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--views", type=int, default=48)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    asked = parser.parse_args()
    files = (str(asked.sample / name) for name in ("ct.nii.gz", "labels.nii.gz", "label_names.csv"))
    people = () if asked.phantoms else (Subject("sample", *files),)
    for workers in asked.workers:
        print(json.dumps(run(people, asked.phantoms, asked.views, asked.size, workers)), flush=True)


def run(people: tuple[Subject, ...], phantoms: int, views: int, size: int, workers: int) -> dict[str, float]:
    """Make the views twice and measure the second time."""
    each = views // max(1, phantoms + len(people))
    with tempfile.TemporaryDirectory() as scratch:
        running: list[tuple[float, int]] = []

        def make(name: str, count: int) -> Path:
            out = f"{scratch}/{name}"
            config = SynthesisConfig(
                out=out, subjects=people, phantoms=phantoms, views_per_subject=count, size=size, workers=workers, seed=len(name)
            )
            running.clear()
            synthesize(config, lambda progress: running.append((time.monotonic(), progress.done)))
            return Path(out)

        make("warm", min(4, each))
        clock, cpu = time.monotonic(), processor_seconds()
        folder = make("timed", each)
        clock, cpu = time.monotonic() - clock, processor_seconds() - cpu
        cases = (folder / "cases.jsonl").read_text().splitlines()
        masks = sum(len(json.loads(line)["present"]) for line in cases) / len(cases)
        disk = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / len(cases)
    who = resource.RUSAGE_CHILDREN if workers > 1 else resource.RUSAGE_SELF
    peak = resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "workers": workers,
        "views": len(cases),
        "size": size,
        "views_per_minute": round(60 * len(cases) / clock, 1),
        "views_per_minute_once_running": round(60 * (running[-1][1] - running[1][1]) / (running[-1][0] - running[1][0]), 1),
        "cpu_seconds_per_view": round(cpu / len(cases), 3),
        "masks_per_view": round(masks, 1),
        "kilobytes_per_case": round(disk / 1000, 1),
        "peak_megabytes_of_a_process": round(peak / 1e6),
    }


def processor_seconds() -> float:
    """Time that this process and its finished children have had on processors [s]."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


if __name__ == "__main__":
    main()
