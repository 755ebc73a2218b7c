"""A radiograph as 16-bit PNG with what a picture cannot say in a JSON file of the same name beside it."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.images.exchange import write_radiograph_png
from training.images.paths import replacing
from training.images.types import Radiograph

if TYPE_CHECKING:
    from training.drr import Geometry

FORM = "napari-chexanatomy radiograph"
"""What tells our sidecar from other JSON files."""
_MOST_BYTES = 100_000


def write_radiograph(radiograph: Radiograph, path: str | os.PathLike[str], geometry: Geometry | None = None) -> Path:
    """Write NAME.png (16 bit, 0..1 as 0..65535) and NAME.json (pixel pitch [mm], view, geometry), and return the latter."""
    target = Path(path).expanduser()
    sidecar = target.with_suffix(".json")
    write_radiograph_png(radiograph, target)
    content = {
        "form": FORM,
        "spacing": list(radiograph.spacing) if radiograph.spacing is not None else None,
        "view": radiograph.view,
        "geometry": geometry.to_dict() if geometry is not None else None,
    }
    with replacing(sidecar) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return sidecar


def with_sidecar(radiograph: Radiograph, path: Path) -> Radiograph:
    """Return the radiograph of a picture with pixel pitch and view from the sidecar of ours beside it, if there is one."""
    values = read_sidecar(path)
    if values is None:
        return radiograph
    try:
        row, column = (float(v) for v in values["spacing"])
        spacing = (row, column) if row > 0 and column > 0 and math.isfinite(row + column) else None
    except (KeyError, TypeError, ValueError):
        spacing = None
    view = values.get("view")
    reconstructed = radiograph.reconstructed or values.get("geometry") is not None
    return replace(radiograph, spacing=spacing, view=view if view in ("PA", "AP", "LATERAL") else "", reconstructed=reconstructed)


def read_sidecar(path: Path) -> dict[str, Any] | None:
    """Return what write_radiograph wrote beside a picture; None where nothing of ours lies there."""
    sidecar = path.with_suffix(".json")
    try:
        if path.suffix.lower() != ".png" or sidecar.stat().st_size > _MOST_BYTES:
            return None
        values = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) and values.get("form") == FORM else None
