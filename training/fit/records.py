"""A data set as the training loop needs it: decoded once into flat arrays, so that a step is arithmetic and nothing else."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from training.errors import BrokenDataset
from training.model.preprocess import letterbox
from training.progress import ProgressCallback, report

if TYPE_CHECKING:
    from training.dataset import Case, Dataset

CELLS = 96
"""Edge of a kept mask, in cells of the structure's tight box."""

DIRECTIONS = 64
"""Directions in which the outermost points of a mask are kept: its box after any turn follows from them, to 0.1 % of its size."""

MADE_AS = "synthesis.json"
"""What `synthesize` leaves beside the cases: the distributions they were drawn from."""

VIEWS = ("", "PA", "AP", "LATERAL", "OBLIQUE")
PRESENT, ABSENT, UNKNOWN = 1, 0, -1
Box = tuple[float, float, float, float]


class Stacked:
    """Arrays on disk behind one another, read where they are asked for."""

    def __init__(self, parts: Sequence[np.ndarray], rows: np.ndarray | None = None) -> None:
        self._parts = list(parts)
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self._rows = np.arange(self._starts[-1]) if rows is None else rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows, and what is inside of them: [cases] or [cases, structures] with index arrays of the same length."""
        cases, *inside = index if isinstance(index, tuple) else (index,)
        rows = self._rows[np.asarray(cases)]
        part = np.searchsorted(self._starts, rows, side="right") - 1
        if np.ndim(rows) == 0:
            found: np.ndarray = self._parts[int(part)][(rows - self._starts[part], *inside)]
            return found
        result = np.empty((len(rows), *self._parts[0].shape[1 + len(inside) :]), self._parts[0].dtype)
        for p in np.unique(part):
            here = part == p
            result[here] = self._parts[p][(rows[here] - self._starts[p], *(np.asarray(i)[here] for i in inside))]
        return result

    def only(self, rows: np.ndarray) -> Stacked:
        """Some of the rows."""
        return Stacked(self._parts, self._rows[rows])


@dataclass(frozen=True)
class Records:
    """Cases side by side. Positions are shares of the side of the letterboxed square.

    images: float16 [cases, size, size] in 0..1; state: int8 [cases, structures], PRESENT, ABSENT or UNKNOWN; boxes: float32
    [cases, structures, 4], the tight box (top, left, bottom, right) without room around it; masks: uint8 [cases, structures,
    CELLS * CELLS / 8], bits of the mask inside that box; outermost: float32 [cases, structures, DIRECTIONS, 2], its outermost
    points (row, column); view: uint8 [cases], an index into VIEWS; structures: keys; ids: case ids.
    """

    images: Stacked
    state: np.ndarray
    boxes: np.ndarray
    masks: Stacked
    outermost: np.ndarray
    view: np.ndarray
    structures: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprint(self) -> str:
        """Changes with the cases and with which of their masks are taught, or where these lie; not with the cases' order."""
        rows = zip(self.ids.tolist(), self.state, self.boxes, strict=True)
        each = (hashlib.sha256(name.encode() + state.tobytes() + boxes.tobytes()).digest() for name, state, boxes in rows)
        return hashlib.sha256(b"".join(sorted(each))).hexdigest()[:16]

    def crops(self, cases: np.ndarray, structures: np.ndarray) -> np.ndarray:
        """Masks inside their tight boxes, uint8 0 or 1 [n, CELLS, CELLS], of n pairs of a case and a structure."""
        return np.unpackbits(self.masks[cases, structures], axis=-1).reshape(-1, CELLS, CELLS)

    def only(self, rows: np.ndarray) -> Records:
        """Some of the cases."""
        return Records(**{f.name: _rows(getattr(self, f.name), rows, f.name) for f in fields(self)})


def _rows(values: Any, rows: np.ndarray, name: str) -> Any:
    if name == "structures":
        return values
    return values.only(rows) if isinstance(values, Stacked) else values[rows]


