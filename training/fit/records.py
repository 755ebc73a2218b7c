"""A data set as the training loop needs it: decoded once into flat arrays, so that a step is arithmetic and nothing else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.errors import BrokenDataset
from training.model.preprocess import Letterbox, letterbox
from training.progress import ProgressCallback, report

COARSE = 56
"""Edge of the coarse masks that the dense auxiliary loss is trained on."""

VIEWS = ("", "PA", "AP", "LATERAL", "OBLIQUE")
PRESENT, ABSENT, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class Records:
    """Cases side by side. Positions are shares of the side of the letterboxed square.

    images: float16 [cases, size, size] in 0..1; state: int8 [cases, structures], PRESENT, ABSENT or UNKNOWN; boxes: float32
    [cases, structures, 4] (top, left, bottom, right); codes: uint8 [cases, structures, 16]; coarse: uint8 [cases, structures,
    COARSE * COARSE / 8], bits of the mask at COARSE x COARSE; view: uint8 [cases], an index into VIEWS; structures: keys; ids:
    case ids.
    """

    images: np.ndarray
    state: np.ndarray
    boxes: np.ndarray
    codes: np.ndarray
    coarse: np.ndarray
    view: np.ndarray
    structures: np.ndarray
    ids: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def masks(self, cases: np.ndarray) -> torch.Tensor:
        """Coarse masks of some cases, float32 [cases, structures, COARSE, COARSE]."""
        bits = np.unpackbits(self.coarse[cases], axis=-1)
        return torch.from_numpy(bits.reshape(*bits.shape[:-1], COARSE, COARSE).astype(np.float32))


def load_records(
    folders: Sequence[Path],
    split: str,
    structures: Sequence[str],
    codebook: Any,
    size: int,
    cache: Path | None = None,
    workers: int = 2,
    limit: int | None = None,
    progress: ProgressCallback | None = None,
) -> Records:
    """Decode the cases of one split ("train", "val" or "test") of one or several data sets.

    codebook: the MaskCodebook that writes the codes; size: edge of the images kept [px]; cache: folder in which the arrays are
    kept for the next start. Masks that a reviewer has rejected become UNKNOWN. Raises BrokenDataset when nothing is left.
    """
    from training.dataset import Dataset

    parts = []
    for folder in folders:
        dataset = Dataset.open(folder)
        cases = [case for case in dataset.cases if case.split == split][:limit]
        if not cases:
            continue
        name = _fingerprint(folder, [case.id for case in cases], structures, codebook, size)
        stored = cache / f"{split}-{name}.npz" if cache else None
        if stored and stored.exists():
            with np.load(stored, allow_pickle=False) as file:
                part = Records(**{f.name: file[f.name] for f in fields(Records)})
        else:
            part = _decode_all(folder, [case.id for case in cases], structures, codebook, size, workers, progress)
            if stored:
                stored.parent.mkdir(parents=True, exist_ok=True)
                partial = stored.with_suffix(".partial")
                with partial.open("wb") as out:
                    np.savez(out, **{f.name: getattr(part, f.name) for f in fields(Records)})  # type: ignore[arg-type]
                os.replace(partial, stored)
        parts.append(_without_rejected(part, dataset.reviews.excluded()))
    if not parts:
        raise BrokenDataset(
            f"No case of the {split} split in {', '.join(map(str, folders))}: synthesise more subjects or check the folder."
        )
    joined = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Records) if f.name != "structures"}
    return Records(structures=parts[0].structures, **joined)


def set_aside(records: Records, most: int) -> tuple[Records, Records | None]:
    """Keep up to a twentieth of the cases, at most `most`, out of training: other views, though not other subjects."""
    count = min(most, len(records) // 20)
    if count == 0:
        return records, None
    kept = np.random.default_rng(0).permutation(len(records))[:count]
    rest = np.setdiff1d(np.arange(len(records)), kept)

    def part(rows: np.ndarray) -> Records:
        values = {f.name: getattr(records, f.name)[rows] for f in fields(Records) if f.name != "structures"}
        return Records(structures=records.structures, **values)

    return part(rest), part(kept)


def _fingerprint(folder: Path, ids: Sequence[str], structures: Sequence[str], codebook: Any, size: int) -> str:
    reviews = Path(folder) / "reviews.sqlite"
    reviewed = reviews.stat().st_mtime_ns if reviews.exists() else 0
    digest = hashlib.sha256(repr((str(Path(folder).resolve()), list(ids), list(structures), size, COARSE, reviewed)).encode())
    for value in codebook.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _without_rejected(records: Records, excluded: set[tuple[str, str]]) -> Records:
    if excluded:
        row = {str(i): n for n, i in enumerate(records.ids)}
        column = {str(s): n for n, s in enumerate(records.structures)}
        for case, structure in excluded:
            if case in row and structure == "":
                records.state[row[case]] = UNKNOWN
            elif case in row and structure in column:
                records.state[row[case], column[structure]] = UNKNOWN
    return records


@dataclass(frozen=True)
class _Decoded:
    image: np.ndarray
    state: np.ndarray
    boxes: np.ndarray
    crops: np.ndarray
    coarse: np.ndarray
    view: int


def _decode_all(
    folder: Path,
    ids: Sequence[str],
    structures: Sequence[str],
    codebook: Any,
    size: int,
    workers: int,
    progress: ProgressCallback | None,
) -> Records:
    n, k = len(ids), len(structures)
    images = np.zeros((n, size, size), np.float16)
    state = np.full((n, k), UNKNOWN, np.int8)
    boxes = np.zeros((n, k, 4), np.float32)
    codes = np.zeros((n, k, 16), np.uint8)
    coarse = np.zeros((n, k, COARSE * COARSE // 8), np.uint8)
    view = np.zeros(n, np.uint8)
    chunks = [list(ids[i : i + 32]) for i in range(0, n, 32)]
    jobs = [(str(folder), chunk, list(structures), size) for chunk in chunks]
    done = 0
    with _pool(workers) as pool:
        for decoded in pool.map(_decode_chunk, jobs) if pool else map(_decode_chunk, jobs):
            for case in decoded:
                images[done], state[done], boxes[done], coarse[done], view[done] = (
                    case.image,
                    case.state,
                    case.boxes,
                    case.coarse,
                    case.view,
                )
                here = np.flatnonzero(case.state == PRESENT)
                if len(here):
                    codes[done, here] = codebook.encode(torch.from_numpy(case.crops).float() / 255).cpu().numpy()
                done += 1
            report(progress, done, n, "Reading the data set")
    return Records(images, state, boxes, codes, coarse, view, np.array(structures), np.array(ids))


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

    torch.set_num_threads(1)
    folder, ids, structures, size = job
    dataset = Dataset.open(folder)
    wanted = set(ids)
    return [_decode(dataset, case, structures, size) for case in dataset.cases if case.id in wanted]


def _decode(dataset: Any, case: Any, structures: list[str], size: int) -> _Decoded:
    from training.tokens import tight_box
    from training.tokens.codebook import crop_mask

    image, where = letterbox(dataset.image(case).pixels, size)
    masks = dataset.masks(case, [s for s in structures if s in set(case.present)])
    absent = set(case.absent)
    state = np.array([ABSENT if s in absent else UNKNOWN for s in structures], np.int8)
    boxes = np.zeros((len(structures), 4), np.float32)
    coarse = np.zeros((len(structures), COARSE * COARSE // 8), np.uint8)
    crops = []
    rows, columns = _nearest(where)
    for i, structure in enumerate(structures):
        mask = masks.get(structure)
        box = tight_box(mask) if mask is not None else None
        if mask is None or box is None:
            continue
        state[i] = PRESENT
        boxes[i] = np.array(where.into(box)) / size
        inside = mask[np.clip(rows, 0, mask.shape[0] - 1)][:, np.clip(columns, 0, mask.shape[1] - 1)]
        inside = inside & ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))
        coarse[i] = np.packbits(inside.ravel())
        crops.append(np.rint(crop_mask(mask, box) * 255).astype(np.uint8))
    view = VIEWS.index(case.view.upper()) if case.view.upper() in VIEWS else 0
    return _Decoded(image.astype(np.float16), state, boxes, np.array(crops, np.uint8), coarse, view)


def _nearest(where: Letterbox) -> tuple[np.ndarray, np.ndarray]:
    """Image rows and columns under the centres of the coarse grid, int64 [COARSE] each; outside the image where there is none."""
    centres = (np.arange(COARSE) + 0.5) * where.size / COARSE
    return (
        np.floor((centres - where.top) / where.scale).astype(int),
        np.floor((centres - where.left) / where.scale).astype(int),
    )
