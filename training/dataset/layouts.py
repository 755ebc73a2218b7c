"""A data set in other programs' layouts: the reference's case folders, and WebDataset tar shards."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np

from training import __version__
from training.dataset.case import Case
from training.dataset.store import Dataset
from training.errors import BrokenDataset
from training.filenames import file_stem
from training.images import read_mask_png, read_radiograph, write_mask_png
from training.images.types import Radiograph
from training.progress import ProgressCallback, report

PICTURE = "ct.png"


def export_folders(dataset: Dataset, out: str | Path, progress: ProgressCallback | None = None) -> int:
    """Write one folder per case with ct.png (8 bit) and <structure>.png (0 and 255), without what reviewers rejected.

    Returns how many cases were written. Raises BrokenDataset when out holds something already.
    """
    from PIL import Image

    folder = _new_folder(out)
    kept = dataset.kept()
    for number, case in enumerate(kept):
        target = folder / case.id
        target.mkdir()
        Image.fromarray(np.round(dataset.image(case).pixels * 255).astype(np.uint8)).save(target / PICTURE)
        for structure, mask in dataset.masks(case, case.present).items():
            write_mask_png(mask, target / f"{file_stem(structure)}.png")
        report(progress, number + 1, len(kept), "Exporting")
    return len(kept)


def export_webdataset(
    dataset: Dataset, out: str | Path, cases_per_shard: int = 500, progress: ProgressCallback | None = None
) -> int:
    """Write tar shards <split>-000000.tar with <id>.png (16 bit), <id>.masks.json (COCO RLE) and <id>.case.json per case.

    WebDataset ends a key at its first dot, so dots in ids become underscores there.

    What reviewers rejected is left out. Returns how many cases were written. Raises BrokenDataset when out is in use.
    """
    folder = _new_folder(out)
    kept = dataset.kept()
    done = 0
    for split in ("train", "val", "test"):
        cases = [case for case in kept if case.split == split]
        for shard in range(0, len(cases), max(1, cases_per_shard)):
            path = folder / f"{split}-{shard // max(1, cases_per_shard):06d}.tar"
            part = path.with_suffix(".part")
            with tarfile.open(part, "w") as tar:
                for case in cases[shard : shard + max(1, cases_per_shard)]:
                    encoded = dataset.encoded_masks(case)
                    masks = {s: encoded[s] for s in case.present if s in encoded}
                    key = case.id.replace(".", "_")
                    _add(tar, f"{key}.png", (dataset.folder / case.image).read_bytes())
                    _add(tar, f"{key}.masks.json", json.dumps(masks).encode())
                    _add(tar, f"{key}.case.json", case.to_json().encode())
                    done += 1
                    report(progress, done, len(kept), "Exporting")
            os.replace(part, path)
    return done


def import_folders(source: str | Path, out: str | Path, progress: ProgressCallback | None = None) -> Dataset:
    """Read the reference layout into a new data set; each case folder counts as a subject, its structures by vocabulary key.

    Raises BrokenDataset when no folder of source holds ct.png.
    """
    from training import anatomy
    from training.errors import UnknownStructure

    folders = sorted(p.parent for p in Path(source).glob(f"*/{PICTURE}"))
    if not folders:
        raise BrokenDataset(f"{Path(source).name} holds no case folder with a {PICTURE}.")
    dataset = Dataset.create(out)
    for number, folder in enumerate(folders):
        masks = {}
        for path in sorted(folder.glob("*.png")):
            if path.name == PICTURE:
                continue
            try:
                name = anatomy.find(path.stem).key
            except UnknownStructure:
                name = path.stem
            masks[name] = read_mask_png(path)
        picture = read_radiograph(folder / PICTURE)
        wrong = [s for s, m in masks.items() if m.shape != picture.pixels.shape]
        if wrong:
            raise BrokenDataset(f"In {folder.name} the mask of {wrong[0]} has another size than {PICTURE}.")
        dataset.add(
            Case(
                id=folder.name,
                subject=folder.name,
                view="",
                geometry=None,
                image=f"images/{folder.name}.png",
                present=tuple(s for s, m in masks.items() if m.any()),
                absent=(),
                cut_off=(),
                provenance="imported from case folders",
                seed=0,
                version=__version__,
            ),
            Radiograph(picture.pixels, name=folder.name),
            {s: m for s, m in masks.items() if m.any()},
        )
        report(progress, number + 1, len(folders), "Importing")
    return dataset


def _new_folder(out: str | Path) -> Path:
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BrokenDataset(f"{folder.name} holds something already: name a new or empty folder.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
