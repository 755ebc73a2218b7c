"""Masks and radiographs in exchange forms: COCO run-length codes, PNG, NIfTI. Files are written whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from training.errors import ChexanatomyError, UnreadableFile
from training.images.nifti import write_nifti
from training.images.paths import existing, is_jpeg, kind, not_this, replacing
from training.images.radiograph import FULL_SCALE, MOST_MEGAPIXELS, RECONSTRUCTED, WRITTEN_BY, read_picture
from training.images.types import CT, LabelMap, Radiograph

_ONE_RUN = 7
"""Characters that the longest run takes in COCO's compressed text."""
_MOST_BITS = 60
"""A run of COCO's compressed text that goes on beyond this is longer than any mask."""


def to_rle(mask: np.ndarray) -> dict[str, Any]:
    """Return a bool mask [row, column] as COCO run-length code: {"size": [rows, columns], "counts": text}."""
    from training.images.rle import encode

    if mask.ndim != 2:
        raise ChexanatomyError(f"A mask is bool [row, column]; this one has {mask.ndim} dimensions.")
    return {"size": [int(n) for n in mask.shape], "counts": encode(mask)}


def from_rle(code: Mapping[str, Any]) -> np.ndarray:
    """Return bool [row, column] of a COCO run-length code, compressed text or plain list of counts. Raises ChexanatomyError."""
    from pycocotools import mask as coco

    broken = "A mask's run-length code is damaged: its runs do not fill its size; write the mask again."
    try:
        rows, columns = (int(n) for n in code["size"])
        if rows * columns > MOST_MEGAPIXELS * 1_000_000:
            raise ChexanatomyError(
                f"A mask claims {rows} x {columns} pixels, more than any radiograph has; write the mask again."
            )
        counts = code["counts"]
        if isinstance(counts, list):
            runs = np.array(counts, np.int64)
            if rows < 0 or columns < 0 or ((runs < 0) | (runs > rows * columns)).any() or runs.sum() != rows * columns:
                raise ChexanatomyError(broken)
            values = np.arange(len(runs)) % 2 == 1
            return np.repeat(values, runs).reshape(columns, rows).T
        text = counts.encode("ascii") if isinstance(counts, str) else counts
        if not isinstance(text, bytes) or rows < 0 or columns < 0 or sum(_runs(text)) != rows * columns:
            raise ChexanatomyError(broken)
        return coco.decode({"size": [rows, columns], "counts": text}).astype(bool)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise ChexanatomyError(broken) from error


def is_empty(code: Mapping[str, Any]) -> bool:
    """Whether a code that to_rle wrote is of a mask without a pixel: a single run, whose last character alone lacks a bit."""
    counts = code.get("counts")
    return isinstance(counts, str) and len(counts) <= _ONE_RUN and sum(not (ord(c) - 48) & 0x20 for c in counts) == 1


def _runs(text: bytes) -> list[int]:
    """Lengths of the runs in COCO's compressed text: 5 bits a character, later runs as difference to the last but one."""
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - 48
        value |= (bits & 0x1F) << shift
        shift += 5
        if shift > _MOST_BITS:
            raise ValueError("a run longer than any mask")
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            raise ValueError("negative run")
        value = shift = 0
    if shift:
        raise ValueError("broken off")
    return runs


def write_mask_png(mask: np.ndarray, path: str | os.PathLike[str], name: str = "") -> None:
    """Write a bool mask [row, column] as 8-bit PNG of 0 and 255; name: the structure's, kept in the file as PNG's "Title"."""
    _write_png(np.where(mask, np.uint8(255), np.uint8(0)), path, name)


def read_mask_png(path: str | os.PathLike[str]) -> np.ndarray:
    """Return bool [row, column] of a mask picture: any value above 0 is foreground, in a JPEG any above half of its largest, for
    its compression leaves faint values around every edge. Raises UnreadableFile."""
    source = existing(path)
    if kind(source) != "picture":
        raise not_this(source, "give a mask as PNG")
    values, _ = read_picture(source)
    values = values.max(axis=2) if values.ndim == 3 else values
    foreground: np.ndarray = values > (values.max() / 2 if is_jpeg(source) else 0)
    return foreground


def write_radiograph_png(radiograph: Radiograph, path: str | os.PathLike[str], bits: Literal[8, 16] = 16) -> None:
    """Write a radiograph as grey PNG: 0..1 becomes 0..65535, or 0..255. The file remembers whether it was reconstructed."""
    pixels = np.clip(np.nan_to_num(radiograph.pixels), 0, 1)
    values = np.rint(pixels * FULL_SCALE).astype(np.uint16) if bits == 16 else np.rint(pixels * 255).astype(np.uint8)
    _write_png(values, path, source=RECONSTRUCTED if radiograph.reconstructed else "")


def _write_png(values: np.ndarray, path: str | os.PathLike[str], title: str = "", source: str = "") -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    origin = PngInfo()
    origin.add_text("Software", WRITTEN_BY)
    if source:
        origin.add_text("Source", source)
    if title:
        origin.add_itxt("Title", title)
    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(values)).save(temporary, format="PNG", compress_level=3, pnginfo=origin)


def write_ct_nifti(ct: CT, path: str | os.PathLike[str]) -> None:
    """Write a CT as NIfTI (.nii or .nii.gz), int16 [HU]."""
    write_nifti(_nifti_path(path), ct.hu, ct)


def write_labels_nifti(labels: LabelMap, path: str | os.PathLike[str]) -> Path:
    """Write a label map as NIfTI with its names in the header and in a table NAME_names.csv (id,name); return the table.

    An id that stands for several structures has a row for each.
    """
    target = _nifti_path(path)
    members = {i: names for i, names in labels.members.items() if i}
    write_nifti(target, labels.ids, labels, members)
    table = target.with_name(f"{target.name.removesuffix('.gz').removesuffix('.nii')}_names.csv")
    with replacing(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "name"])
        writer.writerows((i, name) for i in sorted(members) for name in members[i])
    return table


def _nifti_path(path: str | os.PathLike[str]) -> Path:
    target = Path(path).expanduser()
    if not target.name.lower().endswith((".nii", ".nii.gz")):
        raise UnreadableFile(f"{target.name} is no name for a NIfTI file; let it end in .nii.gz.")
    return target
