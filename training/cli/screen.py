"""A screen for the window: the user's, or a virtual one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from training.errors import ChexanatomyError

SIZE = "1600x1000x24"
"""Columns x rows x bits of the virtual screen."""
_PROBE = "from qtpy.QtWidgets import QApplication; QApplication([])"


@contextmanager
def virtual_screen() -> Iterator[None]:
    """Show windows on a virtual screen while the block runs, where Xvfb is installed; elsewhere on the user's screen.

    Raises ChexanatomyError when there is neither.
    """
    program = shutil.which("Xvfb") if sys.platform.startswith("linux") else None
    if program is None:
        require_screen()
        yield
        return
    command = [program, "-displayfd", "1", "-screen", "0", SIZE, "-nolisten", "tcp"]
    before = {name: os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            number = server.stdout.readline().strip() if server.stdout else ""
            if not number:
                raise ChexanatomyError("The virtual screen (Xvfb) did not start.")
            os.environ.pop("WAYLAND_DISPLAY", None)
            os.environ.update(DISPLAY=f":{number}", QT_QPA_PLATFORM="xcb")
            require_screen()
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            server.terminate()


def require_screen() -> None:
    """Raise ChexanatomyError where no window can be opened: Qt itself would end the whole program."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ChexanatomyError("There is no display for the window: use chexanatomy demo --headless DIR, or install xvfb.")
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        said = [line for line in probe.stderr.strip().splitlines() if line.strip()]
        reason = said[-1] if said else f"it ended with {probe.returncode}"
        raise ChexanatomyError(
            f"Qt cannot open a window here ({reason}): install napari-chexanatomy[all] and Qt's system libraries."
        )
