"""The vocabulary of structures: everything else names structures through it. Its single source is structures.csv."""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

from training.errors import UnknownStructure

Side = Literal["left", "right", "both", "midline"]

DERIVED = frozenset({"lung_field_left", "lung_field_right", "lung_outline_left", "lung_outline_right"})
"""Structures that are no unions of labels: they follow from path lengths along the rays (training.drr)."""


@dataclass(frozen=True)
class Structure:
    """One structure a person can ask for.

    key: TotalSegmentator v2's class name where there is one, ours for composites; name: display name in plain English;
    synonyms: other names for it, none shared with another structure; side: the patient's side its centre lies on; group: heading
    in lists; parents: composites it is part of; labels: the classes whose union it is (a leaf's own key; none for DERIVED);
    colour: (r, g, b) in 0..255; pieces: the most connected pieces it is expected in, in 3D; label_id: id in TotalSegmentator v2's
    "total" task, None where it has none; trainable: whether the embedded model is trained on it.
    """

    key: str
    name: str
    synonyms: tuple[str, ...]
    side: Side
    group: str
    parents: tuple[str, ...]
    labels: tuple[str, ...]
    colour: tuple[int, int, int]
    pieces: int = 1
    label_id: int | None = None
    trainable: bool = False


def _fold(text: str) -> str:
    """Return a name without what does not distinguish names: case, and spaces against underscores and hyphens."""
    return re.sub(r"[\s_-]+", " ", text).strip().casefold()


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(";") if part.strip())


def _labels(key: str, children: Mapping[str, list[str]], labelled: set[str]) -> tuple[str, ...]:
    own = (key,) if key in labelled or (key not in children and key not in DERIVED) else ()
    return own + tuple(label for child in children.get(key, ()) for label in _labels(child, children, labelled))


@cache
def vocabulary() -> Mapping[str, Structure]:
    """Return every structure by its key, in the order of structures.csv."""
    rows = list(csv.DictReader(files("training").joinpath("structures.csv").read_text(encoding="utf-8").splitlines()))
    labelled = {row["key"] for row in rows if row["totalsegmentator_id"]}
    children: dict[str, list[str]] = {}
    for row in rows:
        for parent in _split(row["parents"]):
            children.setdefault(parent, []).append(row["key"])
    red_green_blue = re.compile("#(..)(..)(..)")
    structures = {}
    for row in rows:
        colour = red_green_blue.fullmatch(row["colour"])
        assert colour, f"structures.csv: {row['key']} has no colour like #8080ff"
        r, g, b = (int(part, 16) for part in colour.groups())
        structures[row["key"]] = Structure(
            key=row["key"],
            name=row["name"],
            synonyms=_split(row["synonyms"]),
            side=row["side"],  # type: ignore[arg-type]  # a test checks the values in the file
            group=row["group"],
            parents=_split(row["parents"]),
            labels=_labels(row["key"], children, labelled),
            colour=(r, g, b),
            pieces=int(row["pieces"]),
            label_id=int(row["totalsegmentator_id"]) if row["totalsegmentator_id"] else None,
            trainable=row["trainable"] == "yes",
        )
    return MappingProxyType(structures)


@cache
def _by_any_name() -> dict[str, Structure]:
    return {_fold(name): s for s in vocabulary().values() for name in (s.key, s.name, *s.synonyms)}


def find(text: str) -> Structure:
    """Return the structure of that key, display name or synonym, whatever the case, spaces, underscores or hyphens.

    Raises UnknownStructure with the nearest names.
    """
    structure = _by_any_name().get(_fold(text))
    if structure is not None:
        return structure
    nearest = suggest(text)
    remedy = f"did you mean {' or '.join(nearest)}?" if nearest else "`chexanatomy info --structures` lists the names it knows."
    raise UnknownStructure(f"No structure is called {text!r}; {remedy}")


def suggest(text: str, n: int = 3) -> list[str]:
    """Return the display names of up to n structures whose names are nearest to the text, nearest first."""
    names = _by_any_name()
    ordered_words = {" ".join(sorted(name.split())): s.name for name, s in reversed(names.items())}
    wanted = " ".join(sorted(_fold(text).split()))
    nearest = [ordered_words[name] for name in difflib.get_close_matches(wanted, ordered_words, n=4 * n, cutoff=0.6)]
    return list(dict.fromkeys(nearest))[:n]


TOTALSEGMENTATOR_V2: Mapping[int, str] = MappingProxyType(
    {s.label_id: s.key for s in sorted(vocabulary().values(), key=lambda s: s.label_id or 0) if s.label_id is not None}
)
"""Class names by id of TotalSegmentator v2's "total" task (117 classes)."""


def _with_ancestors(structure: Structure) -> Iterable[Structure]:
    yield structure
    for parent in structure.parents:
        yield from _with_ancestors(vocabulary()[parent])


def resolve(names: Iterable[str]) -> dict[str, frozenset[str]]:
    """Return what can be made from the structures of a label map: vocabulary key -> which of the given names make it, by union.

    Leaves and composites, in the vocabulary's order; a composite is there as soon as one of its parts is. Names that the
    vocabulary does not hold follow, each made from itself. DERIVED structures are left out unless they are among the names.
    """
    found: dict[str, set[str]] = {}
    unknown: dict[str, frozenset[str]] = {}
    for name in names:
        structure = _by_any_name().get(_fold(name))
        if structure is None:
            unknown[name] = frozenset({name})
            continue
        for whole in _with_ancestors(structure):
            found.setdefault(whole.key, set()).add(name)
    return {key: frozenset(found[key]) for key in vocabulary() if key in found} | unknown


@cache
def trainable() -> tuple[str, ...]:
    """Return the keys that the embedded model is trained on, in the vocabulary's order."""
    return tuple(key for key, structure in vocabulary().items() if structure.trainable)
