"""Work off the GUI thread: one-off jobs with progress and cancel, latest-wins rendering, and child processes."""

from __future__ import annotations

import atexit
import collections
import contextlib
import functools
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import IO, Any

from qtpy.compat import isalive
from qtpy.QtCore import QObject, QTimer, Signal

from training.errors import Cancelled, ChexanatomyError
from training.progress import Progress, ProgressCallback

logger = logging.getLogger(__name__)
POLL_MS = 50
"""How often the window looks at a running job [ms]."""

EXIT_MS = 10_000
"""How long the program waits at its end for work that was asked to end [ms]."""

MOST_REPORTS = 500
"""Progress reports kept between two looks; older ones are dropped."""

Work = Callable[[ProgressCallback], Any]


@dataclass(frozen=True)
class Outcome:
    """What a piece of work ended with: a value, or the sentence that says why there is none."""

    value: Any = None
    error: str = ""
    cancelled: bool = False


def attempt(work: Callable[[], Any]) -> Outcome:
    """Run the work; an error of the user's making becomes its sentence, any other is logged and named."""
    try:
        return Outcome(work())
    except Cancelled as error:
        return Outcome(error=str(error), cancelled=True)
    except (ChexanatomyError, OSError) as error:
        return Outcome(error=str(error))
    except MemoryError:
        return Outcome(error="There is not enough memory for this: close other programs or choose a smaller picture.")
    except Exception as error:
        logger.exception("A job failed")
        return Outcome(
            error=f"This did not work, by a fault of the program ({type(error).__name__}: {error}); details are in the log."
        )


class Job(QObject):
    """One piece of work in a napari worker thread. Its signals arrive in the GUI thread; none arrives after its owner is gone."""

    progressed = Signal(object)
    succeeded = Signal(object)
    failed = Signal(str)
    cancelled = Signal()
    ended = Signal()

    def __init__(self, work: Work, owner: QObject, writes: bool = False) -> None:
        """`work` is called with a progress callback; the job ends with its owner. writes: what it has written, Cancel leaves."""
        super().__init__(owner)
        self._writes = writes
        self._work: Work | None = work
        self._stop = threading.Event()
        self._reports: collections.deque[Progress] = collections.deque(maxlen=MOST_REPORTS)
        self._outcome: Outcome | None = None
        self._running = False
        self._worker: Any = None
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._report)

    @property
    def running(self) -> bool:
        """True from start until the outcome has been delivered."""
        return self._running

    def start(self) -> None:
        """Begin the work."""
        from napari.qt.threading import create_worker

        end_with_the_program()
        self._running = True
        self._worker = create_worker(self._run, _start_thread=False, _ignore_errors=True)
        self._worker.finished.connect(self._finish)
        self._worker.start()
        self._timer.start()

    def cancel(self) -> None:
        """Ask the work to end at its next progress report; what comes of it is dropped, unless it is written already."""
        self._stop.set()

    def _run(self) -> None:
        work, worker, stop, reports = self._work, self._worker, self._stop, self._reports
        assert work is not None
        last: list[Progress] = []

        def progress(report: Progress) -> None:
            if not last or report is not last[0]:
                last[:] = [report]
                reports.append(report)
            if stop.is_set() or worker.abort_requested or not isalive(self):
                raise Cancelled("Stopped.")

        self._outcome = attempt(lambda: work(progress))

    def _report(self) -> None:
        while self._reports:
            self.progressed.emit(self._reports.popleft())

    def _finish(self) -> None:
        self._timer.stop()
        self._report()
        self._running = False
        outcome = self._outcome or Outcome(cancelled=True)
        # The worker outlives its work, and would keep alive what the work knew and what came of it; it is still ending itself.
        self._work = self._outcome = None
        too_late = self._stop.is_set() and not self._writes and not outcome.error
        if outcome.cancelled or too_late:
            self.cancelled.emit()
        elif outcome.error:
            self.failed.emit(outcome.error)
        else:
            self.succeeded.emit(outcome.value)
        self.ended.emit()
        self.deleteLater()


@functools.cache
def end_with_the_program() -> None:
    """See, once, that the program waits for its workers when it ends without napari's own event loop, which does so itself: one
    that comes to its end while the interpreter is taken down would abort the process."""
    from napari.qt.threading import WorkerBase

    def wait_for_all() -> None:
        with contextlib.suppress(RuntimeError):
            WorkerBase.await_workers(EXIT_MS)

    atexit.register(wait_for_all)


