"""Masks of many images as one COCO file: instances with run-length codes, readable by pycocotools and labelling tools."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.anatomy import find, vocabulary
from training.errors import ChexanatomyError, UnknownStructure, UnreadableFile
from training.images.exchange import from_rle, to_rle
from training.images.mask_sets import MaskSet
from training.images.paths import existing, replacing
from training.images.radiograph import MOST_MEGAPIXELS, WRITTEN_BY
from training.images.turning import Turn
from training.plain import writable

FARTHEST = 1.5
"""A corner of a polygon lies this many image widths (heights) from the middle at most: one image beyond each side."""
LONGEST_OUTLINE = 100
"""Times width and height together, what a polygon's outline may take; that of a box takes two."""


def write_coco(sets: Iterable[MaskSet], path: str | os.PathLike[str]) -> int:
    """Write the masks of many images, on their files' own pixels, as COCO instances and return how many masks were written.

    Categories are structures by key; `segmentation` is compressed run-length code, `bbox` (left, top, width, height) [px]. A
    structure known not to be there has no annotation and stands in its image's own list `absent`.
    """
    from training import __version__

    categories: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, one in enumerate((one.on_stored() for one in sets), 1):
        rows, columns = one.size
        absent = [structure for structure, mask in one.masks.items() if not mask.any()]
        images.append({"id": number, "file_name": one.image, "width": columns, "height": rows, "absent": absent})
        for structure, mask in one.masks.items():
            category = categories.setdefault(structure, len(categories) + 1)
            if structure in absent:
                continue
            annotation = _annotation(len(annotations) + 1, number, category, mask)
            if math.isfinite(one.scores.get(structure, math.nan)):
                annotation["score"] = float(one.scores[structure])
            annotations.append(annotation)
    content = {
        "info": {"description": "Anatomy on radiographs. Research use, not for diagnosis.", "version": __version__, "url": "",
                 "contributor": WRITTEN_BY},
        "licenses": [],
        "images": images,
        "categories": [{"id": i, "name": s, "supercategory": _group(s)} for s, i in categories.items()],
        "annotations": annotations,
    }  # fmt: skip
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, separators=(",", ":"), allow_nan=False), encoding="utf-8")
    return len(annotations)


def read_coco(path: str | os.PathLike[str]) -> list[MaskSet]:
    """Read a COCO file of instances (run-length codes or polygons), or predictions.json of `predict`; one MaskSet an image.

    Several annotations of one category on an image become one mask. Raises UnreadableFile or ChexanatomyError.
    """
    source = existing(path)
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
        if isinstance(content, list):
            _check_memory(math.prod(int(n) for n in record["size"]) * len(record["findings"]) for record in content)
            return [predicted(record) for record in content]
        return _instances(content)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, AttributeError, OverflowError) as error:
        raise UnreadableFile(f"{source.name} is no COCO file and no predictions.json; give one with images and masks.") from error


