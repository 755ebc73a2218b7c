"""The Few-shot widget at work: how soon the window answers while a model learns beside it, what that costs, and what stays.

xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/bench_fewshot_desk.py --radiographs FOLDER --lungs FOLDER [--images 5]

A timer asks for the window every 10 ms, and how late it comes is what a click would have waited. Strokes are drawn all the while.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

TICK_MS = 10


class Waits:
    """How late each tick of a timer came [ms]."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.late: list[float] = []
        self._last = time.perf_counter()
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._tick)
        self.timer.start(TICK_MS)

    def _tick(self) -> None:
        now = time.perf_counter()
        self.late.append(max(0.0, (now - self._last) * 1000 - TICK_MS))
        self._last = now

    def summary(self) -> dict[str, float]:
        """Percentiles so far; begins anew."""
        late, self.late, self._last = np.array(self.late or [0.0]), [], time.perf_counter()
        values = {"ticks": len(late), "p50": np.percentile(late, 50), "p95": np.percentile(late, 95), "longest": late.max()}
        return {name: round(float(value), 1) for name, value in values.items()}


def run_until(done: Any) -> None:
    """Let the window work as under `napari.run` until something is done."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, look = QEventLoop(), QTimer()
    look.timeout.connect(lambda: loop.quit() if done() else None)
    look.start(20)
    loop.exec()
    look.stop()


def rest(seconds: float) -> None:
    """Let the window work for a while."""
    end = time.monotonic() + seconds
    run_until(lambda: time.monotonic() > end)


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--radiographs", type=Path, required=True)
    parser.add_argument("--lungs", type=Path, required=True)
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=40)
    given = parser.parse_args()
    import napari

    from napari_chexanatomy.demo import open_widget
    from training.evaluate.sources import pairs
    from training.images import read_mask_png

    files = pairs(given.radiographs, given.lungs)[: given.images]
    viewer = napari.Viewer()
    widget: Any = open_widget(viewer, "Few-shot")
    me, found = psutil.Process(), {}
    with tempfile.TemporaryDirectory() as scratch:
        waits = Waits()
        widget.new(Path(scratch) / "project")
        widget.add_files([image for image, _ in files])
        run_until(lambda: not widget.busy)
        widget.choose_structure("both lungs as one")
        for row, (_, mask) in enumerate(files):
            widget.images.setCurrentRow(row)
            widget.drawing.replace(read_mask_png(mask))
            widget.flush()
            rest(1.0)
        found["opening images and saving drawings"] = waits.summary()
        before = me.memory_info().rss
        widget.learning.seconds.setValue(given.seconds)
        started = time.monotonic()
        widget.learn()
        spent, strokes = [0.0, 0], itertools.count()

        def watch() -> bool:
            number = next(strokes)
            if number % 5 == 0 and widget.drawing is not None:
                widget.drawing.brush.paint((100 + number % 400, 100 + 3 * number % 400), 1)
            for child in me.children():
                try:
                    times, memory = child.cpu_times(), child.memory_info().rss
                except psutil.Error:
                    continue
                spent[0], spent[1] = max(spent[0], times.user + times.system), max(spent[1], memory)
            return not widget.busy

        run_until(watch)
        found["while learning, drawing all the time"] = waits.summary()
        rest(1.0)
        kept = widget.adapters.kept[0]
        found |= {
            "images": len(files), "steps": kept.card["steps"], "seconds until the result": round(time.monotonic() - started, 1),
            "processor seconds of the learning": round(spent[0], 1), "its memory [MB]": spent[1] >> 20,
            "window's memory before [MB]": before >> 20, "after [MB]": me.memory_info().rss >> 20,
            "processes left": len(me.children(recursive=True)), "load": round(os.getloadavg()[0], 1),
            "held-out Dice": [kept.before, kept.after], "others": kept.others,
        }  # fmt: skip
        viewer.close()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
