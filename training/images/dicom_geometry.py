"""Where tube and detector stood, in a private block of the DX images that we write: exactly what geometry.json holds.

DX's own attributes hold angles and distances too, for other programs; roll and the isocentre in the CT have no place among them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.errors import UnreadableFile
from training.images.dicom_headers import dicom_errors, quiet, read_dataset

GROUP = 0x0071
CREATOR = "napari-chexanatomy"
ELEMENT = 0x01
_VALUES = frozenset({"sdd", "sid", "primary", "secondary", "roll", "isocentre", "rows", "columns", "spacing"})


def put_geometry(dataset: Any, values: Mapping[str, Any]) -> None:
    """Write the values of geometry.json into a pydicom Dataset."""
    dataset.private_block(GROUP, CREATOR, create=True).add_new(ELEMENT, "LT", json.dumps(values))


def geometry_in(dataset: Any) -> dict[str, Any] | None:
    """Return the values of geometry.json that we wrote into a pydicom Dataset; None where there are none or others."""
    try:
        values = json.loads(_text(dataset.private_block(GROUP, CREATOR)[ELEMENT].value))
        rows, columns = (float(v) for v in values["spacing"])
    except (KeyError, TypeError, ValueError):
        return None
    return values if set(values) == _VALUES and min(rows, columns) > 0 else None


def read_geometry_dicom(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the values of geometry.json from a DX image of ours. Raises UnreadableFile for any other file."""
    with quiet():
        try:
            values = geometry_in(read_dataset(Path(path), stop_before_pixels=True))
        except dicom_errors() as error:
            raise UnreadableFile(f"{Path(path).name} cannot be read as DICOM; give a geometry.json.") from error
    if values is None:
        raise UnreadableFile(f"{Path(path).name} does not say where tube and detector stood; give a geometry.json.")
    return values


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
