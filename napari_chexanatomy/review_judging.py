"""Judging a large data set in a child process, while its cases are looked at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from napari_chexanatomy.jobs import ChildProcess
from napari_chexanatomy.review_queue import ReviewQueue
from training.errors import ChexanatomyError
from training.progress import ProgressCallback

if TYPE_CHECKING:
    from training.dataset import Queue


def judged_anew(queue: ReviewQueue, progress: ProgressCallback) -> Queue | None:
    """Scores of the data set as it is now; None where those that the queue has are of today. Raises ChexanatomyError."""
    from training.dataset import Dataset, Queue
    from training.dataset.suspicion import queue_key

    if queue.judged is not None and queue.judged.key == queue_key(queue.dataset):
        return None
    workers = max(1, (os.cpu_count() or 1) - 1)
    folder = queue.dataset.folder
    arguments = ("review", str(folder), "--show", "0", "--workers", str(workers), "--progress", "json")
    ChildProcess(arguments).run(progress)
    judged = Queue.load(Dataset.open(folder))
    if judged is None:
        raise ChexanatomyError(
            f"The masks were checked, but {folder.name} has no room for the result: cases stay in their own order. "
            "Free some space, or copy the data set to a folder that can be written to."
        )
    return judged
