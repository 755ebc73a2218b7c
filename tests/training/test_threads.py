import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from training.drr import Geometry, line_integrals
from training.images.types import CT
from training.threads import in_stretches, thread_count


def test_every_index_is_worked_on_once():
    done = np.zeros(103, int)

    def work(begin, end):
        done[begin:end] += 1

    in_stretches(work, len(done), 10)
    assert (done == 1).all()


def test_an_error_in_one_stretch_reaches_the_caller():
    def work(begin, end):
        if begin == 20:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        in_stretches(work, 50, 10)


def test_the_number_of_threads_can_be_set(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "3")
    assert thread_count() == 3


def test_projections_from_several_threads_at_once_are_right():
    ct = CT(np.random.default_rng(0).integers(0, 1000, (30, 40, 50)).astype(np.int16), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    geometries = [Geometry.view(ct, angle, rows=80, columns=80) for angle in range(0, 80, 10)]
    expected = [line_integrals(ct.hu, ct, geometry) for geometry in geometries]
    seen = [None] * len(geometries)

    def project(i):
        seen[i] = line_integrals(ct.hu, ct, geometries[i])

    threads = [threading.Thread(target=project, args=(i,)) for i in range(len(geometries))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")
def test_a_forked_child_gets_threads_of_its_own():
    code = (
        "import os; os.environ['NUMBA_NUM_THREADS'] = '2'\n"
        "from training.threads import in_stretches\n"
        "in_stretches(lambda a, b: None, 10, 1)\n"
        "child = os.fork()\n"
        "if child == 0:\n    in_stretches(lambda a, b: None, 10, 1)\n    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "7"
