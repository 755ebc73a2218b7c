"""What a finished job knew and what came of it is let go of, though napari's worker lives on."""

import gc
import weakref

from qtpy.QtCore import QObject

from napari_chexanatomy.jobs import Job
from napari_chexanatomy.memory import give_back


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