class LatestWins(QObject):
    """A thread with one slot: what is submitted while it works replaces what waits, so pictures never queue up."""

    delivered = Signal(object)
    """Carries the Outcome, into the GUI thread."""

    def __init__(self, owner: QObject) -> None:
        """The thread starts with the first piece of work and ends with the owner."""
        super().__init__(owner)
        self._condition = threading.Condition()
        self._slot: list[Callable[[], Any]] = []
        self._closed = threading.Event()
        self._busy = False
        self._thread: threading.Thread | None = None

    @property
    def idle(self) -> bool:
        """True when nothing runs and nothing waits."""
        with self._condition:
            return not self._busy and not self._slot

    @property
    def outdated(self) -> bool:
        """True when something newer waits for what runs now."""
        return bool(self._slot)

    def submit(self, work: Callable[[], Any]) -> None:
        """Run the work as soon as what runs now has ended, unless something newer comes first; see `delivered`."""
        if self._closed.is_set():
            return
        with self._condition:
            self._slot[:] = [work]
            self._condition.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="chexanatomy-preview", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread after what runs now; nothing is delivered any more."""
        self._closed.set()
        with self._condition:
            self._slot.clear()
            self._condition.notify()

    def _loop(self) -> None:
        condition, slot, closed = self._condition, self._slot, self._closed
        while not closed.is_set():
            with condition:
                while not slot and not closed.is_set() and isalive(self):
                    condition.wait(0.5)
                if closed.is_set() or not isalive(self):
                    return
                work = slot.pop()
                self._busy = True
            outcome = attempt(work)
            with condition:
                self._busy = False
            if closed.is_set():
                return
            with contextlib.suppress(RuntimeError):  # the window closed between the check and the signal
                self.delivered.emit(outcome)


def in_background(call: Callable[[], Any]) -> Future[Outcome]:
    """Run in a thread of its own what cannot be interrupted; the thread ends with it, or with the program."""
    future: Future[Outcome] = Future()
    threading.Thread(target=lambda: future.set_result(attempt(call)), name="chexanatomy-background", daemon=True).start()
    return future


def wait_for(future: Future[Outcome], progress: ProgressCallback, text: str) -> Any:
    """Wait for the value, or raise ChexanatomyError; Cancelled (raised by `progress`) leaves the work to end by itself."""
    report = Progress(0, 0, text)
    while not wait([future], timeout=POLL_MS / 1000).done:
        progress(report)
    outcome = future.result()
    if outcome.error:
        raise ChexanatomyError(outcome.error)
    return outcome.value


def interruptible(call: Callable[[], Any], progress: ProgressCallback, text: str) -> Any:
    """Value of a call that reports no progress; see `wait_for`."""
    return wait_for(in_background(call), progress, text)


def wait_with_window_alive(title: str, work: Work) -> Any:
    """Run the work in a thread and return its value, while the window goes on drawing and napari's activity list shows it.

    For places where napari wants the result at once: readers and sample data. Raises ChexanatomyError as the work does.
    """
    from napari.utils.progress import progress as activity
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance()
    reports: collections.deque[Progress] = collections.deque(maxlen=1)
    if application is None or threading.current_thread() is not threading.main_thread():
        return work(reports.append)
    outcome: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: outcome.append(attempt(lambda: work(reports.append))), name="chexanatomy-reader", daemon=True
    )
    with activity(total=0, desc=title) as bar:
        thread.start()
        while thread.is_alive():
            thread.join(POLL_MS / 1000)
            if reports:
                bar.set_description(f"{title}: {reports.pop().text}")
            application.processEvents()
    if outcome[0].error:
        raise ChexanatomyError(outcome[0].error)
    return outcome[0].value


class ChildProcess:
    """`python -m training.cli ...` as a child whose `--progress json` lines become progress reports.

    Training in the window's own process would hold the interpreter and the memory; a child gives both back when it ends.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        """`arguments` of the `chexanatomy` command, `--progress json` among them."""
        self.arguments = tuple(arguments)
        self._stop_gently = threading.Event()

    def stop_gently(self) -> None:
        """Ask the child to end its work early and keep what it has, however long that takes: cancelling ends it at once."""
        self._stop_gently.set()

    def run(self, progress: ProgressCallback) -> list[str]:
        """Run to the end; returns the child's last lines. Cancelled (raised by `progress`) ends the child and its children.

        Raises ChexanatomyError with the child's own sentence when it fails.
        """
        command = [sys.executable, "-m", "training.cli", *self.arguments]
        new_group: dict[str, Any] = (
            {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
            if os.name == "nt"
            else {"start_new_session": True}
        )
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
            errors="replace", bufsize=1, env={**os.environ, "PYTHONUNBUFFERED": "1"}, **new_group,
        )  # fmt: skip
        try:
            return self._follow(child, progress)
        finally:
            if child.poll() is None:
                end_process_tree(child.pid)
            child.wait()
            for pipe in (child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()

    def _follow(self, child: subprocess.Popen[str], progress: ProgressCallback) -> list[str]:
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        complaints: list[str] = []
        readers = [
            threading.Thread(target=_drain, args=(child.stdout, lines.put), daemon=True),
            threading.Thread(target=_drain, args=(child.stderr, complaints.append), daemon=True),
        ]
        for reader in readers:
            reader.start()
        latest, said, asked = Progress(0, 0, "starting"), [], False
        while child.poll() is None or not lines.empty():
            progress(latest)
            if self._stop_gently.is_set() and not asked:
                asked = True
                interrupt(child)
            with contextlib.suppress(queue.Empty):
                while True:
                    line = lines.get(timeout=POLL_MS / 1000)
                    report = _read_progress(line)
                    if report is None:
                        said.append(line)
                    else:
                        latest = report
                        progress(latest)
        for reader in readers:
            reader.join(timeout=2)
        if child.poll() not in (0, None) and not asked:
            reason = next((line for line in reversed(complaints) if line.strip()), "")
            raise ChexanatomyError(
                reason.removeprefix("chexanatomy: ") or f"The job ended with code {child.returncode} and gave no reason."
            )
        return said


def interrupt(child: subprocess.Popen[str]) -> None:
    """Send the child what Ctrl-C sends, so that it can put finished work on disk."""
    with contextlib.suppress(ProcessLookupError, OSError):
        child.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT) if os.name == "nt" else signal.SIGINT)


def end_process_tree(pid: int) -> None:
    """End a process and everything it started, at once; one that has ended already is no error."""
    import psutil

    try:
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, timeout=3)


def _drain(pipe: IO[str], take: Callable[[str], None]) -> None:
    with contextlib.suppress(ValueError):  # the pipe was closed because the job was cancelled
        for line in pipe:
            take(line.rstrip("\n"))


def _read_progress(line: str) -> Progress | None:
    try:
        return Progress.from_dict(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
