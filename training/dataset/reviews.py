"""Decisions of reviewers on the masks of a data set, in one SQLite file; every decision is on disk before the next is taken."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from training.errors import BrokenDataset
from training.images import is_empty, to_rle

Verdict = Literal["accept", "reject", "flag"]
WHOLE_CASE = ""
"""In place of a structure: the decision is about the case with all its masks."""
REPAIRED = "repaired"
"""Comment of the acceptance that goes with a repair."""

_TABLES = """
CREATE TABLE IF NOT EXISTS decisions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT NOT NULL, case_id TEXT NOT NULL, structure TEXT NOT NULL,
    verdict TEXT NOT NULL, comment TEXT NOT NULL, at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS corrections (
    number INTEGER PRIMARY KEY AUTOINCREMENT, reviewer TEXT NOT NULL, case_id TEXT NOT NULL, structure TEXT NOT NULL,
    rle TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS decisions_by_case ON decisions (case_id, structure, reviewer);
CREATE INDEX IF NOT EXISTS corrections_by_case ON corrections (case_id, structure);
"""
_LATEST = "(SELECT MAX(number) FROM decisions GROUP BY reviewer, case_id, structure)"


@dataclass(frozen=True)
class Decision:
    """What a reviewer said last about a structure of a case ("" for the whole case); at: UTC, ISO 8601."""

    reviewer: str
    case_id: str
    structure: str
    verdict: Verdict
    comment: str
    at: str


class Reviews:
    """One reviewer's hand in the decisions of a data set; decisions of several reviewers are kept apart."""

    def __init__(self, folder: str | Path, reviewer: str) -> None:
        self.path = Path(folder) / "reviews.sqlite"
        self.reviewer = reviewer
        self._undoable: list[list[tuple[str, int]]] = []

    @property
    def writable(self) -> bool:
        """Whether decisions can be kept here, as far as permissions say."""
        return all(os.access(path, os.W_OK) for path in (self.path.parent, self.path) if path.exists())

    @contextmanager
    def _connect(self, mode: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode={mode}", timeout=10, uri=True)
            try:
                yield connection
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            raise BrokenDataset(self._plainly(error)) from error

    def _plainly(self, error: sqlite3.DatabaseError) -> str:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL":
            return "The disk is full, so this was not recorded: free some space and try again. All earlier decisions are safe."
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")) and not self.writable:
            folder = self.path.parent.name
            return (
                f"{folder} cannot be written to, so this was not recorded: copy the data set to a folder of yours, and open that."
            )
        return f"The review file {self.path.name} cannot be used: {error}."

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection to write, all of it or nothing."""
        with self._connect("rwc") as connection:
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript(_TABLES)
            with connection:
                yield connection

    def _read(self, query: str, values: tuple[str, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query; none where nothing was ever decided. Writes nothing, so that a full disk can be read."""
        if not self.path.exists():
            return []
        with self._connect("rw") as connection:  # of a write-protected file SQLite makes read-only, and of a killed one whole
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'corrections'").fetchone():
                return []  # ended while it was being made
            return connection.execute(query, values).fetchall()

    def decide(self, case_id: str, structure: str, verdict: Verdict, comment: str = "") -> None:
        """Record a decision about one structure, or the whole case with structure ""; a later one replaces it."""
        self.decide_all([case_id], structure, verdict, comment)

    def decide_all(self, case_ids: Iterable[str], structure: str, verdict: Verdict, comment: str = "") -> None:
        """Record the same decision on several cases: on disk all of them or none; one undo takes them all back."""
        if verdict not in get_args(Verdict):
            raise BrokenDataset(f"A decision is accept, reject or flag, not {verdict!r}.")
        with self._open() as connection:
            together = [self._insert_decision(connection, case_id, structure, verdict, comment) for case_id in case_ids]
        self._undoable.append(together)

    def correct(self, case_id: str, structure: str, mask: np.ndarray) -> None:
        """Keep a repaired mask, bool [row, column], beside the original, which stays in masks/; the repair counts as accepted.

        It settles rejections and flags of the mask before it. One undo takes both back.
        """
        with self._open() as connection:
            row = connection.execute(
                "INSERT INTO corrections (reviewer, case_id, structure, rle, at) VALUES (?, ?, ?, ?, ?)",
                (self.reviewer, case_id, structure, json.dumps(to_rle(mask)), _now()),
            )
            accepted = self._insert_decision(connection, case_id, structure, "accept", REPAIRED)
        self._undoable.append([("corrections", int(row.lastrowid or 0)), accepted])

    def _insert_decision(self, connection: sqlite3.Connection, *values: str) -> tuple[str, int]:
        """Insert (case, structure, verdict, comment) as this reviewer's; return table and number of the row."""
        row = connection.execute(
            "INSERT INTO decisions (reviewer, case_id, structure, verdict, comment, at) VALUES (?, ?, ?, ?, ?, ?)",
            (self.reviewer, *values, _now()),
        )
        return "decisions", int(row.lastrowid or 0)

    def undo(self) -> str | None:
        """Take back this session's last decision or correction; return the id of its case, None when there is nothing left."""
        if not self._undoable:
            return None
        case_id = None
        with self._open() as connection:
            for table, number in self._undoable[-1]:
                found = connection.execute(f"SELECT case_id FROM {table} WHERE number = ?", (number,)).fetchone()
                connection.execute(f"DELETE FROM {table} WHERE number = ?", (number,))
                case_id = case_id or (found[0] if found else None)
        self._undoable.pop()
        return case_id

    def decision(self, case_id: str, structure: str = WHOLE_CASE) -> Decision | None:
        """This reviewer's last decision on it, None when there is none."""
        mine = [d for d in self._latest("case_id = ? AND structure = ?", (case_id, structure)) if d.reviewer == self.reviewer]
        return mine[0] if mine else None

    def all(self) -> list[Decision]:
        """The last decision of every reviewer on every structure and case, oldest first."""
        return self._latest()

    def excluded(self) -> set[tuple[str, str]]:
        """(case id, structure) pairs that some reviewer rejected; structure "" takes out the whole case.

        A mask that was repaired after it was rejected is in again. What came after is told by the order in the table, where the
        acceptance stands that goes with a repair: clocks of two machines may differ.
        """
        rows = self._read(
            f"SELECT case_id, structure FROM decisions AS given WHERE verdict = 'reject' AND number IN {_LATEST} AND number > "
            "COALESCE((SELECT MAX(decisions.number) FROM decisions JOIN corrections USING (case_id, structure, reviewer) "
            "WHERE case_id = given.case_id AND structure = given.structure AND comment = ?), 0)",
            (REPAIRED,),
        )
        return {(case_id, structure) for case_id, structure in rows}

    def repairs(self) -> dict[tuple[str, str], bool]:
        """Whether the last repair of a mask left anything of it, by case id and structure; those repaired alone."""
        rows = self._read("SELECT case_id, structure, rle FROM corrections ORDER BY number")
        return {(case_id, structure): not is_empty(json.loads(rle)) for case_id, structure, rle in rows}

    def corrections(self, case_id: str) -> dict[str, dict[str, Any]]:
        """Latest repaired mask by structure, as COCO RLE."""
        rows = self._read("SELECT structure, rle FROM corrections WHERE case_id = ? ORDER BY number", (case_id,))
        return {structure: json.loads(rle) for structure, rle in rows}

    def correction_numbers(self) -> dict[str, int]:
        """Number of the newest correction by case: it changes when a case gets or loses one."""
        return dict(self._read("SELECT case_id, MAX(number) FROM corrections GROUP BY case_id"))

    def _latest(self, where: str = "1", values: tuple[str, ...] = ()) -> list[Decision]:
        rows = self._read(
            f"SELECT reviewer, case_id, structure, verdict, comment, at FROM decisions WHERE {where} AND number IN {_LATEST} "
            "ORDER BY number",
            values,
        )
        return [Decision(*row) for row in rows]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
