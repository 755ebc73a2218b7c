"""Data sets in other programs' forms: a folder per case as the method's reference code has it, and WebDataset tar shards."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

import training
from training.dataset.case import Case
from training.dataset.store import Dataset
from training.errors import BrokenDataset, ChexanatomyError
from training.filenames import file_stem
from training.images import read_mask_png, read_radiograph, to_rle, write_mask_png, write_radiograph_png
from training.progress import ProgressCallback, report

REFERENCE_IMAGE = "ct.png"
"""The radiograph of a case in the reference layout; every other PNG beside it is a mask."""


def reviewed(dataset: Dataset) -> Iterator[tuple[Case, dict[str, np.ndarray]]]:
    """Give every case with its masks, bool [row, column], without what some reviewer rejected."""
    excluded = dataset.reviews.excluded()
    for case in dataset.cases:
        if (case.id, "") not in excluded:
            yield case, {s: m for s, m in dataset.masks(case).items() if (case.id, s) not in excluded}


def export_folders(dataset: Dataset, out: Path, progress: ProgressCallback | None = None) -> int:
    """Write out/<case>/ct.png (16 bit) and out/<case>/<structure>.png (0/255) and return the number of cases."""
    _empty_or_new(out)
    done = 0
    for case, masks in reviewed(dataset):
        report(progress, done, len(dataset.cases), f"writing {case.id}")
        folder = out / case.id
        folder.mkdir(parents=True)
        for structure, mask in masks.items():
            write_mask_png(mask, folder / f"{file_stem(structure)}.png")
        write_radiograph_png(dataset.image(case), folder / REFERENCE_IMAGE)
        done += 1
    report(progress, done, done, "written")
    return done


def import_folders(source: Path, out: Path, view: str = "", progress: ProgressCallback | None = None) -> Dataset:
    """Make a data set from a folder in the reference layout: each subfolder with a ct.png is a case and a subject of its own.

    view: what all of them show ("PA", "AP", "LATERAL" or "" where unknown). Raises BrokenDataset when there is no case.
    """
    folders = sorted(path.parent for path in source.glob(f"*/{REFERENCE_IMAGE}"))
    if not folders:
        raise BrokenDataset(
            f"{source} holds no case: a case is a folder with {REFERENCE_IMAGE} and one <structure>.png per structure."
        )
    dataset = Dataset.create(out)
    known = {case.id for case in dataset.cases}
    for number, folder in enumerate(folders):
        report(progress, number, len(folders), f"reading {folder.name}")
        if folder.name in known:
            continue
        radiograph = read_radiograph(folder / REFERENCE_IMAGE)
        masks = {path.stem: read_mask_png(path) for path in sorted(folder.glob("*.png")) if path.name != REFERENCE_IMAGE}
        wrong = next((name for name, mask in masks.items() if mask.shape != radiograph.pixels.shape), None)
        if wrong:
            raise BrokenDataset(f"The mask {wrong}.png of {folder.name} has not the size of its {REFERENCE_IMAGE}.")
        shown = {name: mask for name, mask in masks.items() if mask.any()}
        case = Case(
            id=folder.name,
            subject=folder.name,
            view=view,
            geometry=None,
            image=f"images/{folder.name}.png",
            present=tuple(shown),
            absent=tuple(name for name in masks if name not in shown),
            cut_off=tuple(name for name, mask in shown.items() if _at_border(mask)),
            provenance=f"imported from {source.name}",
            seed=0,
            version=training.__version__,
        )
        dataset.add(case, replace(radiograph, view=view), shown)
    report(progress, len(folders), len(folders), "read")
    return dataset


def export_webdataset(dataset: Dataset, out: Path, cases_per_shard: int = 500, progress: ProgressCallback | None = None) -> int:
    """Write out/<split>-<number>.tar with <case>.png, .case.json and .masks.json (COCO RLE); return the number of cases.

    A shard appears when it is complete. A dot in a case's id becomes an underscore, because WebDataset ends keys at dots.
    """
    if cases_per_shard < 1:
        raise ChexanatomyError(f"A shard holds at least one case; got {cases_per_shard}.")
    _empty_or_new(out)
    out.mkdir(parents=True, exist_ok=True)
    waiting: dict[str, list[tuple[Case, dict[str, np.ndarray]]]] = {"train": [], "val": [], "test": []}
    shards = dict.fromkeys(waiting, 0)
    done = 0

    def write(split: str) -> None:
        if waiting[split]:
            _write_shard(dataset, out / f"{split}-{shards[split]:06d}.tar", waiting[split])
            shards[split] += 1
            waiting[split] = []

    for case, masks in reviewed(dataset):
        report(progress, done, len(dataset.cases), f"packing {case.id}")
        waiting[case.split].append((case, masks))
        if len(waiting[case.split]) == cases_per_shard:
            write(case.split)
        done += 1
    for split in waiting:
        write(split)
    report(progress, done, done, "packed")
    return done


def _write_shard(dataset: Dataset, path: Path, cases: list[tuple[Case, dict[str, np.ndarray]]]) -> None:
    part = path.with_suffix(".part")
    with tarfile.open(part, "w") as shard:
        for case, masks in cases:
            key = case.id.replace(".", "_")
            members = {
                "png": (dataset.folder / case.image).read_bytes(),
                "case.json": replace(case, present=tuple(masks)).to_json().encode(),
                "masks.json": json.dumps({s: to_rle(m) for s, m in masks.items()}, separators=(",", ":")).encode(),
            }
            for suffix, content in members.items():
                entry = tarfile.TarInfo(f"{key}.{suffix}")
                entry.size = len(content)
                shard.addfile(entry, io.BytesIO(content))
    os.replace(part, path)


def _empty_or_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ChexanatomyError(f"{out} is not empty: name a new or empty folder.")


def _at_border(mask: np.ndarray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
