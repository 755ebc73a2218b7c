"""Result folders: a radiograph with its masks and pose, and predictions with their masks, in formats that every program reads."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import ChexanatomyError, in_words
from training.filenames import file_stem
from training.images import (
    MaskSet,
    Radiograph,
    from_rle,
    to_rle,
    write_mask_folder,
    write_mask_png,
    write_masks_dicom,
    write_radiograph,
    write_radiograph_dicom,
)
from training.images.coco import turn_in
from training.images.dicom_write import radiograph_dataset
from training.images.paths import replacing
from training.images.turning import AS_STORED, Turn

if TYPE_CHECKING:
    from training.drr import Geometry
    from training.images.dicom_write import Owner
    from training.model import Finding

__all__ = [
    "as_stored",
    "earlier_records",
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
    """Write radiograph.png (16 bit, radiograph.json beside it), geometry.json and masks/<structure>.png (0/255) into a folder.

    masks: structure -> bool [row, column]. owner: also write radiograph.dcm (DX) and masks.dcm (SEG), filed under it. What an
    earlier call wrote there with another picture or in another pose goes: its masks would lie on the wrong picture.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = write_radiograph(radiograph, out / "radiograph.part.png", geometry)
    _clear_other_view(out, written.with_suffix(".png"), geometry)
    for ending in (".png", ".json"):
        os.replace(written.with_suffix(ending), out / f"radiograph{ending}")
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
    out: Path,
    folder: str,
    image: str,
    radiograph: Radiograph,
    findings: Sequence[Finding],
    model: str,
    earlier: Mapping[str, Mapping[str, Any]] | None = None,
    untaught: Collection[str] = (),
) -> dict[str, Any]:
    """Write one mask per finding, and its probability where there is one, into out/folder and return the image's record for
    predictions.json.

    A structure that is not there gets an all-zero mask, so that every structure that was asked for has a file. Masks and boxes
    (top, left, bottom, right) [px] lie on the pixels as they stand in the image's file, `turned` says how the model saw them;
    rle is COCO's. earlier: what `earlier_records` gave before; masks that it lists for this image make room; untaught:
    structures that the model was not taught, which their entries say.
    """
    (out / folder).mkdir(parents=True, exist_ok=True)
    for entry in (earlier or {}).get(folder, {}).get("findings", ()):
        _clear_masks(out / folder, str(entry["structure"]))
    rows, columns = radiograph.turn.back(radiograph.pixels).shape
    entries = []
    for finding in as_stored(radiograph, findings):
        mask = finding.mask if finding.present and finding.mask is not None else np.zeros((rows, columns), bool)
        file = f"{folder}/{file_stem(finding.structure)}.png"
        write_mask_png(mask, out / file)
        if finding.probability is not None:
            _write_probability(finding.probability, out / folder / f"{file_stem(finding.structure)}.probability.png")
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
                **({"untaught": True} if finding.structure in untaught else {}),
            }
        )
    turned = {"turned": asdict(radiograph.turn)} if radiograph.turn != AS_STORED else {}
    notes = {"notes": list(radiograph.notes)} if radiograph.notes else {}
    return {"image": image, "folder": folder, "size": [rows, columns], "model": model, **turned, **notes, "findings": entries}


def _write_probability(probability: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray((probability * 255).round().astype(np.uint8)).save(path)


def as_stored(radiograph: Radiograph, findings: Sequence[Finding]) -> list[Finding]:
    """The findings on the pixels as they stand in the radiograph's file."""
    rows, columns = radiograph.pixels.shape
    return [_turned(finding, radiograph.turn.back, (rows, columns)) for finding in findings]


def _turned(finding: Finding, turn: Turn, size: tuple[int, int]) -> Finding:
    """A finding on an image of `size` (rows, columns), turned with it."""
    if turn == AS_STORED:
        return finding
    box, mask, chance = finding.box, finding.mask, finding.probability
    return replace(
        finding,
        box=turn.box(box, size) if box is not None else None,
        mask=turn(mask) if mask is not None else None,
        probability=turn(chance) if chance is not None else None,
    )


def earlier_records(path: Path) -> dict[str, dict[str, Any]]:
    """What a predictions.json says by folder, before it is written again; nothing where there is none that can be read."""
    try:
        return {str(record["folder"]): record for record in read_records(path)}
    except ChexanatomyError:
        return {}


def _clear_masks(folder: Path, structure: str) -> None:
    """Remove what an earlier run wrote about a structure of an image."""
    for kind in ("", ".probability", ".overlap"):
        (folder / f"{file_stem(structure)}{kind}.png").unlink(missing_ok=True)


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the records of a predictions.json. Raises ChexanatomyError when it is none."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        good = isinstance(records, list) and all(map(_is_record, records))
    except FileNotFoundError as error:
        raise ChexanatomyError(
            f"{path.parent.name} holds no {path.name}: choose the folder that predictions were saved in."
        ) from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ChexanatomyError(f"{path} cannot be read ({in_words(error)}): take it from its source again.") from error
    if not good:
        raise ChexanatomyError(f"{path} holds no predictions: choose the folder that predictions were saved in.")
    return list(records)


def _is_record(record: Any) -> bool:
    if not isinstance(record, dict) or not {"image", "folder", "size", "findings"} <= set(record):
        return False
    findings = record["findings"]
    return isinstance(findings, list) and all(isinstance(entry, dict) and "structure" in entry for entry in findings)


def read_findings(record: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of one record of predictions.json, on the image as it is read. Raises ChexanatomyError when its
    run-length codes are damaged."""
    from training.model import Finding

    turn, (rows, columns) = turn_in(record), record["size"]
    stored = [
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
    return [_turned(finding, turn, (rows, columns)) for finding in stored]


def keep_record(path: Path, record: Mapping[str, Any]) -> None:
    """Put a record into predictions.json; those of other images stay, an older one of the same folder is replaced."""
    others = [r for r in read_records(path) if r["folder"] != record["folder"]] if path.exists() else []
    write_json(path, [*others, dict(record)])


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one step: a reader sees the old file or the new one, never half of it."""
    with replacing(path) as temporary:
        temporary.write_text(json_text(content), encoding="utf-8")


def json_text(content: Any) -> str:
    """Content as `write_json` writes it."""
    return json.dumps(content, indent=1) + "\n"