def load_records(
    folders: Sequence[Path],
    split: str,
    structures: Sequence[str],
    size: int,
    cache: Path,
    workers: int = 2,
    limit: int | None = None,
    progress: ProgressCallback | None = None,
) -> Records:
    """Decode the cases of one split ("train", "val", "test", or "all") of one or several data sets.

    size: edge of the images kept [px]; cache: folder in which the arrays are kept, also for the next start. Masks that a
    reviewer has rejected become UNKNOWN, and cases rejected as a whole are left out. Raises BrokenDataset when nothing is left.
    """
    from training.dataset import Dataset
    from training.dataset.reviews import WHOLE_CASE

    parts: list[dict[str, np.ndarray]] = []
    wanted: list[np.ndarray] = []
    for folder in folders:
        dataset = Dataset.open(folder)
        cases = [case for case in dataset.cases if split in ("all", case.split)][:limit]
        ids = [case.id for case in cases]
        if not ids:
            continue
        stored = cache / f"{split}-{_fingerprint(dataset, cases, structures, size)}"
        if not stored.exists():
            with _alone(cache, progress):
                if not stored.exists():
                    _decode_all(folder, ids, structures, size, workers, stored, progress)
        part = {f.name: np.load(stored / f"{f.name}.npy", mmap_mode="r") for f in fields(Records) if f.name in KEPT}
        excluded = dataset.reviews.excluded()
        part |= {"ids": np.array(ids), "state": _without_rejected(part["state"], ids, structures, excluded)}
        parts.append(part)
        wanted.append(np.array([(name, WHOLE_CASE) not in excluded for name in ids]))
    if not any(part.any() for part in wanted):
        raise BrokenDataset(
            f"No case of the {split} split in {', '.join(map(str, folders))}: synthesise more subjects or check the folder."
        )
    joined: dict[str, Any] = {
        name: Stacked([p[name] for p in parts]) if name in _LARGE else np.concatenate([p[name] for p in parts])
        for name in parts[0]
    }
    records = Records(structures=np.array(structures), **joined)
    kept = np.flatnonzero(np.concatenate(wanted))
    return records if len(kept) == len(records) else records.only(kept)


_LARGE = ("images", "masks")
KEPT_AS = 2
"""Number of the way in which cases are kept: another one reads the data sets again."""
KEPT = (*_LARGE, "state", "boxes", "outermost", "view")


