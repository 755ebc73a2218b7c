"""Previews from a child process.

While the window draws, it holds the interpreter: a thread beside it waits longer than it works. A child shares nothing with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from typing import BinaryIO

from qtpy.compat import isalive
from qtpy.QtCore import QObject, Signal

from napari_chexanatomy.jobs import Outcome
from napari_chexanatomy.picture import Kept, Order, Picture, PictureTaker, thin_out
from napari_chexanatomy.preview_server import READY
from training.errors import ChexanatomyError

logger = logging.getLogger(__name__)
LOST = (EOFError, OSError, ValueError, pickle.UnpicklingError)
"""What speaking to a child that has ended raises."""


class Previewer(QObject):
    """Takes previews, one at a time; an order that comes meanwhile replaces the one that waits.

    The child works while the window draws the picture before. `take` belongs to the thread that takes pictures, all else to the
    window's thread: until the child is up and knows the CT, and where none can be started, `take` does the work.
    """

    delivered = Signal(object)
    """Carries the Outcome of an order that was posted, into the window's thread."""
    _answered = Signal(object)

    def __init__(self, owner: QObject) -> None:
        """The child starts with `start` and ends with `close`."""
        super().__init__(owner)
        self._taker = PictureTaker()
        self._child: subprocess.Popen[bytes] | None = None
        self._speaking = threading.Lock()
        self._ready = threading.Event()
        self._ct, self._labels = Kept(), Kept()
        self._known: tuple[object, object] | None = None
        self._asked: Order | None = None
        self._next: Order | None = None
        self._answered.connect(self._deliver)

    @property
    def ready(self) -> bool:
        """True once the child answers."""
        return self._ready.is_set()

    def start(self) -> None:
        """Start the child, if that has not been done; it takes a second or two until it is ready."""
        if self._child is not None:
            return
        alone = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "napari_chexanatomy.preview_server"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=alone,
            )  # fmt: skip
        except OSError:
            logger.exception("Previews are taken in the window's own process")
            return
        answers = self._child.stdout
        threading.Thread(target=self._listen, args=(answers,), name="chexanatomy-preview-answers", daemon=True).start()

    def take(self, order: Order) -> Picture:
        """A preview from this process; the child is told of a new CT or label map. Raises ImpossibleGeometry."""
        ct = self._ct.of(lambda: thin_out(order.ct), order.ct)
        labels = self._labels.of(lambda: thin_out(order.labels) if order.labels is not None else None, order.labels)
        known = self._known
        if self.ready and (known is None or known[0] is not order.ct or known[1] is not order.labels):
            self._tell((ct, labels))
            self._known = (order.ct, order.labels)
        return replace(self._taker.take_coarse(replace(order, ct=ct, labels=labels, full=False)), order=order)

    def post(self, order: Order) -> bool:
        """Let the child take a preview, see `delivered`; False when it cannot, and `take` has to."""
        known = self._known
        if not self.ready or known is None or known[0] is not order.ct or known[1] is not order.labels:
            return False
        if self._asked is not None:
            self._next = order
            return True
        self._asked = order
        return self._tell(replace(order, ct=None, labels=None))  # type: ignore[arg-type] # the child has them

    def forget(self) -> None:
        """Drop the order that waits."""
        self._next = None

    def _tell(self, message: object) -> bool:
        child = self._child
        if child is None or child.stdin is None:
            return False
        try:
            with self._speaking:
                pickle.dump(message, child.stdin, protocol=pickle.HIGHEST_PROTOCOL)
                child.stdin.flush()
        except LOST:
            self._lose()
            return False
        return True

    def _listen(self, answers: BinaryIO) -> None:
        ready, lose = self._ready, self._lose
        try:
            if pickle.load(answers) == READY:
                ready.set()
            while isalive(self):
                answer = pickle.load(answers)
                with contextlib.suppress(RuntimeError):  # the window closed between the check and the signal
                    self._answered.emit(answer)
        except LOST:
            lose()
        answers.close()

    def _lose(self) -> None:
        if self._ready.is_set():
            logger.warning("The preview process has ended; previews are taken in the window's own process")
        self._ready.clear()
        self._asked = self._next = None

    def _deliver(self, answer: object) -> None:
        order, self._asked = self._asked, None
        waiting, self._next = self._next, None
        if order is None:
            return
        if isinstance(answer, ChexanatomyError):
            self.delivered.emit(Outcome(error=str(answer)))
        elif isinstance(answer, tuple):
            self.delivered.emit(Outcome(Picture(order, answer[0], {}, answer[1])))
        if waiting is not None:
            self.post(waiting)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        self._ready.clear()
        if child is None:
            return
        child.kill()
        child.wait()
        if child.stdin is not None:
            with contextlib.suppress(OSError):  # what was still to be written finds nobody
                child.stdin.close()
