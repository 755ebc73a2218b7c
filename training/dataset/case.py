"""One synthetic radiograph with what is known of it: a line of cases.jsonl."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from training.errors import BrokenDataset

Split = Literal["train", "val", "test"]
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
        """Read a line that to_json wrote. Raises BrokenDataset when it is none."""
        try:
            values = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BrokenDataset(f"A line of cases.jsonl is no JSON ({error}).") from error
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or not names <= set(values):
            missing = ", ".join(sorted(names - set(values))) if isinstance(values, dict) else "all of it"
            raise BrokenDataset(f"A line of cases.jsonl lacks {missing}.")
        lists = {}
        for name in ("present", "absent", "cut_off"):
            if not isinstance(values[name], list) or not all(isinstance(v, str) for v in values[name]):
                raise BrokenDataset(f"In cases.jsonl {name!r} is a list of structure names.")
            lists[name] = tuple(map(sys.intern, values[name]))  # the same hundred names in every case
        for name in ("id", "subject", "view", "image", "provenance", "version"):
            if not isinstance(values[name], str):
                raise BrokenDataset(f"In cases.jsonl {name!r} is a text.")
        if not isinstance(values["seed"], int) or not (values["geometry"] is None or isinstance(values["geometry"], dict)):
            raise BrokenDataset("In cases.jsonl 'seed' is a whole number and 'geometry' an object or null.")
        return cls(**{name: values[name] for name in names} | lists)
