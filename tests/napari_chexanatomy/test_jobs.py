from __future__ import annotations

import sys
import threading
import time

import psutil
import pytest
from qtpy.QtCore import QObject

from napari_chexanatomy.jobs import ChildProcess, Job, LatestWins, Outcome, wait_with_window_alive
from training.errors import Cancelled, ChexanatomyError
from training.progress import Progress


@pytest.fixture
def owner(qapp):
    thing = QObject()
    yield thing
    thing.deleteLater()
    qapp.processEvents()


def test_a_job_hands_its_value_over_in_the_gui_thread_after_its_progress(qtbot, owner):
    here, seen = threading.current_thread(), []

    def work(progress):
        seen.append(threading.current_thread() is here)
        progress(Progress(1, 2, "half"))
        return 42

    job = Job(work, owner)
    job.progressed.connect(lambda report: seen.append((report.text, threading.current_thread() is here)))
    job.succeeded.connect(lambda value: seen.append((value, threading.current_thread() is here)))
    with qtbot.waitSignal(job.ended):
        job.start()
    assert seen == [False, ("half", True), (42, True)]
    assert not job.running


def test_a_cancelled_job_ends_at_its_next_report(qtbot, owner):
    def work(progress):
        while True:
            progress(Progress(0, 0))
            time.sleep(0.01)

    job = Job(work, owner)
    job.start()
    qtbot.wait(50)
    with qtbot.waitSignals([job.cancelled, job.ended]):
        job.cancel()


@pytest.mark.parametrize(("writes", "ends_as"), [(False, "cancelled"), (True, "succeeded")])
def test_what_comes_after_cancel_is_dropped_unless_it_is_written(qtbot, owner, writes, ends_as):
    begun, go = threading.Event(), threading.Event()
    job = Job(lambda progress: (begun.set(), go.wait(60)), owner, writes)
    seen = []
    job.cancelled.connect(lambda: seen.append("cancelled"))
    job.succeeded.connect(lambda _: seen.append("succeeded"))
    job.start()
    qtbot.waitUntil(begun.is_set)
    job.cancel()
    with qtbot.waitSignal(job.ended):
        go.set()
    assert seen == [ends_as]


def test_an_error_after_cancel_is_told(qtbot, owner):
    go = threading.Event()
    job = Job(lambda progress: (go.wait(60), _fail(progress)), owner)
    job.start()
    job.cancel()
    with qtbot.waitSignal(job.failed):
        go.set()


def test_an_error_of_the_user_s_making_arrives_as_its_sentence(qtbot, owner):
    def work(progress):
        raise ChexanatomyError("This is a photograph.")

    job = Job(work, owner)
    with qtbot.waitSignal(job.failed) as failed:
        job.start()
    assert failed.args == ["This is a photograph."]


def test_a_fault_of_the_program_is_one_line_too(qtbot, owner, caplog):
    job = Job(lambda progress: 1 / 0, owner)
    with qtbot.waitSignal(job.failed) as failed:
        job.start()
    assert "ZeroDivisionError" in failed.args[0]
    assert "\n" not in failed.args[0]
    assert "Traceback" in caplog.text


def test_a_job_stops_when_its_owner_is_gone(qtbot, qapp):
    stopped = threading.Event()

    def work(progress):
        try:
            while True:
                progress(Progress(0, 0))
                time.sleep(0.01)
        except Cancelled:
            stopped.set()
            raise

    owner = QObject()
    Job(work, owner).start()
    qtbot.wait(50)
    owner.deleteLater()
    qtbot.waitUntil(stopped.is_set)


def test_what_waits_is_replaced_by_what_comes_later(qtbot, owner):
    queue, done, go = LatestWins(owner), [], threading.Event()
    queue.delivered.connect(done.append)

    def first():
        go.wait(5)
        return "first"

    queue.submit(first)
    qtbot.waitUntil(lambda: not queue._slot)
    for number in range(20):
        queue.submit(lambda number=number: number)
    go.set()
    qtbot.waitUntil(lambda: queue.idle and len(done) == 2)
    assert done == [Outcome("first"), Outcome(19)]


