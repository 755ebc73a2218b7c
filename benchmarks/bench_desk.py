"""Drags a slider of the Radiograph widget with the mouse in the running window and times what the eye sees.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/bench_desk.py

Every mouse move is a real event on the slider. A preview counts when the window has drawn it (the canvas's frameSwapped signal);
its latency runs from the mouse event that asked for this pose to that moment. The window's heart beats every few milliseconds:
the longest pauses between two beats are how long a click or a key would have waited.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

SCREEN = (1600, 1000)
MOUSE_HZ = 60
"""Mouse moves per second, as an ordinary mouse driver reports."""
BEAT_MS = 4
"""Distance of the window's heartbeats [ms]."""
LOOK_MS = 2
"""How often it is looked whether something is done [ms]."""
DRAG_SECONDS = 8.0
SWEEP_SECONDS = 1.0
"""How long the hand takes from one end of its sweep to the other [s]."""
REACH = 0.2
"""How far the hand moves to either side of the middle, as a share of the slider's width."""
PATIENCE = 120.0


@dataclass
class Watch:
    """What was ordered (by its id, with the time of the mouse event), what was drawn, and how the window's heart beat [s]."""

    moved: float = 0.0
    orders: dict[int, tuple[Any, float]] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    last: Any = None

    def ask(self, order: Any) -> None:
        """The hand's last move ordered this."""
        self.orders[id(order)] = (order, self.moved)

    def see(self, picture: Any) -> None:
        """The window has drawn a picture."""
        if picture is self.last:
            return
        self.last = picture
        if id(picture.order) in self.orders:
            self.latencies.append(1000 * (time.perf_counter() - self.orders[id(picture.order)][1]))


def main() -> None:
    """Open the window, drag, print a Markdown table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=DRAG_SECONDS, help="how long each drag lasts")
    arguments.add_argument("--slider", default="primary", help="the slider that is dragged")
    arguments.add_argument("--phantom", action="store_true", help="the procedural thorax instead of the sample CT")
    arguments.add_argument("--window", type=int, nargs=2, default=SCREEN, metavar=("WIDTH", "HEIGHT"), help="size of the window")
    asked = arguments.parse_args()

    import napari

    from napari_chexanatomy.demo import open_widget

    viewer = napari.Viewer(title="CheXanatomy")
    viewer.window.resize(*asked.window)
    viewer.open_sample("napari-chexanatomy", "phantom" if asked.phantom else "lidc")
    widget = open_widget(viewer, "Radiograph")
    widget.take(0.0)
    wait(lambda: widget.settled and widget.warm_up())
    ticked = tuple(widget.structures.checked())
    rows = []
    shows = (("radiograph alone", (), False), (f"with {len(ticked)} structures", ticked, False), ("room in 3D", ticked, True))
    for name, structures, in_room in shows:
        widget.structures.set_checked(structures)
        widget.show_room(in_room)
        wait(lambda in_room=in_room: widget.settled and ("patient" in viewer.layers) == in_room)
        drag(viewer, widget, asked.slider, 1.5)  # the first drag compiles and thins out
        rows.append((name, *drag(viewer, widget, asked.slider, asked.seconds)))
    print(f"{platform.machine()}, {os.cpu_count()} cores, {os.getloadavg()[0]:.1f} load, OpenGL {renderer()}")
    print(f"window {viewer.window._qt_window.width()} x {viewer.window._qt_window.height()}, slider “{asked.slider}”\n")
    columns = ("previews/s", "p50 [ms]", "p95 [ms]", "window busy p95 [ms]", "longest [ms]", "full picture after release [ms]")
    print(f"| while dragging | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|")
    for name, rate, latencies, gaps, full in rows:
        numbers = [rate, centile(latencies, 50), centile(latencies, 95), centile(gaps, 95), max(gaps), full]
        print(f"| {name} | " + " | ".join(f"{number:.0f}" for number in numbers) + " |")
    viewer.close()


def drag(viewer: Any, widget: Any, name: str, seconds: float) -> tuple[float, list[float], list[float], float]:
    """Drag one slider to and fro and let go.

    Returns previews per second, their latencies, the pauses between heartbeats and the wait for the full picture [ms].
    """
    slider = widget.pose.sliders[name]
    handle = slider.handle
    slider.setValue(0.0)
    wait(lambda: widget.settled)
    watch = Watch()

    def ask(_value: float) -> None:
        watch.ask(widget._wanted)  # made just now: the widget hears of the slider first

    slider.valueChanged.connect(ask)

    def see() -> None:
        if widget.picture is not None:
            watch.see(widget.picture)

    swapped = viewer.window._qt_viewer.canvas.native.frameSwapped
    swapped.connect(see)
    middle, y = grip(handle)
    mouse(handle, "MouseButtonPress", middle, y)
    start = time.perf_counter()

    def swing() -> None:
        share = 1 - abs((time.perf_counter() - start) / SWEEP_SECONDS % 2 - 1) * 2
        watch.moved = time.perf_counter()
        mouse(handle, "MouseMove", middle + share * REACH * handle.width(), y)

    with every(1000 / MOUSE_HZ, swing), every(BEAT_MS, lambda: watch.beats.append(time.perf_counter())):
        wait(lambda: time.perf_counter() - start > seconds)
    rate = len(watch.latencies) / (time.perf_counter() - start)
    before = widget.picture
    released = time.perf_counter()
    mouse(handle, "MouseButtonRelease", middle, y)
    wait(lambda: widget.settled and watch.last is widget.picture and widget.picture is not before)
    full = 1000 * (time.perf_counter() - released)
    swapped.disconnect(see)
    slider.valueChanged.disconnect(ask)
    gaps = [1000 * (after - before) for before, after in zip(watch.beats, watch.beats[1:], strict=False)]
    return rate, watch.latencies, gaps, full


@contextlib.contextmanager
def every(milliseconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Let the window do something again and again."""
    from qtpy.QtCore import Qt, QTimer

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(act)
    timer.start(round(milliseconds))
    yield
    timer.stop()


