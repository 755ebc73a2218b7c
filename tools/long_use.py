"""Works for hours in the real window, as a person would, and writes down what the program holds on to.

    xvfb-run -a -s "-screen 0 1600x1000x24" python -m tools.long_use --dataset DATASET --out DIR --hours 2

Turns follow each other: radiographs, questions to the model, review, few-shot learning, all through the widgets' own buttons,
sliders, keys and lists (tools/long_use_hands.py). Every turn ends with all widgets closed and every layer deleted but the CT and
its label map; now and then those go as well. Then the program is at rest, and what it holds is compared with earlier rests.
DIR/use.jsonl gets one line every few actions and one at each rest; the table that is printed is made from it (`--report
DIR/use.jsonl` prints it again). The data set is copied first: decisions are made on the copy.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

WARM_UP = 5
"""Turns of which nothing is asked yet: code is compiled, caches fill."""
EVERY = 25
"""Actions between two lines."""
FLAT = 0.05
"""So much may memory at rest grow after the warm-up, as a share."""
REST_SECONDS = 3.0
"""How long the window is left alone before a rest is written down [s]: threads end within half a second."""


class Watch:
    """Counts actions, writes what the process holds, and keeps the pace."""

    def __init__(self, viewer: Any, out: Path, share: float) -> None:
        """share: how much of one processor may be used."""
        self.viewer, self.share, self.turn = viewer, share, 0
        self.kinds: Counter[str] = Counter()
        self.complaints: Counter[str] = Counter()
        self._lines = (out / "use.jsonl").open("a", encoding="utf-8")
        self._process = psutil.Process()
        self._begun = self._last = time.monotonic()
        self._used = self._processor_time()

    @property
    def actions(self) -> int:
        """Actions so far."""
        return sum(self.kinds.values())

    def did(self, kind: str) -> None:
        """One action is done: write a line now and then, and wait until the pace is kept."""
        self.kinds[kind] += 1
        if self.actions % EVERY == 0:
            self.write(rest=False)
        pause(self._ahead())

    def _processor_time(self) -> float:
        times = self._process.cpu_times()
        return times.user + times.system + times.children_user + times.children_system

    def _ahead(self) -> float:
        """Seconds by which the window has been used faster than the pace."""
        now, used = time.monotonic(), self._processor_time()
        ahead = (used - self._used) / self.share - (now - self._last)
        self._last, self._used = now + max(0.0, ahead), used
        return min(max(0.2, ahead), 60.0)

    def write(self, rest: bool) -> None:
        """Write one line."""
        from napari.layers import Layer
        from qtpy.QtWidgets import QApplication

        from napari_chexanatomy.desk import DeskWidget

        every = gc.get_objects()
        alive = [one for one in every if isinstance(one, (Layer, DeskWidget))]
        line = {
            "seconds": round(time.monotonic() - self._begun, 1),
            "turn": self.turn,
            "actions": self.actions,
            "rest": rest,
            "resident_mb": round(self._process.memory_info().rss / 1e6, 1),
            "python_threads": sorted(thread.name for thread in threading.enumerate()),
            "threads": self._process.num_threads(),
            "children": [child.name() for child in self._process.children(recursive=True)],
            "layers": [layer.name for layer in self.viewer.layers],
            "layers_alive": sum(isinstance(one, Layer) for one in alive),
            "widgets_alive": sum(isinstance(one, DeskWidget) for one in alive),
            "qt_widgets": len(QApplication.allWidgets()),
            "objects": len(every),
            "open_files": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None,
            "processor_seconds": round(self._processor_time(), 1),
        }
        self._lines.write(json.dumps(line) + "\n")
        self._lines.flush()


def pause(seconds: float) -> None:
    """Let the window live so long."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    QTimer.singleShot(int(1000 * seconds), loop.quit)
    loop.exec()


def use(given: argparse.Namespace) -> None:
    """Work in turns until the time is over."""
    import napari_chexanatomy  # noqa: F401, I001  (first, as `chexanatomy demo` does)
    import napari

    from tools.long_use_hands import Hands

    given.out.mkdir(parents=True, exist_ok=True)
    dataset = given.out / "dataset"
    if not dataset.exists():
        shutil.copytree(given.dataset, dataset, ignore=shutil.ignore_patterns("reviews.sqlite*"))
    viewer = napari.Viewer(title="CheXanatomy")
    viewer.window.resize(1600, 960)
    watch = Watch(viewer, given.out, given.share)
    hands = Hands(viewer, watch, dataset, given.out / "project", random.Random(given.seed), given.sample)
    end = time.monotonic() + 3600 * given.hours
    while time.monotonic() < end:
        watch.turn += 1
        hands.turn()
        pause(REST_SECONDS)
        gc.collect()
        watch.write(rest=True)
    print(json.dumps({"actions": watch.actions, "kinds": watch.kinds, "said in red": watch.complaints}, indent=1))
    viewer.close()


def report(path: Path) -> int:
    """Print the table of the rests; 1 where something grows."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rests = [line for line in lines if line["rest"] and line["turn"] > WARM_UP]
    if len(rests) < 4:
        print("Too few rests to judge.")
        return 1
    print(f"{lines[-1]['actions']} actions in {lines[-1]['seconds'] / 60:.0f} minutes, {lines[-1]['turn']} turns, "
          f"{lines[-1]['processor_seconds'] / lines[-1]['seconds']:.2f} of a processor")  # fmt: skip
    quarter = max(2, len(rests) // 4)
    grown = False
    print("| at rest | first quarter | last quarter | most |\n|---|---|---|---|")
    for name in ("resident_mb", "python_threads", "threads", "children", "layers", "layers_alive", "widgets_alive", "qt_widgets",
                 "objects", "open_files"):  # fmt: skip
        values = [len(line[name]) if isinstance(line[name], list) else line[name] for line in rests]
        first, last = statistics.median(values[:quarter]), statistics.median(values[-quarter:])
        print(f"| {name.replace('_', ' ')} | {first:g} | {last:g} | {max(values):g} |")
        grown |= last > first * (1 + FLAT)
    print("Something grew." if grown else "Flat.")
    return int(grown)


def main() -> int:
    """Use the window, or report on an earlier use."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a data set with cases to review")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--share", type=float, default=0.5, help="most of one processor that the window may use")
    parser.add_argument("--sample", default="lidc", choices=("lidc", "phantom"), help="the CT: real, or computed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="only print the table of an earlier use")
    given = parser.parse_args()
    if given.report is None:
        use(given)
    return report(given.report or given.out / "use.jsonl")


if __name__ == "__main__":
    sys.exit(main())
