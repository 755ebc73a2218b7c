"""Measuring all masks of a data set on several processes; kept in its folder cache/, so that only what changed is done again."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from training.dataset.case import Case
from training.dataset.store import CACHE, Dataset
from training.progress import ProgressCallback, report

logger = logging.getLogger(__name__)
MEASURES = "measures.npz"
FORM = 6
"""Version of what is measured; another one in the cache is measured again."""
CHUNK = 16
"""Cases a worker measures at once."""
SAVE_EVERY = 60.0
"""Seconds between two savings while measuring."""


@dataclass(frozen=True)
class Measures:
    """records: MEASURE [n] in the order of the cases; structures: the names that records number."""

    structures: tuple[str, ...]
    records: np.ndarray


def measure_all(dataset: Dataset, progress: ProgressCallback | None = None, workers: int = 1) -> Measures:
    """Measure every mask, what is in the cache excepted. Stopped by the callback, it keeps what it has measured.

    Raises BrokenDataset when a file is missing or damaged.
    """
    current = stamps(dataset)
    kept = _Kept.load(dataset.folder)
    todo = [case for case in dataset.cases if kept.stamps.get(case.id) != current[case.id]]
    done = len(dataset.cases) - len(todo)
    if todo:
        saved = time.monotonic()
        report(progress, done, len(dataset.cases), "Measuring masks")
        try:
            for case, names, records in _measured(dataset, todo, workers):
                kept.put(case.id, current[case.id], names, records)
                done += 1
                if time.monotonic() - saved > SAVE_EVERY:
                    kept.save(dataset.folder)
                    saved = time.monotonic()
                report(progress, done, len(dataset.cases), "Measuring masks")
        finally:
            kept.save(dataset.folder)
    return kept.joined([case.id for case in dataset.cases])


def _measured(dataset: Dataset, cases: Sequence[Case], workers: int) -> Iterator[tuple[Case, list[str], np.ndarray]]:
    if workers < 2 or len(cases) < 2 * CHUNK:
        for case in cases:
            yield case, *_measure_one(dataset, case)
        return
    chunks = [list(cases[i : i + CHUNK]) for i in range(0, len(cases), CHUNK)]
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        for chunk, results in zip(chunks, pool.map(_measure_chunk, [(dataset.folder, chunk) for chunk in chunks]), strict=True):
            for case, (names, records) in zip(chunk, results, strict=True):
                yield case, names, records
    finally:
        pool.shutdown(cancel_futures=True)


def _measure_chunk(job: tuple[Path, list[Case]]) -> list[tuple[list[str], np.ndarray]]:
    folder, cases = job
    dataset = Dataset(folder, cases)
    return [_measure_one(dataset, case) for case in cases]


def _measure_one(dataset: Dataset, case: Case) -> tuple[list[str], np.ndarray]:
    from training.dataset.measure import measure

    encoded = dataset.encoded_masks(case)
    names = list(dict.fromkeys([*encoded, *case.present]))
    for name in list(names):
        names += [whole for whole in _wholes(name) if whole not in names]
    return names, measure(dataset, case, encoded, {name: i for i, name in enumerate(names)})


def _wholes(name: str) -> tuple[str, ...]:
    from training.dataset.measure import lineage

    return tuple(sorted(lineage(name)))


def stamps(dataset: Dataset) -> dict[str, int]:
    """A number by case that changes with its picture, masks, lists and corrections."""
    corrected = dataset.reviews.correction_numbers()
    found = {}
    for case in dataset.cases:
        parts: list[object] = [case.present, case.absent, case.cut_off, corrected.get(case.id, 0)]
        for path in (dataset.folder / case.image, dataset.folder / "masks" / f"{case.id}.json"):
            try:
                state = path.stat()
                parts += [state.st_size, state.st_mtime_ns]
            except OSError:
                parts.append(None)
        found[case.id] = int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little", signed=True)
    return found


class _Kept:
    """Measured cases by id, in memory and in the cache file."""

    def __init__(self) -> None:
        self.stamps: dict[str, int] = {}
        self._records: dict[str, np.ndarray] = {}
        self._numbers: dict[str, int] = {}

    def put(self, case_id: str, stamp: int, names: Sequence[str], records: np.ndarray) -> None:
        """Take a case's records, numbered by `names`, into the common numbering."""
        common = np.array([self._numbers.setdefault(n, len(self._numbers)) for n in names], np.int16)
        for field in ("structure", "outside_of", "same_as"):
            known = records[field] >= 0
            records[field][known] = common[records[field][known]]
        self.stamps[case_id], self._records[case_id] = stamp, records

    def joined(self, ids: Sequence[str]) -> Measures:
        """The records of these cases, numbered by their order."""
        from training.dataset.measure import MEASURE

        parts = [self._records[i] for i in ids]
        records = np.concatenate(parts) if parts else np.empty(0, MEASURE)
        records["case"] = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
        return Measures(tuple(self._numbers), records)

    def save(self, folder: Path) -> None:
        """Write the cache file; a data set that cannot be written to goes without."""
        path = folder / CACHE / MEASURES
        ids = list(self._records)
        part = path.with_suffix(f".{os.getpid()}.part")
        try:
            path.parent.mkdir(exist_ok=True)
            with part.open("wb") as file:
                np.savez(
                    file,
                    form=np.array(FORM),
                    structures=np.array(list(self._numbers), dtype=np.str_),
                    ids=np.array(ids, dtype=np.str_),
                    stamps=np.array([self.stamps[i] for i in ids], np.int64),
                    counts=np.array([len(self._records[i]) for i in ids], np.int64),
                    records=self.joined(ids).records,
                )
            os.replace(part, path)
        except OSError as error:
            logger.info("Measures are not kept: %s", error)
            with contextlib.suppress(OSError):
                part.unlink()

    @classmethod
    def load(cls, folder: Path) -> _Kept:
        """What the cache file holds; nothing where it is missing, damaged or of another version."""
        from training.dataset.measure import MEASURE

        kept = cls()
        try:
            with (folder / CACHE / MEASURES).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                if int(file["form"]) != FORM or file["records"].dtype != MEASURE:
                    return kept
                structures, ids, stamps, counts, records = (
                    file[name] for name in ("structures", "ids", "stamps", "counts", "records")
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return kept
        kept._numbers = {str(name): number for number, name in enumerate(structures)}
        if len(records) and not (records["structure"].min() >= -1 and records["structure"].max() < len(structures)):
            return cls()
        ends = np.cumsum(counts)
        for case_id, stamp, start, end in zip(ids, stamps, ends - counts, ends, strict=True):
            kept.stamps[str(case_id)] = int(stamp)
            kept._records[str(case_id)] = records[start:end]
        return kept
