"""One synthetic radiograph with what is known of it: a line of cases.jsonl."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from training.errors import BrokenDataset
from training.plain import is_plain

Split = Literal["train", "val", "test"]
IMPORTED = "imported from case folders"
"""Provenance of a picture that came from elsewhere: its file says whether it was reckoned from a CT, as all others were."""
WIDEST_PIXEL = 1000.0
"""A detector pixel is smaller [mm]."""
SPLIT_PERCENT = {"train": 80, "val": 10, "test": 10}


@dataclass(frozen=True)
class Case:
    """id: unique in its data set; subject: the person it came from; view: "PA", "AP", "LATERAL" or "OBLIQUE"; geometry: what
    training.drr.Geometry.to_dict gives, None where unknown; image: file inside the data set; present: structures with a mask;
    absent: structures known not to be in the picture (a structure in neither is unknown); cut_off: present ones that reach the
    border; provenance: how the anatomy was made; seed: what it can be made again from; version: of this software.
    """

    id: str
    subject: str
    view: str
    geometry: Mapping[str, Any] | None
    image: str
    present: tuple[str, ...]
    absent: tuple[str, ...]
    cut_off: tuple[str, ...]
    provenance: str
    seed: int
    version: str

    @property
    def split(self) -> Split:
        """Which part of the data the subject belongs to: the same on every machine and in every data set."""
        place = int.from_bytes(hashlib.sha256(self.subject.encode()).digest()[:8], "big") % 100
        if place < SPLIT_PERCENT["train"]:
            return "train"
        return "val" if place < SPLIT_PERCENT["train"] + SPLIT_PERCENT["val"] else "test"

    def to_json(self) -> str:
        """One line, without its line end."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Case:
        """Read a line that to_json wrote. Raises BrokenDataset with what is wrong with it, to be completed by where it stands."""
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python reads
            raise BrokenDataset("it is no JSON") from error
        names = [f.name for f in fields(cls)]
        if not isinstance(values, dict):
            raise BrokenDataset("it is no JSON object")
        missing = [name for name in names if name not in values]
        if missing:
            raise BrokenDataset(f"it lacks {', '.join(missing)}")
        lists = {name: _names(values[name], name) for name in ("present", "absent", "cut_off")}
        for name in ("id", "subject", "view", "image", "provenance", "version"):
            _check_text(values[name], name)
        for name in ("id", "image"):
            _check_inside(values[name], name)
        if isinstance(values["seed"], bool) or not isinstance(values["seed"], int):
            raise BrokenDataset("its seed is no whole number")
        _check_geometry(values["geometry"])
        return cls(**{name: values[name] for name in names} | lists)


def _names(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BrokenDataset(f"its {name!r} is no list of structure names")
    for one in value:
        _check_text(one, name)
    return tuple(map(sys.intern, value))  # the same hundred names in every case


def _check_text(value: Any, name: str) -> None:
    """Refuse what is no text, and text that cannot be written or shown: control characters and half characters."""
    if not isinstance(value, str) or not is_plain(value):
        raise BrokenDataset(f"its {name!r} is no plain text")


def _check_inside(name: str, what: str) -> None:
    """Refuse a file name that leads out of the data set, on this or another operating system; an id is one plain name."""
    parts = name.split("/")
    odd = name.startswith("~") or "\\" in name or re.match("[A-Za-z]:", name) or {"", ".", ".."} & set(parts)
    if odd or (what == "id" and len(parts) > 1):
        raise BrokenDataset(f"its {what!r} {name!r} leads out of the data set or is no file name")


def _check_geometry(values: Any) -> None:
    """Refuse a geometry whose pixel spacing cannot be used; the rest is read where it is needed."""
    if values is None:
        return
    if not isinstance(values, dict):
        raise BrokenDataset("its 'geometry' is neither an object nor null")
    spacing = values.get("spacing", (1.0, 1.0))
    usable = isinstance(spacing, (list, tuple)) and len(spacing) == 2 and not any(isinstance(v, bool) for v in spacing)
    if not usable or not all(isinstance(v, (int, float)) and 0 < v < WIDEST_PIXEL for v in spacing):
        raise BrokenDataset("its geometry's 'spacing' is not (row, column) in mm")
