"""A label map from a folder with one mask file per structure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from training.errors import UnreadableFile
from training.images.grid import Stored
from training.images.label_names import key_of
from training.images.labels import whole_ids
from training.images.mask_joining import Mask, join
from training.images.paths import is_volume_name, stem
from training.images.types import CT, LabelMap
from training.images.volume_file import read_stored

_NOT_MASKS = ("ct", "image", "img")
"""File names under which data sets keep the CT beside its masks."""


def read_mask_folder(folder: Path, ct: CT | None) -> LabelMap:
    """Read every mask file of a folder (or of its subfolder `segmentations`). Raises UnreadableFile, FrameMismatch."""
    files, notes = _mask_files(folder)
    return join(_masks(files, ct), folder, ct, tuple(notes))


def is_beside_masks(path: Path) -> bool:
    """True for the CT that data sets keep beside its masks."""
    return stem(path).lower() in _NOT_MASKS


def _mask_files(folder: Path) -> tuple[list[Path], list[str]]:
    here = sorted(path for path in folder.iterdir() if path.is_file() and is_volume_name(path) and not path.name.startswith("."))
    below = folder / "segmentations"
    if below.is_dir() and all(is_beside_masks(path) for path in here):
        return _mask_files(below)
    files = [path for path in here if not is_beside_masks(path)]
    left_out = [path.name for path in here if path not in files]
    if not files:
        raise UnreadableFile(f"{folder.name} holds no mask files; give a folder with one NIfTI or NRRD file per structure.")
    return files, [f"{', '.join(left_out)} was left out: it is no mask."] if left_out else []


def _masks(files: list[Path], ct: CT | None) -> Iterator[Mask]:
    """Read the files in order, a few at a time, so that only their small cut-outs are in memory."""
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: list[Future[Mask]] = []
        for path in files:
            waiting.append(pool.submit(_read, path, ct))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


def _read(path: Path, ct: CT | None) -> Mask:
    stored = read_stored(path)
    return Mask.of(key_of(stem(path)), path, Stored(whole_ids(stored, path), stored.patient_from_index), ct)
