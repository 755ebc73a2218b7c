"""What a finished job knew and what came of it is let go of, though napari's worker lives on."""

import gc
import os
import platform
import subprocess
import sys
import weakref

import pytest
from qtpy.QtCore import QObject

from napari_chexanatomy.jobs import Job
from napari_chexanatomy.memory import give_back, settle


class Large:
    """Stands for a data set or for masks."""


def test_a_finished_job_holds_neither_what_it_worked_on_nor_its_result(qtbot):
    owner, given = QObject(), Large()
    results, alive = [], [weakref.ref(given)]

    def work(_progress, given=given):
        result = Large()
        alive.append(weakref.ref(result))
        return result, given

    job = Job(work, owner)
    job.succeeded.connect(results.append)
    with qtbot.waitSignal(job.ended, timeout=5000):
        job.start()
    assert len(results) == 1
    results.clear()
    del work, given
    gc.collect()
    assert [ref() for ref in alive] == [None, None]


def test_memory_can_be_given_back_at_any_time():
    give_back()


ENDS_WHILE_WORKING = """
import time
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication
from napari_chexanatomy.jobs import Job

def work(progress):
    from training.progress import Progress
    while True:
        time.sleep(0.05)
        progress(Progress(0, 0, "working"))

application, owner = QApplication([]), QObject()
job = Job(work, owner)
job.start()
QTimer.singleShot(500, application.quit)
application.exec()
"""


def test_a_program_that_ends_while_a_job_runs_ends_well():
    ended = subprocess.run([sys.executable, "-c", ENDS_WHILE_WORKING], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")


HOW_MUCH_STAYS = """
import sys
import numpy, psutil
if sys.argv[1] == "settled":
    import napari_chexanatomy
np_ones, process, small = numpy.ones, psutil.Process(), []
np_ones(2**22)  # freed, it teaches glibc to take arrays up to its size from the heap
before = process.memory_info().rss
for _ in range(24):
    large = np_ones(2**20)
    small.append(np_ones(2**13))
    del large
    small.append(np_ones(2**17))
held = sum(array.nbytes for array in small)
print((process.memory_info().rss - before - held) / 2**20)
"""


def test_other_systems_do_without(monkeypatch):
    def nowhere(name):
        raise TypeError("argument of type 'NoneType' is not iterable")

    monkeypatch.setattr("ctypes.CDLL", nowhere)
    settle.__wrapped__()
    give_back()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
def test_large_arrays_leave_no_holes_behind():
    def left(*how: str) -> float:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        run = [sys.executable, "-c", HOW_MUCH_STAYS, *how]
        return float(subprocess.run(run, capture_output=True, text=True, check=True, timeout=60, env=environment).stdout)

    assert left("settled") < 2 < left("untouched")
