"""Exports that go on where they were stopped: every part appears whole or not at all, and a note says what is being written."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.dataset.case import Case
from training.dataset.store import Dataset
from training.errors import BrokenDataset, Cancelled, ChexanatomyError

NOTE = "unfinished-export.json"
"""File in the target folder while an export runs; it is gone when all is there."""
PART = ".part-"
"""Beginning of the names of parts that are still being written."""


@contextmanager
def exporting(dataset: Dataset, out: str | Path, form: str) -> Iterator[tuple[Path, list[Case]]]:
    """Give the target folder and the kept cases. A folder with an unfinished export of the same is continued.

    Raises BrokenDataset when the folder holds anything else, or an export that was begun before the data set changed. Where the
    data set turns out to be broken, what this call has written is taken away again.
    """
    folder = Path(out)
    there = folder.exists()
    kept = dataset.kept()
    note = folder / NOTE
    content = json.dumps({"form": form, "state": _state(dataset, kept)})
    continued = there and (not folder.is_dir() or any(folder.iterdir()))
    if continued:
        if not note.is_file():
            raise BrokenDataset(f"{folder.name} holds something already: name a new or empty folder.")
        begun = note.read_text(encoding="utf-8")
        if begun not in (content, ""):
            raise BrokenDataset(
                f"{folder.name} holds part of another export, or of one made before the data changed: name a new or empty folder."
            )
        for left in folder.glob(f"{PART}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(content, encoding="utf-8")
    try:
        yield folder, kept
    except ChexanatomyError as error:
        if not continued and not isinstance(error, Cancelled):
            shutil.rmtree(folder)
            if there:
                folder.mkdir()
        raise
    note.unlink()


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write into that becomes `target` when the block ends well."""
    part = target.with_name(f"{PART}{target.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    part.rename(target)


def _state(dataset: Dataset, kept: list[Case]) -> str:
    """Fingerprint of what is exported: the kept cases and the number of the last correction of each."""
    digest = hashlib.sha256()
    for case in kept:
        digest.update(case.to_json().encode())
    if dataset.reviews.path.exists():
        digest.update(json.dumps(sorted(dataset.reviews.correction_numbers().items())).encode())
    return digest.hexdigest()
