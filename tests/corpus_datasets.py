"""Broken and odd data sets of the corpus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus import Entry
from training.dataset import Case, Dataset
from training.images.types import Radiograph


def good(folder: Path) -> Path:
    """A data set of three cases."""
    dataset = Dataset.create(folder / "data")
    rng = np.random.default_rng(0)
    for n in range(3):
        mask = np.zeros((40, 48), bool)
        mask[10:30, 8 + n : 30] = True
        case = Case(
            f"p{n}-1", f"p{n}", "PA", {"spacing": [2.0, 2.0]}, f"images/p{n}-1.png", ("heart",), ("spleen",), (), "corpus", n, "1"
        )
        dataset.add(case, Radiograph(rng.random((40, 48), dtype=np.float32)), {"heart": mask})
    return dataset.folder


def _after(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        data = good(folder)
        change(data)
        return data

    return make


def _line(text: str | bytes) -> Callable[[Path], Path]:
    """One more line."""

    def change(data: Path) -> None:
        with (data / "cases.jsonl").open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    return _after(change)


def case_line(**changes: Any) -> str:
    """A whole line of cases.jsonl with some values replaced."""
    values: dict[str, Any] = {
        "id": "x-1", "subject": "x", "view": "PA", "geometry": None, "image": "images/x-1.png", "present": ["heart"],
        "absent": [], "cut_off": [], "provenance": "corpus", "seed": 0, "version": "1",
    }  # fmt: skip
    return json.dumps(values | changes) + "\n"


def _masks(content: str) -> Callable[[Path], Path]:
    return _after(lambda data: (data / "masks" / "p1-1.json").write_text(content))


def _linked(name: str) -> Callable[[Path], Path]:
    def change(data: Path) -> None:
        path = data / name
        outside = data.parent / path.name
        path.rename(outside)
        path.symlink_to(outside)

    return _after(change)


def _foreign(folder: Path) -> Path:
    (folder / "data").mkdir()
    (folder / "data" / "thesis.txt").write_text("years of work")
    return folder / "data"


_LEADS = "leads out of the data set"
ENTRIES = [
    Entry("data set", "dataset", good),
    Entry("data set with foreign files", "dataset", _after(lambda data: (data / "notes.txt").write_text("mine"))),
    Entry("data set with a last line torn", "dataset", _line('{"id":"half')),
    Entry("data set with a torn line inside", "dataset", _line('{"id":"half\n'), "Line 4 of data/cases.jsonl .* no JSON"),
    Entry("data set with a line that is no case", "dataset", _line('{"id":"x"}\n'), "Line 4 .* it lacks subject"),
    Entry("data set with a line of other bytes", "dataset", _line(b"\xff\xfe\n"), "no UTF-8"),
    Entry("data set with an endless number", "dataset", _line("1" * 5000 + "\n"), "no JSON"),
    Entry("data set with the same id twice", "dataset", _line(case_line(id="p1-1")), "same case id twice"),
    Entry("data set with a path outside", "dataset", _line(case_line(image="../../secret.png")), _LEADS),
    Entry("data set with a path of Windows", "dataset", _line(case_line(image="C:\\secret.png")), _LEADS),
    Entry("data set with an id that is a path", "dataset", _line(case_line(id="../x")), _LEADS),
    Entry("data set with half a character", "dataset", _line(case_line(subject="\ud800")), "no plain text"),
    Entry("data set with control characters", "dataset", _line(case_line(present=["\x1b[31mheart"])), "no plain text"),
    Entry("data set with a broken spacing", "dataset", _line(case_line(geometry={"spacing": [0, "x"]})), "spacing"),
    Entry("data set without an image", "dataset", _after(lambda data: (data / "images" / "p1-1.png").unlink()), "is missing"),
    Entry("data set without masks", "dataset", _after(lambda data: (data / "masks" / "p1-1.json").unlink()), "are missing"),
    Entry("data set with a damaged image", "dataset", _after(lambda d: (d / "images" / "p1-1.png").write_bytes(b"x")), "damaged"),
    Entry("data set with torn masks", "dataset", _masks('{"heart": {"si'), "damaged"),
    Entry("data set with masks that do not fill", "dataset", _masks('{"heart": {"size": [40, 48], "counts": "11"}}'), "damaged"),
    Entry(
        "data set with a mask bomb", "dataset", _masks('{"heart": {"size": [60000, 60000], "counts": [3600000000]}}'), "damaged"
    ),
    Entry("data set with a link to another folder", "dataset", _linked("images/p1-1.png"), "a link that leads out"),
    Entry("folder without a data set", "dataset", _foreign, "no data set"),
]
