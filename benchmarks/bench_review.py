"""Time the review desk on a large data set, in its real window.

`xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/bench_review.py DATASET --cases 5000 --scratch DIR`

The data set's cases are copied (not linked) under new ids until there are enough. Measured: time from opening the folder to the
first picture and to a full screen of thumbnails; time for each Next, from the key to the picture with its masks; time for a
decision to be on disk; scrolling through the gallery; resident memory. All that twice: with nothing kept, while the masks are
being checked, and with everything kept. In between, the time of the checks as a command (--no-checks leaves that out).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

PATIENCE = 900.0
"""How long anything may take [s]."""
NEXTS = 30
PAGES = 10


def enlarge(source: Path, cases: int, out: Path) -> Path:
    """Copy a data set's cases under new ids until there are `cases` of them."""
    from training.dataset import Dataset

    if (out / "cases.jsonl").exists():
        return out
    given = Dataset.open(source)
    for part in ("images", "masks"):
        (out / part).mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(cases):
        case = given.cases[number % len(given.cases)]
        name = f"{case.id}-{number:05d}"
        shutil.copyfile(source / case.image, out / "images" / f"{name}.png")
        shutil.copyfile(source / "masks" / f"{case.id}.json", out / "masks" / f"{name}.json")
        lines.append(replace(case, id=name, image=f"images/{name}.png").to_json())
    (out / "cases.jsonl").write_text("\n".join(lines) + "\n")
    return out


def wait(done: Callable[[], bool]) -> float:
    """Let the window work until something is done; seconds it took."""
    from qtpy.QtWidgets import QApplication

    start = time.perf_counter()
    while not done():
        if time.perf_counter() - start > PATIENCE:
            raise TimeoutError("the window did not get done")
        QApplication.processEvents()
        time.sleep(0.001)
    return time.perf_counter() - start


def resident() -> float:
    """Resident memory of this process [MB]."""
    import psutil

    return psutil.Process().memory_info().rss / 1e6


def shown(widget: Any) -> bool:
    """Whether a case with its masks is on the canvas."""
    return widget.opened is not None and widget._wanted is None and widget._canvas.idle


def measure(folder: Path) -> dict[str, float]:
    """Open the data set in a new window and walk through it."""
    import napari
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_chexanatomy.review import ReviewWidget

    viewer = napari.Viewer(title="CheXanatomy")
    viewer.window.resize(1600, 1000)
    widget = ReviewWidget(viewer)
    viewer.window.add_dock_widget(widget, name="Review")
    wait(lambda: viewer.window._qt_window.isVisible())
    figures = {"memory of the empty window [MB]": resident()}
    start = time.perf_counter()
    widget.open(folder)
    wait(lambda: shown(widget))
    figures["first picture [s]"] = time.perf_counter() - start
    gallery = widget.panel.gallery
    widget.panel.tabs.setCurrentWidget(widget.panel.overview)
    wait(lambda: gallery.cases._pictures and not gallery.cases.waiting)
    figures["first screen of thumbnails [s]"] = time.perf_counter() - start
    bar = gallery.verticalScrollBar()
    frames = []
    for page in range(PAGES):
        bar.setValue(round(bar.maximum() * page / PAGES))
        begun = time.perf_counter()
        gallery.viewport().repaint()
        frames.append(time.perf_counter() - begun)
        wait(lambda: not gallery.cases.waiting)
    figures["gallery, longest paint of a page [ms]"] = max(frames) * 1000
    widget.panel.tabs.setCurrentWidget(widget.panel.case)
    canvas = viewer.window._qt_window._qt_viewer.canvas.native
    times = []
    for number in range(NEXTS):
        before = widget.opened
        begun = time.perf_counter()
        QTest.keyClick(canvas, Qt.Key.Key_N)
        wait(lambda before=before: shown(widget) and widget.opened is not before)
        times.append(time.perf_counter() - begun)
        if number % 2:
            looked = time.perf_counter()  # a person looks at some for a moment
            wait(lambda looked=looked: time.perf_counter() - looked > 0.3)
    figures["next, median [ms]"] = float(np.median(times)) * 1000
    figures["next, 95th percentile [ms]"] = float(np.quantile(times, 0.95)) * 1000
    begun = time.perf_counter()
    for _ in range(20):
        QTest.keyClick(canvas, Qt.Key.Key_F)
    figures["decision on disk [ms]"] = (time.perf_counter() - begun) / 20 * 1000
    box = widget.panel.filter.structure
    begun = time.perf_counter()
    box.setCurrentIndex(box.findData("heart"))
    figures["filter by a structure [ms]"] = (time.perf_counter() - begun) * 1000
    wait(lambda: shown(widget))
    figures["memory after the walk [MB]"] = resident()
    viewer.close()
    return figures


def check(folder: Path) -> None:
    """Check all masks, as `chexanatomy review` does."""
    import resource

    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "training.cli", "review", str(folder), "--show", "0"], check=True, capture_output=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.perf_counter() - start
    print(f"all masks checked in {seconds:.0f} s; processor time of all children so far {used.ru_utime + used.ru_stime:.0f} s")


def main() -> None:
    """Run it in processes of their own, so that one round does not warm the other's caches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--scratch", type=Path, default=None, help="where the copy goes and stays (default: a temporary folder)")
    parser.add_argument("--no-checks", dest="checks", action="store_false", help="leave out the time of the checks")
    parser.add_argument("--round", choices=("cold", "warm"), default=None, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.round:
        print(json.dumps(measure(given.dataset)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = enlarge(given.dataset, given.cases, (given.scratch or Path(temporary)) / f"{given.cases}-cases")
        for kept in ("cache", "reviews.sqlite") if given.checks else ():
            path = folder / kept
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for name in ("cold", "warm"):
            command = [sys.executable, __file__, str(folder), "--round", name]
            figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
            print(f"{given.cases} cases, {'nothing kept yet' if name == 'cold' else 'opened again'}")
            for what, value in figures.items():
                print(f"  {what:42}{value:10.2f}" if value < 10 else f"  {what:42}{value:10.0f}")
            if name == "cold" and given.checks:
                check(folder)


if __name__ == "__main__":
    main()
