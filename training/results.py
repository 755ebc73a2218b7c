"""Result folders: a radiograph with its masks and pose, and predictions with their masks, in formats that every program reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import ChexanatomyError
from training.filenames import file_stem
from training.images import (
    MaskSet,
    Radiograph,
    from_rle,
    to_rle,
    write_mask_folder,
    write_mask_png,
    write_masks_dicom,
    write_radiograph_dicom,
    write_radiograph_png,
)
from training.images.dicom_write import radiograph_dataset

if TYPE_CHECKING:
    from training.drr import Geometry
    from training.images.dicom_write import Owner
    from training.model import Finding

__all__ = [
    "file_stem",
    "keep_record",
    "masks_of",
    "read_findings",
    "read_records",
    "write_dicom_pair",
    "write_findings",
    "write_json",
    "write_view",
]


def write_view(
    out: Path, radiograph: Radiograph, geometry: Geometry, masks: Mapping[str, np.ndarray], owner: Owner | None = None
) -> None:
    """Write radiograph.png (16 bit), geometry.json and masks/<structure>.png (0/255) into a folder.

    masks: structure -> bool [row, column]. owner: also write radiograph.dcm (DX) and masks.dcm (SEG), filed under it. What an
    earlier call wrote there with another picture or in another pose goes: its masks would lie on the wrong picture.
    """
    out.mkdir(parents=True, exist_ok=True)
    picture = out / "radiograph.part.png"
    write_radiograph_png(radiograph, picture)
    _clear_other_view(out, picture, geometry)
    os.replace(picture, out / "radiograph.png")
    write_json(out / "geometry.json", geometry.to_dict())
    if masks:
        write_mask_folder(masks, out / "masks")
    if owner is not None:
        write_dicom_pair(out, radiograph, masks, owner, "label projection", geometry)


def _clear_other_view(out: Path, picture: Path, geometry: Geometry) -> None:
    """Remove what was written into a view's folder with another picture or in another pose."""
    pose, before = out / "geometry.json", out / "radiograph.png"
    if not pose.is_file():
        return
    same_pose = pose.read_bytes() == json_text(geometry.to_dict()).encode()
    if same_pose and before.is_file() and before.read_bytes() == picture.read_bytes():
        return
    for stale in (*out.glob("masks/*.png"), out / "radiograph.dcm", out / "masks.dcm"):
        stale.unlink(missing_ok=True)


def write_dicom_pair(
    out: Path,
    radiograph: Radiograph,
    masks: Mapping[str, np.ndarray],
    owner: Owner,
    made_by: str = "",
    geometry: Geometry | None = None,
) -> None:
    """Write radiograph.dcm and, where there are masks, masks.dcm (DICOM SEG) that refers to it, both filed under the owner."""
    image = radiograph_dataset(radiograph, geometry, owner)
    if masks:  # first, as they may be refused: nothing is left then
        write_masks_dicom(masks, out / "masks.dcm", image, made_by)
    write_radiograph_dicom(radiograph, out / "radiograph.dcm", geometry, owner)


def masks_of(size: tuple[int, int], findings: Sequence[Finding], image: str = "") -> MaskSet:
    """Return the masks (rows, columns) of findings, empty ones for structures that are not there, with their confidence."""
    masks = {f.structure: f.mask if f.present and f.mask is not None else np.zeros(size, bool) for f in findings}
    return MaskSet(image, size, masks, {f.structure: float(f.confidence) for f in findings})


def write_findings(
    out: Path, folder: str, image: str, radiograph: Radiograph, findings: Sequence[Finding], model: str
) -> dict[str, Any]:
    """Write one mask per finding into out/folder and return the image's record for predictions.json.

    A structure that is not there gets an all-zero mask, so that every structure that was asked for has a file. box is
    (top, left, bottom, right) [px]; rle is COCO's.
    """
    rows, columns = radiograph.pixels.shape
    (out / folder).mkdir(parents=True, exist_ok=True)
    entries = []
    for finding in findings:
        mask = finding.mask if finding.present and finding.mask is not None else np.zeros((rows, columns), bool)
        file = f"{folder}/{file_stem(finding.structure)}.png"
        write_mask_png(mask, out / file)
        entries.append(
            {
                "structure": finding.structure,
                "present": bool(finding.present),
                "confidence": round(float(finding.confidence), 4),
                "box": [round(float(v), 2) for v in finding.box] if finding.box is not None else None,
                "rle": to_rle(mask) if finding.present else None,
                "file": file,
                "tokens": list(finding.tokens),
                "text": finding.text,
                **({"convention": finding.convention} if finding.convention else {}),
            }
        )
    return {"image": image, "folder": folder, "size": [rows, columns], "model": model, "findings": entries}


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a predictions.json. Raises ChexanatomyError when it is none."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        good = isinstance(records, list) and all({"image", "folder", "size", "findings"} <= set(record) for record in records)
    except FileNotFoundError as error:
        raise ChexanatomyError(
            f"{path.parent.name} holds no {path.name}: choose the folder that predictions were saved in."
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise ChexanatomyError(f"{path} cannot be read ({error}): take it from its source again.") from error
    if not good:
        raise ChexanatomyError(f"{path} holds no predictions: choose the folder that predictions were saved in.")
    return list(records)


def read_findings(record: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of one record of predictions.json. Raises ChexanatomyError when its run-length codes are damaged."""
    from training.model import Finding

    return [
        Finding(
            structure=str(entry["structure"]),
            present=bool(entry["present"]),
            box=tuple(entry["box"]) if entry["box"] else None,  # type: ignore[arg-type]
            mask=from_rle(entry["rle"]) if entry["present"] and entry["rle"] else None,
            confidence=float(entry["confidence"]),
            tokens=tuple(entry["tokens"]),
            text=str(entry["text"]),
            convention=str(entry.get("convention", "")),
        )
        for entry in record["findings"]
    ]


def keep_record(path: Path, record: Mapping[str, Any]) -> None:
    """Put a record into predictions.json; those of other images stay, an older one of the same folder is replaced."""
    others = [r for r in read_records(path) if r["folder"] != record["folder"]] if path.exists() else []
    write_json(path, [*others, dict(record)])


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one step: a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(json_text(content), encoding="utf-8")
    os.replace(scratch, path)


def json_text(content: Any) -> str:
    """Content as `write_json` writes it."""
    return json.dumps(content, indent=1) + "\n"
