"""A data set in other programs' layouts: the reference's case folders, WebDataset tar shards, COCO and DICOM."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from training import __version__
from training.dataset.case import IMPORTED, Case
from training.dataset.store import Dataset
from training.dataset.unfinished import PART, exporting, whole_folder
from training.drr import Geometry
from training.errors import BrokenDataset
from training.images import (
    MaskSet,
    read_mask_png,
    read_radiograph,
    write_coco,
    write_mask_folder,
    write_masks_dicom,
    write_radiograph_dicom,
    write_radiograph_png,
)
from training.images.dicom_write import made_up
from training.images.types import Radiograph
from training.plain import writable
from training.progress import ProgressCallback, report

PICTURE = "ct.png"
CASE = "case.json"
"""Beside the picture: the case's line of cases.jsonl, so that its subject is known where the folder is read again."""


def export_folders(dataset: Dataset, out: str | Path, progress: ProgressCallback | None = None) -> int:
    """Write one folder per case with ct.png (8 bit), <structure>.png (0 and 255) and case.json (its line of cases.jsonl), without
    what reviewers rejected.

    Returns how many cases there are. Raises BrokenDataset when out holds something else already.
    """
    with exporting(dataset, out, "folders") as (folder, kept):
        for number, case in enumerate(kept):
            if not (folder / case.id).exists():
                with whole_folder(folder / case.id) as target:
                    write_radiograph_png(dataset.image(case), target / PICTURE, bits=8)
                    write_mask_folder(dataset.masks(case, case.present), target)
                    (target / CASE).write_text(case.to_json(), encoding="utf-8")
            report(progress, number + 1, len(kept), "Exporting")
    return len(kept)


def export_webdataset(
    dataset: Dataset, out: str | Path, cases_per_shard: int = 500, progress: ProgressCallback | None = None
) -> int:
    """Write tar shards <split>-000000.tar with <id>.png (16 bit), <id>.masks.json (COCO RLE) and <id>.case.json per case.

    WebDataset ends a key at its first dot, so dots in ids become underscores there, with -2, -3, ... where another id has that.

    What reviewers rejected is left out. Returns how many cases there are. Raises BrokenDataset when out holds something else
    already.
    """
    size, done = max(1, cases_per_shard), 0
    with exporting(dataset, out, f"webdataset of {size}") as (folder, kept):
        keys = _keys(case.id for case in kept)
        for split in ("train", "val", "test"):
            cases = [case for case in kept if case.split == split]
            for first in range(0, len(cases), size):
                path = folder / f"{split}-{first // size:06d}.tar"
                shard = cases[first : first + size]
                if not path.exists():
                    _write_shard(dataset, shard, keys, path)
                done += len(shard)
                report(progress, done, len(kept), "Exporting")
    return done


def export_coco(dataset: Dataset, out: str | Path, progress: ProgressCallback | None = None) -> int:
    """Write images/<id>.png (16 bit) and annotations.json (COCO instances, run-length codes), without what was rejected.

    Returns how many cases there are. Raises BrokenDataset when out holds something else already.
    """
    with exporting(dataset, out, "coco") as (folder, kept):
        (folder / "images").mkdir(exist_ok=True)

        def sets() -> Iterator[MaskSet]:  # one case's masks in memory at a time
            for number, case in enumerate(kept):
                target = folder / "images" / f"{case.id}.png"
                picture = dataset.image(case)
                if not target.exists():
                    write_radiograph_png(picture, target)
                yield _mask_set(dataset, case, picture, f"{case.id}.png")
                report(progress, number + 1, len(kept), "Exporting")

        write_coco(sets(), folder / "annotations.json")
    return len(kept)


def export_dicom(dataset: Dataset, out: str | Path, progress: ProgressCallback | None = None) -> int:
    """Write one folder per case with radiograph.dcm (DX with the pose where it is known) and masks.dcm (SEG).

    Patients and studies are made up, one for each subject. Returns how many cases there are. Raises BrokenDataset when out holds
    something else already.
    """
    with exporting(dataset, out, "dicom") as (folder, kept):
        for number, case in enumerate(kept):
            if not (folder / case.id).exists():
                pose = Geometry.from_dict(case.geometry) if case.geometry else None
                owner = made_up(case.subject, image=case.id)
                with whole_folder(folder / case.id) as target:
                    image = write_radiograph_dicom(dataset.image(case), target / "radiograph.dcm", pose, owner)
                    masks = dataset.masks(case, case.present)
                    if masks:
                        write_masks_dicom(masks, target / "masks.dcm", image, "label projection")
            report(progress, number + 1, len(kept), "Exporting")
    return len(kept)