def set_aside(records: Records, most: int) -> tuple[Records, Records | None]:
    """Keep up to a twentieth of the cases, at most `most`, out of training: other views, though not other subjects."""
    count = min(most, len(records) // 20)
    if count == 0:
        return records, None
    kept = np.random.default_rng(0).permutation(len(records))[:count]
    return records.only(np.setdiff1d(np.arange(len(records)), kept)), records.only(kept)


def _fingerprint(dataset: Dataset, cases: Sequence[Case], structures: Sequence[str], size: int) -> str:
    """Changes with the cases, how they were made, a mask that a reviewer repairs, and what is kept of them; not with where they
    lie."""
    repaired = dataset.reviews.correction_numbers()
    made = dataset.folder / MADE_AS
    lines = [(case.to_json(), repaired.get(case.id)) for case in cases]
    text = repr(
        (
            dataset.folder.name,
            made.read_bytes() if made.exists() else b"",
            lines,
            list(structures),
            size,
            CELLS,
            DIRECTIONS,
            KEPT_AS,
        )
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_rejected(
    state: np.ndarray, ids: Sequence[str], structures: Sequence[str], excluded: set[tuple[str, str]]
) -> np.ndarray:
    state = state.copy()
    row, column = ({name: n for n, name in enumerate(names)} for names in (ids, structures))
    for case, structure in excluded:
        if case in row and structure in column:
            state[row[case], column[structure]] = UNKNOWN
    return state


@dataclass(frozen=True)
class _Decoded:
    images: np.ndarray
    state: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    outermost: np.ndarray
    view: int


def _decode_all(
    folder: Path,
    ids: Sequence[str],
    structures: Sequence[str],
    size: int,
    workers: int,
    out: Path,
    progress: ProgressCallback | None,
) -> None:
    """Write one array per field into the folder `out`, which appears when it is complete."""
    n, k = len(ids), len(structures)
    partial = out.with_name(f"{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "images": ((n, size, size), np.float16),
        "state": ((n, k), np.int8),
        "boxes": ((n, k, 4), np.float32),
        "masks": ((n, k, CELLS * CELLS // 8), np.uint8),
        "outermost": ((n, k, DIRECTIONS, 2), np.float32),
        "view": ((n,), np.uint8),
    }
    arrays = {
        name: np.lib.format.open_memmap(partial / f"{name}.npy", "w+", dtype, shape) for name, (shape, dtype) in shapes.items()
    }
    jobs = [(str(folder), list(ids[i : i + 32]), list(structures), size) for i in range(0, n, 32)]
    done = 0
    with _pool(workers) as pool:
        for decoded in pool.map(_decode_chunk, jobs) if pool else map(_decode_chunk, jobs):
            for case in decoded:
                for name, array in arrays.items():
                    array[done] = getattr(case, name)
                done += 1
            report(progress, done, n, "Reading the data set")
    for array in arrays.values():
        array.flush()
    os.replace(partial, out)


@contextmanager
def _alone(cache: Path, progress: ProgressCallback | None) -> Iterator[None]:
    """Of runs that share a cache one writes at a time: each would throw away what the other has not finished."""
    cache.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache / ".lock")
    while not lock.is_locked:
        try:
            lock.acquire(timeout=1)
        except Timeout:
            report(progress, 0, 1, "Waiting for another run that reads the data set")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Processes that compute with one thread each: with more, they would take the cores from each other all the time."""
    if workers < 2:
        yield None
        return
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before = {name: os.environ.get(name) for name in threads}
    os.environ.update(threads)
    pool = ProcessPoolExecutor(workers, get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _decode_chunk(job: tuple[str, list[str], list[str], int]) -> list[_Decoded]:
    from training.dataset import Dataset

    folder, ids, structures, size = job
    dataset = Dataset.open(folder)
    cases = {case.id: case for case in dataset.cases}
    return [_decode(dataset, cases[name], structures, size) for name in ids]


def _decode(dataset: Any, case: Any, structures: list[str], size: int) -> _Decoded:
    masks = dataset.masks(case, [s for s in structures if s in set(case.present)])
    return decode(dataset.image(case).pixels, masks, set(case.absent), structures, size, case.view)


def decode(
    pixels: np.ndarray, masks: Mapping[str, np.ndarray], absent: set[str], structures: Sequence[str], size: int, view: str = ""
) -> _Decoded:
    """One case of a Records. masks: structure -> bool [row, column]; what is neither there nor in `absent` is UNKNOWN."""
    from training.tokens import tight_box
    from training.tokens.codebook import crop_mask

    image, where = letterbox(pixels, size)
    k = len(structures)
    state = np.array([ABSENT if s in absent else UNKNOWN for s in structures], np.int8)
    boxes = np.zeros((k, 4), np.float32)
    bits = np.zeros((k, CELLS * CELLS // 8), np.uint8)
    outermost = np.zeros((k, DIRECTIONS, 2), np.float32)
    for i, structure in enumerate(structures):
        mask = masks.get(structure)
        box = tight_box(mask, pad=0) if mask is not None else None
        if mask is None or box is None:
            continue
        state[i] = PRESENT
        boxes[i] = np.array(where.into(box)) / size
        bits[i] = np.packbits((crop_mask(mask, box, CELLS) >= 0.5).ravel())
        outermost[i] = (outermost_points(mask) * where.scale + (where.top, where.left)) / size
    return _Decoded(
        image.astype(np.float16), state, boxes, bits, outermost, VIEWS.index(view.upper()) if view.upper() in VIEWS else 0
    )


def gather(cases: Sequence[_Decoded], structures: Sequence[str], ids: Sequence[str]) -> Records:
    """Decoded cases as a Records in memory."""
    arrays = {name: np.stack([getattr(case, name) for case in cases]) for name in KEPT}
    parts: dict[str, Any] = {name: Stacked([value]) if name in _LARGE else value for name, value in arrays.items()}
    return Records(structures=np.array(structures), ids=np.array(ids), **parts)


def outermost_points(mask: np.ndarray) -> np.ndarray:
    """The corner (row, column) [px] of a mask bool [row, column] that lies furthest out in each direction, float [DIRECTIONS,
    2]."""
    rows = np.flatnonzero(mask.any(1))
    left, right = mask[rows].argmax(1), mask.shape[1] - mask[rows, ::-1].argmax(1)
    ends = [np.stack([rows + down, columns], 1) for down in (0, 1) for columns in (left, right)]
    corners = np.concatenate(ends).astype(np.float32)
    angle = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    found: np.ndarray = corners[(corners @ np.stack([np.sin(angle), np.cos(angle)])).argmax(0)]
    return found