def holds_masks(path: Path) -> bool:
    """True for a JSON file that begins as the files do that read_coco reads."""
    try:
        with path.open(encoding="utf-8") as file:
            head = file.read(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return '"annotations"' in head or '"images"' in head or '"findings"' in head


def _annotation(number: int, image: int, category: int, mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    return {
        "id": number, "image_id": image, "category_id": category, "segmentation": to_rle(mask), "area": int(mask.sum()),
        "bbox": box, "iscrowd": 0,
    }  # fmt: skip


def _group(structure: str) -> str:
    known = vocabulary().get(structure)
    return known.group if known is not None else "Other"


def predicted(record: Mapping[str, Any]) -> MaskSet:
    """The masks of one image's record in predictions.json, empty ones for structures that are not there."""
    rows, columns = (int(n) for n in record["size"])
    _check_size(rows, columns)
    masks = {str(f["structure"]): from_rle(f["rle"]) if f["rle"] else np.zeros((rows, columns), bool) for f in record["findings"]}
    scores = {str(f["structure"]): float(f["confidence"]) for f in record["findings"] if math.isfinite(float(f["confidence"]))}
    stored = MaskSet(Path(str(record["image"])).name, (rows, columns), masks, scores)
    turn = turn_in(record)
    return replace(stored.on_read(turn), turn=turn)


def turn_in(record: Mapping[str, Any]) -> Turn:
    """How the image of a record in predictions.json was turned when it was read."""
    said = record.get("turned")
    known = said if isinstance(said, Mapping) else {}
    return Turn(**{one.name: bool(known.get(one.name)) for one in fields(Turn)})


def _instances(content: Mapping[str, Any]) -> list[MaskSet]:
    names = {int(category["id"]): _key(str(category["name"])) for category in content["categories"]}
    sizes: dict[int, tuple[int, int]] = {}
    absent: dict[int, list[str]] = {}
    for image in content["images"]:
        number, size = int(image["id"]), (int(image["height"]), int(image["width"]))
        _check_size(*size)
        sizes[number], absent[number] = size, [_key(str(structure)) for structure in image.get("absent", [])]
    files = {int(image["id"]): str(image["file_name"]) for image in content["images"]}
    drawn = [((int(one["image_id"]), names[int(one["category_id"])]), one) for one in content["annotations"]]
    held = {place for place, _ in drawn} | {(number, structure) for number in absent for structure in absent[number]}
    _check_memory(math.prod(sizes[number]) for number, _ in held)
    masks = {number: {structure: np.zeros(size, bool) for structure in absent[number]} for number, size in sizes.items()}
    scores: dict[int, dict[str, float]] = {number: {} for number in sizes}
    for (number, structure), annotation in drawn:
        mask = _mask(annotation["segmentation"], sizes[number], f"Annotation {annotation.get('id')} on {files[number]}")
        other = masks[number].get(structure)
        masks[number][structure] = mask if other is None else other | mask
        if math.isfinite(float(annotation.get("score", math.nan))):
            scores[number][structure] = max(float(annotation["score"]), scores[number].get(structure, 0.0))
    return [MaskSet(files[number], sizes[number], masks[number], scores[number]) for number in sizes]


def _mask(code: Any, size: tuple[int, int], which: str) -> np.ndarray:
    from pycocotools import mask as coco

    if isinstance(code, list):
        if not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in code) or not code:
            raise ValueError("a polygon has three corners or more")
        outlines = [_outline(polygon, size, which) for polygon in code]
        return coco.decode(coco.merge(coco.frPyObjects(outlines, *size))).astype(bool)
    if tuple(code["size"]) != size:
        raise ChexanatomyError(f"{which}: the mask is {code['size']} pixels and its image {list(size)}; mend or remove it.")
    return from_rle(code)


def _outline(polygon: list[Any], size: tuple[int, int], which: str) -> list[float]:
    """The corners of a polygon, x and y by turns [px]. pycocotools would end the process on some that lie far off."""
    rows, columns = size
    corners = np.array(polygon, np.float64).reshape(-1, 2)
    near = np.abs(corners / (columns, rows) - 0.5) <= FARTHEST
    length = np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1).sum()
    if not near.all() or length > LONGEST_OUTLINE * (rows + columns):
        raise ChexanatomyError(f"{which}: the polygon leads far beyond the image of {columns} x {rows} px; mend or remove it.")
    return corners.ravel().tolist()  # type: ignore[no-any-return]


def _key(name: str) -> str:
    try:
        return find(name).key
    except UnknownStructure:
        return writable(name)


def _check_size(rows: int, columns: int) -> None:
    if not (rows > 0 and columns > 0 and rows * columns <= MOST_MEGAPIXELS * 1_000_000):
        raise ChexanatomyError(f"The COCO file claims an image of {rows} x {columns} pixels; no radiograph is as large.")


def _check_memory(pixels: Iterable[int]) -> None:
    """Raise ChexanatomyError for masks of so many pixels together, a byte each, that they would fill half of the memory."""
    import psutil

    needed, memory = sum(pixels), psutil.virtual_memory().total
    if needed > memory / 2:
        raise ChexanatomyError(
            f"The file's masks unpack to {needed / 1e9:.1f} GB, more than half of this machine's memory of {memory / 1e9:.1f} "
            "GB; give them in parts."
        )
