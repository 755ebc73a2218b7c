"""The corpus of broken and odd files: what each is, and whether it is read or refused.

Written out by `python -m tests.corpus DEST` for a look at it, and by the tests of API, command line and window.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["ct", "labels", "radiograph", "dataset", "model"]


@dataclass(frozen=True)
class Entry:
    """One thing a person may open. name: also its folder in the corpus; kind: what it is given as; make: writes it into a folder
    and returns the path to open; refused: regular expression that the refusal holds, "" where it has to be read.
    """

    name: str
    kind: Kind
    make: Callable[[Path], Path]
    refused: str = ""


def entries() -> list[Entry]:
    """Return the whole corpus, every name once."""
    from tests import corpus_datasets, corpus_dicom, corpus_labels, corpus_models, corpus_pictures, corpus_volumes

    rooms = (corpus_dicom, corpus_volumes, corpus_pictures, corpus_labels, corpus_datasets, corpus_models)
    found = [entry for room in rooms for entry in room.ENTRIES]
    assert len({entry.name for entry in found}) == len(found)
    return found


def write(entry: Entry, folder: Path) -> Path:
    """Write one entry into a folder of its own and return the path to open."""
    home = folder / re.sub(r"[^a-z0-9]+", "-", entry.name.lower())
    home.mkdir(parents=True)
    return entry.make(home)


if __name__ == "__main__":
    for one in entries():
        print(f"{one.kind:10} {'refused' if one.refused else 'read':8} {write(one, Path(sys.argv[1]))}")  # noqa: T201
