"""Masks from any of the exchange forms: COCO JSON, a folder of PNG, DICOM SEG; and as a folder of PNG."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from training.anatomy import find
from training.errors import ChexanatomyError, UnknownStructure, UnreadableFile
from training.filenames import file_stem
from training.images.coco import read_coco
from training.images.dicom_seg import read_masks_dicom
from training.images.exchange import read_mask_png, write_mask_png
from training.images.mask_sets import MaskSet
from training.images.paths import existing, kind, not_this
from training.plain import writable

_NO_MASKS = (".probability.png", ".overlap.png")
"""Pictures that `predict` writes beside its masks."""


def read_masks(path: str | os.PathLike[str]) -> list[MaskSet]:
    """Read masks, one MaskSet an image: COCO or predictions JSON, a folder of <structure>.png (or with its subfolder masks), or a
    DICOM SEG. Raises UnreadableFile.
    """
    source = existing(path)
    match kind(source):
        case "folder":
            return [read_mask_pictures(source)]
        case "dicom":
            return [read_masks_dicom(source)]
        case "unknown" if source.suffix.lower() == ".json":
            return read_coco(source)
        case _:
            raise not_this(source, "give masks as COCO JSON, as a folder of PNG or as DICOM SEG")


def write_mask_folder(masks: Mapping[str, np.ndarray], folder: str | os.PathLike[str]) -> None:
    """Write bool masks [row, column] as <structure>.png of 0 and 255 into a folder; the names stand in the files as well."""
    target = Path(folder)
    names: dict[str, str] = {}
    for structure in masks:
        other = names.setdefault(file_stem(structure).casefold(), structure)
        if other != structure:
            raise ChexanatomyError(f"{structure!r} and {other!r} would be the same file name; rename one of them.")
    target.mkdir(parents=True, exist_ok=True)
    for structure, mask in masks.items():
        write_mask_png(mask, target / f"{file_stem(structure)}.png", structure)


def read_mask_pictures(folder: str | os.PathLike[str]) -> MaskSet:
    """Read a folder of <structure>.png, or the subfolder `masks` of a folder that `render` wrote. Raises UnreadableFile."""
    here = existing(folder)
    place = here / "masks" if (here / "masks").is_dir() else here
    files = sorted(p for p in place.glob("*.png") if not p.name.startswith(".") and not p.name.endswith(_NO_MASKS))
    if not files:
        raise UnreadableFile(f"{here.name} holds no masks; give a folder of <structure>.png.")
    masks: dict[str, np.ndarray] = {}
    for file in files:
        mask = read_mask_png(file)
        size = mask.shape if not masks else next(iter(masks.values())).shape
        if mask.shape != size:
            raise UnreadableFile(f"{file.name} is {mask.shape} pixels and the masks before it {size}; give masks of one image.")
        masks[_structure(file)] = mask
    return MaskSet("", next(iter(masks.values())).shape, masks)  # type: ignore[arg-type]  # two numbers


def _structure(file: Path) -> str:
    from PIL import Image

    with Image.open(file) as image:
        name = str(image.info.get("Title") or file.stem)
    try:
        return find(name).key
    except UnknownStructure:
        return writable(name)
