"""One engine in a process of its own: orders come as JSON lines on standard input, answers go to standard output.

`python -m benchmarks.drr.worker ENGINE`; the number of threads is set in the environment before it starts.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drr.bodies import Body
from benchmarks.drr.engines import ENGINES, WITH_MASKS, Engine
from benchmarks.drr.memory import forget_peak, peak_of, resident
from training.drr import Geometry
from training.images.types import CT, LabelMap


def warm_up(engine: Engine) -> None:
    """Project a small volume from an upright and an oblique pose, so that compiling and loading are over."""
    ct = CT(np.ones((24, 24, 24), np.int16), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    engine.prepare(ct)
    poses = [Geometry.view(ct, *angles, rows=16, columns=16) for angles in ((0.0, 0.0), (90.0, 0.0), (25.0, 12.0))]
    for pose in poses:
        engine.project(pose)
    if engine.name in WITH_MASKS:
        engine.label(LabelMap(np.ones(ct.shape, np.uint8), {1: ("group 1",)}, ct.spacing, ct.origin))
        for pose in poses:
            engine.masks(pose)


class Worker:
    """Carries out the orders of the main process."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.taken = 0
        self.labels: dict[int, LabelMap] = {}

    def load(self, folder: str) -> dict[str, Any]:
        """Give the engine a volume: what it holds then besides the int16 volume itself [bytes]."""
        self.body, self.taken, self.labels = Body(Path(folder)), 0, {}
        ct = self.body.ct()
        before = resident()
        elsewhere = self.engine.prepare(ct)
        return {"held": resident() - before if elsewhere is None else elsewhere, "version": self.engine.version}

    def view(self, geometry: dict[str, Any], labels: int, save: str, limit: int) -> dict[str, Any]:
        """Take one view, timed: of the volume, or for labels > 0 the masks of that many structures.

        Answers seconds, processor: its time on all threads [s], and work: peak of memory during the call above what was held
        before it [bytes], -1 where unknown.
        """
        pose = Geometry.from_dict(geometry)
        need = self.engine.need(pose, labels > 0)
        if need > limit:
            return {"left_out": f"would need {need / 1e9:.1f} GB"}
        if labels and labels != self.taken:
            if labels not in self.labels:
                self.labels[labels] = self.body.labels(labels)
            self.engine.label(self.labels[labels])
            self.taken = labels
        counted, before = forget_peak(), resident()
        start, started = time.perf_counter(), time.process_time()
        shot = self.engine.masks(pose) if labels else self.engine.project(pose)
        seconds, processor = time.perf_counter() - start, time.process_time() - started
        work = max(0, peak_of() - before) if counted else -1
        if save:
            np.save(save, np.packbits(shot.picture) if labels else shot.picture)
        return {
            "processor": processor,
            "seconds": seconds if shot.seconds is None else shot.seconds,
            "work": work if shot.peak is None else shot.peak,
        }


def main() -> None:
    """Answer orders until standard input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what an engine prints is no answer
    try:
        engine = ENGINES[sys.argv[1]]()
    except (ImportError, OSError) as missing:
        answers.write(json.dumps({"missing": str(missing)}) + "\n")
        return
    warm_up(engine)
    worker = Worker(engine)
    answers.write(json.dumps({"version": engine.version}) + "\n")
    answers.flush()
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(worker, order.pop("do"))(**order)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
