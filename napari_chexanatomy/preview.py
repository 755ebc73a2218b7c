"""Previews from a child process.

While the window draws, it holds the interpreter: a thread beside it waits longer than it works. A child shares nothing with it.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import replace

from napari_chexanatomy.picture import Kept, Order, Picture, PictureTaker, thin_out
from napari_chexanatomy.preview_server import READY
from training.errors import ChexanatomyError

logger = logging.getLogger(__name__)


class Previewer:
    """Takes previews in a child process once it is up, in the calling thread before that and wherever a child cannot be started.

    `start` and `close` belong to the window's thread, `take` to the thread that takes pictures.
    """

    def __init__(self, taker: PictureTaker) -> None:
        """`taker` stands in for the child."""
        self._taker = taker
        self._child: subprocess.Popen[bytes] | None = None
        self._ready = threading.Event()
        self._ct, self._labels = Kept(), Kept()
        self._sent: tuple[object, object] | None = None

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
        threading.Thread(target=self._await, args=(self._child,), name="chexanatomy-preview-start", daemon=True).start()

    def _await(self, child: subprocess.Popen[bytes]) -> None:
        try:
            if child.stdout is not None and pickle.load(child.stdout) == READY:
                self._ready.set()
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            logger.warning("The preview process did not come up; previews are taken in the window's own process")

    def take(self, order: Order) -> Picture:
        """A preview for an order. Raises ImpossibleGeometry."""
        ct = self._ct.of(lambda: thin_out(order.ct), order.ct)
        labels = self._labels.of(lambda: thin_out(order.labels) if order.labels is not None else None, order.labels)
        coarse = replace(order, ct=ct, labels=labels, full=False)
        if self.ready:
            try:
                return replace(self._ask(coarse), order=order)
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                logger.warning("The preview process has ended; previews are taken in the window's own process")
                self._ready.clear()
        return replace(self._taker.take_coarse(coarse), order=order)

    def _ask(self, order: Order) -> Picture:
        child = self._child
        if child is None or child.stdin is None or child.stdout is None:
            raise EOFError
        if self._sent is None or self._sent[0] is not order.ct or self._sent[1] is not order.labels:
            pickle.dump((order.ct, order.labels), child.stdin, protocol=pickle.HIGHEST_PROTOCOL)
            self._sent = (order.ct, order.labels)
        light = replace(order, ct=None, labels=None)  # type: ignore[arg-type] # the child has them
        pickle.dump(light, child.stdin, protocol=pickle.HIGHEST_PROTOCOL)
        child.stdin.flush()
        answer = pickle.load(child.stdout)
        if isinstance(answer, ChexanatomyError):
            raise answer
        radiograph, overlay = answer
        return Picture(order, radiograph, {}, overlay)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        self._ready.clear()
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was still to be written finds nobody
                    logger.debug("The preview process was ended while it was spoken to")
