"""The structures' names of a label map: from a table, from the file itself, or by TotalSegmentator's numbering."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from training.anatomy import TOTALSEGMENTATOR_V2, find
from training.errors import UnknownStructure, UnreadableFile
from training.images.paths import existing, stem
from training.images.types import LONGEST_NAME
from training.plain import plain

Names = Mapping[int, tuple[str, ...]]
"""Id -> the names of the structures it stands for."""

_NAME_COLUMNS = ("name", "structure", "label", "structure_name")
_ID_COLUMNS = ("id", "index", "value", "label_id")


def key_of(name: str) -> str:
    """Return the vocabulary's key of a name, or the name itself where the vocabulary does not hold it."""
    try:
        return find(name).key
    except UnknownStructure:
        return plain(name.strip(), LONGEST_NAME)


def read_names(path: str | os.PathLike[str]) -> dict[int, tuple[str, ...]]:
    """Read a table (CSV, semicolons or tabs) with a header that has columns id and name (or structure).

    An id may have several rows: it then stands for several overlapping structures. Raises UnreadableFile.
    """
    table = existing(path)
    form = "a table of label names has a header with the columns id,name and one row per label"
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise UnreadableFile(f"{table.name} cannot be read as a table; {form}.") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(lines, delimiter=delimiter)
    try:
        columns = {str(column).strip().lower(): column for column in reader.fieldnames or () if column}
        rows = list(reader)
    except csv.Error as error:
        raise UnreadableFile(f"{table.name} has a field that is longer than any name; {form}.") from error
    id_column = next((columns[c] for c in _ID_COLUMNS if c in columns), None)
    name_column = next((columns[c] for c in _NAME_COLUMNS if c in columns), None)
    if id_column is None or name_column is None:
        raise UnreadableFile(f"{table.name} has the columns {', '.join(columns) or 'none'}; {form}.")
    names: dict[int, tuple[str, ...]] = {}
    for row in rows:
        try:
            number = int(float(row[id_column] or ""))
        except (TypeError, ValueError, OverflowError) as error:
            raise UnreadableFile(f"{table.name} has the id {row[id_column]!r} where a whole number belongs; {form}.") from error
        name = (row[name_column] or "").strip()
        if number and name:
            names[number] = (*names.get(number, ()), name)
    if not names:
        raise UnreadableFile(f"{table.name} names no label; {form}.")
    return names


def table_beside(path: Path) -> Path | None:
    """The table of names that lies beside a label map, as `write_labels_nifti` and the sample put it there."""
    candidates = (f"{stem(path)}_names.csv", f"{stem(path)}.csv", "label_names.csv")
    return next((path.with_name(name) for name in candidates if path.with_name(name).is_file()), None)


def name_ids(
    ids: Iterable[int], path: Path, own: Names, names: Names | str | os.PathLike[str] | None
) -> tuple[Names, tuple[str, ...]]:
    """Return id -> vocabulary keys for the ids that a label map holds, and notes on where the names come from.

    Raises UnreadableFile when no source names them.
    """
    held = sorted(ids)
    table, notes = _source(held, path, own, names)
    if not set(held) & set(table):
        raise UnreadableFile(
            f"{path.name} holds the ids {_some(held)}, none of which its table names; give the table id,name that belongs to it."
        )
    unnamed = [i for i in held if i not in table]
    if unnamed:
        notes = (*notes, f"Labels without a name: {_some(unnamed)}.")
    members = {i: tuple(dict.fromkeys(key_of(n) for n in table[i])) if i in table else (f"label_{i}",) for i in held}
    return members, notes


def _source(
    held: list[int], path: Path, own: Names, names: Names | str | os.PathLike[str] | None
) -> tuple[Names, tuple[str, ...]]:
    if isinstance(names, Mapping):
        return {i: (n,) if isinstance(n, str) else tuple(n) for i, n in names.items()}, ()
    if names is not None:
        return read_names(names), ()
    if own:
        return own, ()
    beside = table_beside(path)
    if beside is not None:
        return read_names(beside), (f"Names were taken from {beside.name} beside {path.name}.",)
    if len(held) == 1:
        return {held[0]: (stem(path),)}, ()
    if set(held) <= set(TOTALSEGMENTATOR_V2):
        note = f"{path.name} carries no names; TotalSegmentator v2's numbering was assumed."
        return {i: (TOTALSEGMENTATOR_V2[i],) for i in held}, (note,)
    strange = [i for i in held if i not in TOTALSEGMENTATOR_V2]
    raise UnreadableFile(
        f"{path.name} names no labels and has ids outside TotalSegmentator v2's numbering ({_some(strange)}); "
        "give a table id,name."
    )


def _some(ids: list[int], most: int = 8) -> str:
    return ", ".join(str(i) for i in ids[:most]) + (f" and {len(ids) - most} more" if len(ids) > most else "")