def test_an_error_does_not_end_the_preview_thread(qtbot, owner):
    queue, done = LatestWins(owner), []
    queue.delivered.connect(done.append)

    def bad():
        raise ChexanatomyError("No.")

    queue.submit(bad)
    qtbot.waitUntil(lambda: len(done) == 1)
    queue.submit(lambda: 1)
    qtbot.waitUntil(lambda: len(done) == 2)
    assert [outcome.error for outcome in done] == ["No.", ""]


def test_nothing_is_delivered_after_closing(qtbot, owner):
    queue, done, go = LatestWins(owner), [], threading.Event()
    queue.delivered.connect(done.append)
    queue.submit(lambda: go.wait(5))
    queue.close()
    go.set()
    queue.submit(lambda: 1)
    qtbot.wait(100)
    assert done == []


def test_waiting_keeps_the_window_alive(qtbot, qapp):
    ticks = []
    timer = QObject()
    timer.startTimer(10)
    timer.timerEvent = lambda event: ticks.append(time.monotonic())
    assert wait_with_window_alive("Reading", lambda progress: time.sleep(0.3) or "read") == "read"
    assert len(ticks) >= 3
    with pytest.raises(ChexanatomyError, match="truncated"):
        wait_with_window_alive("Reading", _fail)


def _fail(progress):
    raise ChexanatomyError("The file is truncated.")


def test_a_child_reports_its_progress_and_its_own_sentence(tmp_path):
    reports = []
    ChildProcess(["sample", "phantom", str(tmp_path / "body"), "--spacing", "8", "--progress", "json"]).run(reports.append)
    assert (tmp_path / "body" / "ct.nii.gz").is_file()
    with pytest.raises(ChexanatomyError, match="nowhere") as caught:
        ChildProcess(["render", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--progress", "json"]).run(
            reports.append
        )
    assert "Traceback" not in str(caught.value)
    assert not str(caught.value).startswith("chexanatomy:")


def test_cancelling_ends_the_child_and_its_children(tmp_path):
    started = time.monotonic()
    before = set(psutil.Process().children(recursive=True))

    def progress(report: Progress) -> None:
        if set(psutil.Process().children(recursive=True)) - before and time.monotonic() - started > 0.5:
            raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        ChildProcess(["sample", "phantom", str(tmp_path / "big"), "--spacing", "0.7"]).run(progress)
    assert not set(psutil.Process().children(recursive=True)) - before


LINGERS = """#!{python}
import json, signal, sys, time
def end(*_):
    time.sleep({seconds})
    print("kept", flush=True)
    raise SystemExit(130)
signal.signal(signal.SIGINT, end)
while True:
    sys.stdout.write(json.dumps({{"done": 1, "total": 2}}) + "\\n")  # at once, as our commands do: no signal comes between
    sys.stdout.flush()
    time.sleep(0.05)
"""


@pytest.fixture
def lingering(tmp_path, monkeypatch):
    """Makes children of a program that takes so many seconds to end after it was asked to."""

    def make(seconds):
        program = tmp_path / "lingers"
        program.write_text(LINGERS.format(python=sys.executable, seconds=seconds))
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return ChildProcess([])

    monkeypatch.setattr("napari_chexanatomy.jobs.GRACE_SECONDS", 0.1, raising=False)  # there is no such limit
    return make


def test_a_child_that_is_stopped_gently_is_waited_for(lingering):
    child = lingering(seconds=1)
    assert child.run(lambda report: child.stop_gently() if report.done else None) == ["kept"]


def test_a_child_that_is_stopped_gently_can_still_be_cancelled(lingering):
    child, asked = lingering(seconds=600), []

    def progress(report):
        if report.done:
            child.stop_gently()
            asked.append(report)
        if len(asked) > 20:
            raise Cancelled("Stopped.")

    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(Cancelled):
        child.run(progress)
    assert not set(psutil.Process().children(recursive=True)) - before
