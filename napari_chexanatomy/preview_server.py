"""`python -m napari_chexanatomy.preview_server`: takes previews for a window in a process of its own; see preview.py.

Requests and answers are pickles on standard input and output, between this program and its own child only.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from dataclasses import replace
from typing import BinaryIO

from napari_chexanatomy.picture import Order, PictureTaker, makeable
from training.drr import Geometry
from training.errors import ChexanatomyError
from training.images.types import CT, LabelMap

READY = "ready"
Volumes = tuple[CT, LabelMap | None]


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the requests end: volumes are kept, an order is answered with a radiograph and overlay, or with an error."""
    taker = PictureTaker()
    volumes: Volumes | None = None
    _send(answers, READY)
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        if not isinstance(request, Order):
            volumes = request
            warm_up(taker, *request)
            continue
        try:
            if volumes is None:
                raise ChexanatomyError("The preview has no CT yet.")
            picture = taker.take_coarse(replace(request, ct=volumes[0], labels=volumes[1]))
            _send(answers, (picture.radiograph, picture.overlay))
        except ChexanatomyError as error:
            _send(answers, error)


def warm_up(taker: PictureTaker, ct: CT, labels: LabelMap | None) -> None:
    """Take a picture that nobody sees: the first one loads the compiled code, which takes longer than many pictures."""
    structures = tuple(makeable(labels)[:1])
    with contextlib.suppress(ChexanatomyError):
        taker.take_coarse(Order(ct, labels, Geometry.view(ct, 10.0), structures, "fill", None, False))


def _send(stream: BinaryIO, message: object) -> None:
    pickle.dump(message, stream, protocol=pickle.HIGHEST_PROTOCOL)
    stream.flush()


def main() -> None:
    """Serve on the standard streams; whatever prints goes to standard error instead."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
