"""Broken and odd label maps of the corpus; each lies beside the CT that it is given with, ct.nii.gz."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.corpus import Entry
from tests.training.images.makers import affine, write_itk

MATRIX = affine(np.eye(3), (5.0, 5.0, 5.0), (-150.0, -100.0, -100.0))
NAMES = {1: "lung_right", 2: "lung_left", 3: "heart"}


def body() -> tuple[np.ndarray, np.ndarray]:
    """A box of water with two lungs and a heart: int16 [HU] and uint8 ids, both [z, y, x]."""
    hu = np.full((40, 40, 60), -1000, np.int16)
    hu[2:38, 5:35, 4:56] = 0
    ids = np.zeros(hu.shape, np.uint8)
    ids[8:30, 10:30, 8:26], ids[8:30, 10:30, 34:52], ids[8:20, 8:16, 28:40] = 1, 2, 3
    hu[(ids == 1) | (ids == 2)], hu[ids == 3] = -850, 40
    return hu, ids


def _labels(
    change: Callable[[np.ndarray], np.ndarray] = np.asarray,
    names: Mapping[int, str] | None = NAMES,
    matrix: np.ndarray = MATRIX,
    ending: str = ".nii.gz",
) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        hu, ids = body()
        write_itk(folder / "ct.nii.gz", hu, MATRIX)
        if names:
            (folder / "labels_names.csv").write_text("id,name\n" + "".join(f"{i},{n}\n" for i, n in names.items()))
        return write_itk(folder / f"labels{ending}", change(ids), matrix)

    return make


def _cut(folder: Path) -> Path:
    path = _labels()(folder)
    path.write_bytes(path.read_bytes()[:200])
    return path


def _table(text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = _labels()(folder)
        (folder / "labels_names.csv").write_text(text)
        return path

    return make


def _folder(several: bool = False, empty: bool = False) -> Callable[[Path], Path]:
    """One file per structure."""

    def make(folder: Path) -> Path:
        hu, ids = body()
        write_itk(folder / "ct.nii.gz", hu, MATRIX)
        (folder / "masks").mkdir()
        for i, name in NAMES.items():
            mask = ids if several else np.zeros_like(ids) if empty else (ids == i).astype(np.uint8)
            write_itk(folder / "masks" / f"{name}.nii.gz", mask, MATRIX)
        return folder / "masks"

    return make


_ELSEWHERE = affine(np.eye(3), (5.0, 5.0, 5.0), (900.0, -100.0, -100.0))
_COARSE = affine(np.eye(3), (10.0, 10.0, 10.0), (-147.5, -97.5, -97.5))

ENTRIES = [
    Entry("label map", "labels", _labels()),
    Entry("label map on another grid", "labels", _labels(lambda ids: ids[::2, ::2, ::2].copy(), matrix=_COARSE)),
    Entry("label map of whole floats", "labels", _labels(lambda ids: ids.astype(np.float32))),
    Entry("label map in another frame", "labels", _labels(matrix=_ELSEWHERE), "does not belong to the CT"),
    Entry("label map with unknown ids", "labels", _labels(lambda ids: ids.astype(np.uint16) * 300, None), "outside Total"),
    Entry("label map whose table names other ids", "labels", _labels(names={7: "heart"}), "none of which its table names"),
    Entry("label map with fractions", "labels", _labels(lambda ids: ids / np.float32(4)), "fractional values"),
    Entry("label map with negative values", "labels", _labels(lambda ids: ids.astype(np.int16) - 2), "looks like an image"),
    Entry("label map without labels", "labels", _labels(np.zeros_like), "empty label map"),
    Entry("label map mirrored", "labels", _labels(lambda ids: ids[:, :, ::-1].copy()), "Left and right look swapped"),
    Entry("label map cut short", "labels", _cut, "damaged or incomplete"),
    Entry("label table without columns", "labels", _table("one\ntwo\n"), "has the columns"),
    Entry("label table with words for ids", "labels", _table("id,name\nheart,heart\n"), "whole number belongs"),
    Entry("label table with an endless number", "labels", _table("id,name\n1,heart\ninf,lung_left\n"), "whole number belongs"),
    Entry("label names that lead elsewhere", "labels", _table('id,name\n1,../../up\n2,"<b>{0}%s\x1b[31m"\n3,/etc/x\n')),
    Entry("mask folder", "labels", _folder()),
    Entry("mask folder with several labels in one", "labels", _folder(several=True), "several labels"),
    Entry("mask folder of empty masks", "labels", _folder(empty=True), "are empty"),
]
