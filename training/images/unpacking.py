"""Pixels of compressed DICOM files, unpacked so that no damaged file can take this process with it.

JPEG 2000, JPEG and JPEG-LS go to decoders that survive any bytes. JPEG Lossless and 12-bit JPEG are left to GDCM, which ends its
process on some damaged files (found by fuzzing): it works in a child, `python -m training.images.unpacking`, that is asked for
one file after another and started again when it has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

import numpy as np

_PLUGINS = {
    "1.2.840.10008.1.2.4.50": "pillow",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    "1.2.840.10008.1.2.4.90": "pillow",
    "1.2.840.10008.1.2.4.91": "pillow",
}
"""Transfer syntax -> pydicom's plugin for it."""

_IN_CHILD = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""JPEG Extended (12 bit), JPEG Lossless, JPEG Lossless SV1."""

_lock = threading.Lock()
_child: tuple[int, subprocess.Popen[bytes]] | None = None
"""Whose child it is (a forked process starts its own), and the child."""


def unpacked(path: Path, dataset: Any) -> np.ndarray:
    """Return the stored values [row, column], [frame, row, column] or with colours last of a data set read from `path`.

    Raises what pydicom's decoders raise, ValueError where the child ended. Call within `dicom_headers.quiet`.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax in _IN_CHILD:
        return _from_child(path)
    if syntax in _PLUGINS:
        dataset.pixel_array_options(decoding_plugin=_PLUGINS[syntax])
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        return np.asarray(dataset.pixel_array)
    return _lowered(dataset)


def _lowered(dataset: Any) -> np.ndarray:
    """Stored values of plain pixels, brought down where they fill the upper bits of their words, as in files of old scanners.

    A file that states a high bit above its values, which lie at the bottom all the same, is left as it is.
    """
    stored, above = dataset.get("BitsStored", None), 0
    if stored is not None and dataset.get("HighBit", None) is not None:
        above = int(dataset.HighBit) + 1 - int(stored)
    if above <= 0 or int(stored) + above > int(dataset.BitsAllocated):
        return np.asarray(dataset.pixel_array)
    dataset.BitsStored = int(stored) + above
    try:
        values = np.asarray(dataset.pixel_array)
    finally:
        dataset.BitsStored = stored
    return values >> above if values.max() >= 2 ** int(stored) else values


def _from_child(path: Path) -> np.ndarray:
    global _child
    with _lock:
        if _child is None or _child[0] != os.getpid():
            _child = (os.getpid(), _start())
        child = _child[1]
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(json.dumps(str(path.resolve())).encode() + b"\n")
            child.stdin.flush()
            answer = json.loads(child.stdout.readline())
            array = np.empty(answer.get("shape", 0), answer.get("dtype"))
            _fill(child.stdout, array)
        except (OSError, EOFError, json.JSONDecodeError) as error:
            _child = None
            _end(child)
            raise ValueError("the decoder ended on this file") from error
        except BaseException:  # interrupted in the middle of an answer: the next one would begin with its rest
            _child = None
            _end(child)
            raise
    if "error" in answer:
        raise ValueError(answer["error"])
    return array


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[2])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        [sys.executable, "-m", "training.images.unpacking"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    atexit.register(_end, child)
    return child


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _fill(stream: IO[bytes], array: np.ndarray) -> None:
    view, done = memoryview(array.reshape(-1).view(np.uint8)), 0  # type: ignore[arg-type]
    while done < len(view):
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        done += got


def _serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    """Unpack the files whose paths come in, one JSON text per line; answer with shape and type, then the values."""
    from training.images.dicom_headers import dicom_errors, quiet, read_dataset

    for line in asked:
        try:
            with quiet():
                dataset = read_dataset(Path(json.loads(line)))
                dataset.pixel_array_options(decoding_plugin="gdcm")
                array = np.ascontiguousarray(dataset.pixel_array)
        except dicom_errors() as error:
            answers.write(json.dumps({"error": type(error).__name__}).encode() + b"\n")
        else:
            answers.write(json.dumps({"shape": array.shape, "dtype": array.dtype.str}).encode() + b"\n")
            answers.write(array.tobytes())
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
