"""Small pictures of the cases, kept in the data set's cache/, so that thousands can be looked through."""

from __future__ import annotations

import io
import logging
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np

from training.dataset.case import Case
from training.dataset.store import CACHE, Dataset

logger = logging.getLogger(__name__)
EDGE = 128
"""Longer edge [px]."""
QUALITY = 82
THUMBNAILS = "thumbnails.sqlite"


class Thumbnails:
    """JPEG pictures by case id, in one file; made when first asked for. Safe to use from several threads.

    Where the data set's folder cannot be written to, they are made anew each time.
    """

    def __init__(self, dataset: Dataset) -> None:
        """Nothing is read or written yet."""
        self._dataset = dataset
        self._path = dataset.folder / CACHE / THUMBNAILS
        self._lock = threading.Lock()
        self._usable = True

    def stored(self, cases: Iterable[Case]) -> dict[str, bytes]:
        """Those of the cases that are kept already and still show their picture file, as JPEG."""
        wanted = {case.id: _stamp(self._dataset, case) for case in cases}
        marks = ",".join("?" * len(wanted))
        rows = self._execute(f"SELECT case_id, stamp, picture FROM thumbnails WHERE case_id IN ({marks})", tuple(wanted))
        return {case_id: picture for case_id, stamp, picture in rows if stamp == wanted[case_id]}

    def get(self, case: Case) -> bytes:
        """The thumbnail of a case as JPEG. Raises BrokenDataset or UnreadableFile where its picture cannot be read."""
        kept = self.stored([case])
        if case.id in kept:
            return kept[case.id]
        picture = encode(shrink(self._dataset.image(case).pixels))
        self._execute("INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)", (case.id, _stamp(self._dataset, case), picture))
        return picture

    def _execute(self, command: str, values: tuple[object, ...]) -> list[tuple[str, int, bytes]]:
        """Run one command in the thumbnail file, which is made where it is missing; a damaged one is left alone and not used."""
        if not self._usable:
            return []
        with self._lock:
            try:
                self._path.parent.mkdir(exist_ok=True)
                with closing(sqlite3.connect(self._path, timeout=10)) as connection, connection:
                    connection.execute("PRAGMA synchronous = OFF")  # they can be made again
                    connection.execute(
                        "CREATE TABLE IF NOT EXISTS thumbnails (case_id TEXT PRIMARY KEY, stamp INTEGER, picture BLOB)"
                    )
                    return connection.execute(command, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                logger.info("Thumbnails are not kept: %s", error)
                self._usable = False
                return []


def shrink(pixels: np.ndarray, edge: int = EDGE) -> np.ndarray:
    """A radiograph float [row, column] in 0..1 as uint8 [row, column] with the given longer edge."""
    from PIL import Image

    grey = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    scale = edge / max(grey.shape)
    size = max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BOX))


def encode(picture: np.ndarray) -> bytes:
    """A uint8 picture, grey [row, column] or colour [row, column, 3], as JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="JPEG", quality=QUALITY)
    return file.getvalue()


def _stamp(dataset: Dataset, case: Case) -> int:
    """A number that changes with the picture file."""
    try:
        return Path(dataset.folder / case.image).stat().st_mtime_ns
    except OSError:
        return 0
