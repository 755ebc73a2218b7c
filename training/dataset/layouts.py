"""A data set in other programs' layouts: the reference's case folders, WebDataset tar shards, COCO and DICOM."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from training import __version__
from training.dataset.case import Case
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
from training.progress import ProgressCallback, report

PICTURE = "ct.png"


def export_folders(dataset: Dataset, out: str | Path, progress: ProgressCallback | None = None) -> int:
    """Write one folder per case with ct.png (8 bit) and <structure>.png (0 and 255), without what reviewers rejected.

    Returns how many cases there are. Raises BrokenDataset when out holds something else already.
    """
    from PIL import Image

    with exporting(dataset, out, "folders") as (folder, kept):
        for number, case in enumerate(kept):
            if not (folder / case.id).exists():
                with whole_folder(folder / case.id) as target:
                    Image.fromarray(np.round(dataset.image(case).pixels * 255).astype(np.uint8)).save(target / PICTURE)
                    write_mask_folder(dataset.masks(case, case.present), target)
            report(progress, number + 1, len(kept), "Exporting")
    return len(kept)


def export_webdataset(
    dataset: Dataset, out: str | Path, cases_per_shard: int = 500, progress: ProgressCallback | None = None
) -> int:
    """Write tar shards <split>-000000.tar with <id>.png (16 bit), <id>.masks.json (COCO RLE) and <id>.case.json per case.

    WebDataset ends a key at its first dot, so dots in ids become underscores there.

    What reviewers rejected is left out. Returns how many cases there are. Raises BrokenDataset when out holds something else
    already.
    """
    size, done = max(1, cases_per_shard), 0
    with exporting(dataset, out, f"webdataset of {size}") as (folder, kept):
        for split in ("train", "val", "test"):
            cases = [case for case in kept if case.split == split]
            for first in range(0, len(cases), size):
                path = folder / f"{split}-{first // size:06d}.tar"
                shard = cases[first : first + size]
                if not path.exists():
                    _write_shard(dataset, shard, path)
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


def _write_shard(dataset: Dataset, cases: Sequence[Case], path: Path) -> None:
    part = path.with_name(f"{PART}{path.name}")
    with tarfile.open(part, "w") as tar:
        for case in cases:
            encoded = dataset.encoded_masks(case)
            masks = {s: encoded[s] for s in case.present if s in encoded}
            key = case.id.replace(".", "_")
            _add(tar, f"{key}.png", dataset.image_file(case).read_bytes())
            _add(tar, f"{key}.masks.json", json.dumps(masks).encode())
            _add(tar, f"{key}.case.json", case.to_json().encode())
    os.replace(part, path)


def import_folders(source: str | Path, out: str | Path, progress: ProgressCallback | None = None) -> Dataset:
    """Read the reference layout into a new data set; each case folder counts as a subject, its structures by vocabulary key.

    A data set that an interrupted import left is continued.
    Raises BrokenDataset when no folder of source holds ct.png.
    """
    folders = sorted(p.parent for p in Path(source).glob(f"*/{PICTURE}"))
    if not folders:
        raise BrokenDataset(f"{Path(source).name} holds no case folder with a {PICTURE}.")
    with Dataset.adding(out) as dataset:
        before = list(dataset.cases)
        for number, folder in enumerate(folders):
            case, picture, masks = _case_of(folder)
            if case not in before:
                dataset.add(case, picture, masks)
            report(progress, number + 1, len(folders), "Importing")
    return dataset


def _case_of(folder: Path) -> tuple[Case, Radiograph, dict[str, np.ndarray]]:
    """A case folder of the reference layout, and its masks without those that are empty."""
    from training import anatomy
    from training.errors import UnknownStructure

    picture, masks = read_radiograph(folder / PICTURE), {}
    for path in sorted(folder.glob("*.png")):
        if path.name == PICTURE:
            continue
        try:
            name = anatomy.find(path.stem).key
        except UnknownStructure:
            name = path.stem
        mask = read_mask_png(path)
        if mask.shape != picture.pixels.shape:
            raise BrokenDataset(f"In {folder.name} the mask of {name} has another size than {PICTURE}.")
        if mask.any():
            masks[name] = mask
    case = Case(
        id=folder.name,
        subject=folder.name,
        view="",
        geometry=None,
        image=f"images/{folder.name}.png",
        present=tuple(masks),
        absent=(),
        cut_off=(),
        provenance="imported from case folders",
        seed=0,
        version=__version__,
    )
    return case, Radiograph(picture.pixels, name=folder.name, reconstructed=True), masks


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