def wait(done: Callable[[], bool]) -> None:
    """Let the window work as under `napari.run` until something is done. Raises TimeoutError when it takes too long."""
    from qtpy.QtCore import QEventLoop

    loop = QEventLoop()
    end = time.monotonic() + PATIENCE
    with every(LOOK_MS, lambda: loop.quit() if done() or time.monotonic() > end else None):
        loop.exec()
    if not done():
        raise TimeoutError("the window did not get done")


def grip(handle: Any) -> tuple[float, float]:
    """Where the hand takes hold of a slider: the middle of its handle (x, y) [px]."""
    from qtpy.QtWidgets import QStyle, QStyleOptionSlider

    option = QStyleOptionSlider()
    handle.initStyleOption(option)
    style = handle.style()
    knob = style.subControlRect(QStyle.ComplexControl.CC_Slider, option, QStyle.SubControl.SC_SliderHandle, handle)
    return knob.center().x(), knob.center().y()


def mouse(target: Any, kind: str, x: float, y: float) -> None:
    """Send a widget what the mouse driver would."""
    from qtpy.QtCore import QEvent, QPointF, Qt
    from qtpy.QtGui import QMouseEvent
    from qtpy.QtWidgets import QApplication

    left, none = Qt.MouseButton.LeftButton, Qt.MouseButton.NoButton
    button = none if kind == "MouseMove" else left
    buttons = none if kind == "MouseButtonRelease" else left
    place = QPointF(round(x), round(y))
    where = QPointF(target.mapToGlobal(place.toPoint()))
    event = QMouseEvent(getattr(QEvent.Type, kind), place, where, button, buttons, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(target, event)


def centile(values: list[float], percent: float) -> float:
    """The value below which so many percent lie; NaN for none."""
    import numpy as np

    return float(np.percentile(values, percent)) if values else float("nan")


def renderer() -> str:
    """What draws: a graphics card or software."""
    from vispy.gloo import gl

    return str(gl.glGetParameter(gl.GL_RENDERER))


if __name__ == "__main__":
    main()