def _mask_set(dataset: Dataset, case: Case, picture: Radiograph, name: str) -> MaskSet:
    size = (picture.pixels.shape[0], picture.pixels.shape[1])
    absent = {structure: np.zeros(size, bool) for structure in case.absent}
    return MaskSet(name, size, {**dataset.masks(case, case.present), **absent})


def _keys(ids: Iterable[str]) -> dict[str, str]:
    """A key without dots for every id, an id without dots for itself."""
    keys: dict[str, str] = {}
    taken = set()
    for name in sorted(ids, key=lambda name: ("." in name, name)):
        plain = key = name.replace(".", "_")
        number = 2
        while key in taken:
            key, number = f"{plain}-{number}", number + 1
        keys[name] = key
        taken.add(key)
    return keys


def _write_shard(dataset: Dataset, cases: Sequence[Case], keys: Mapping[str, str], path: Path) -> None:
    part = path.with_name(f"{PART}{path.name}")
    with tarfile.open(part, "w") as tar:
        for case in cases:
            encoded = dataset.encoded_masks(case)
            masks = {s: encoded[s] for s in case.present if s in encoded}
            key = keys[case.id]
            _add(tar, f"{key}.png", dataset.image_file(case).read_bytes())
            _add(tar, f"{key}.masks.json", json.dumps(masks).encode())
            _add(tar, f"{key}.case.json", case.to_json().encode())
    os.replace(part, path)


def import_folders(source: str | Path, out: str | Path, progress: ProgressCallback | None = None) -> Dataset:
    """Read the reference layout into a new data set, structures by vocabulary key. A case folder that no export of ours wrote
    counts as a subject, its picture as taken of a person unless the file says that it was reckoned from a CT.

    A data set that an interrupted import left is continued. Raises BrokenDataset when no folder of source holds ct.png, or when
    the data set has another case of the same name.
    """
    folders = sorted(p.parent for p in Path(source).glob(f"*/{PICTURE}"))
    if not folders:
        raise BrokenDataset(f"{Path(source).name} holds no case folder with a {PICTURE}.")
    with Dataset.adding(out) as dataset:
        before = {case.id: case for case in dataset.cases}
        for number, folder in enumerate(folders):
            case, picture, masks = _case_of(folder)
            if case.id not in before or not _same(dataset, before[case.id], case):
                dataset.add(case, picture, masks)
            report(progress, number + 1, len(folders), "Importing")
    return dataset


def _same(dataset: Dataset, there: Case, case: Case) -> bool:
    """Whether it was imported before, perhaps by another version; what reviewers drew since then does not count."""
    alike = replace(case, version=there.version, present=there.present, absent=there.absent, cut_off=there.cut_off)
    return alike == there and set(dataset.original_masks(there)) == set(case.present)


def _case_of(folder: Path) -> tuple[Case, Radiograph, dict[str, np.ndarray]]:
    """A case folder of the reference layout, and its masks without those that are empty."""
    from training import anatomy
    from training.errors import UnknownStructure

    picture, masks, called = read_radiograph(folder / PICTURE), {}, writable(folder.name)
    for path in sorted(folder.glob("*.png")):
        if path.name == PICTURE:
            continue
        try:
            name = anatomy.find(path.stem).key
        except UnknownStructure:
            name = writable(path.stem)
        mask = read_mask_png(path)
        if mask.shape != picture.pixels.shape:
            raise BrokenDataset(f"In {folder.name} the mask of {name} has another size than {PICTURE}.")
        if mask.any():
            masks[name] = mask
    case = replace(_stated(folder, picture), id=called, image=f"images/{called}.png", present=tuple(masks))
    case = replace(
        case,
        absent=tuple(s for s in case.absent if s not in masks),
        cut_off=tuple(s for s in case.cut_off if s in masks),
    )
    reconstructed = picture.reconstructed or case.provenance != IMPORTED
    return case, Radiograph(picture.pixels, name=called, reconstructed=reconstructed), masks


def _stated(folder: Path, picture: Radiograph) -> Case:
    """What case.json says; without one, a case that is a subject of its own. Raises BrokenDataset."""
    path = folder / CASE
    if not path.is_file():
        subject = writable(folder.name)
        return Case(subject, subject, "", None, "", (), (), (), IMPORTED, 0, __version__)
    try:
        case = Case.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, BrokenDataset) as error:
        reason = str(error) if isinstance(error, BrokenDataset) else "it cannot be read as text"
        raise BrokenDataset(
            f"{CASE} of {folder.name} cannot be used: {reason}; take it away, or export the folder again."
        ) from error
    size = tuple((case.geometry or {}).get(name) for name in ("rows", "columns"))
    return case if size == picture.pixels.shape else replace(case, geometry=None)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
