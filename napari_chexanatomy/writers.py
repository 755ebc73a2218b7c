"""What napari asks when a layer is saved: masks as PNG, label maps and CTs as NIfTI, radiographs as 16-bit PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_chexanatomy.layers import KEY, Core
from training.errors import ChexanatomyError
from training.images import write_ct_nifti, write_labels_nifti, write_mask_png, write_radiograph_png
from training.images.types import CT, LabelMap, Radiograph, Triple


def write_mask(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a 2D Labels layer as PNG of 0 and 255; several labels give one file each (NAME_1.png, NAME_2.png ...)."""
    labels = np.asarray(data)
    if labels.ndim != 2:
        raise ChexanatomyError(f"The layer has {labels.ndim} dimensions; a mask picture has two: save it as NIfTI (.nii.gz).")
    target = Path(path)
    ids = [int(i) for i in np.unique(labels) if i]
    if len(ids) <= 1:
        write_mask_png(labels > 0, target)
        return [str(target)]
    targets = [target.with_name(f"{target.stem}_{i}{target.suffix}") for i in ids]
    for i, one in zip(ids, targets, strict=True):
        write_mask_png(labels == i, one)
    return [str(one) for one in targets]


def write_labels(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a 3D Labels layer as NIfTI, with the table of its names beside it."""
    ids = np.asarray(data)
    if ids.ndim != 3:
        raise ChexanatomyError(f"The layer has {ids.ndim} dimensions; a label map has three: save a drawn mask as PNG.")
    if ids.min() < 0 or ids.max() > np.iinfo(np.uint16).max:
        raise ChexanatomyError(f"A label map's ids go from 0 to {np.iinfo(np.uint16).max}; this layer has others.")
    core = _core(attributes)
    known = core.labels.members if core.labels is not None else {}
    kept = np.ascontiguousarray(ids, np.uint8 if ids.max() <= np.iinfo(np.uint8).max else np.uint16)
    members = {int(i): known.get(int(i), (f"label_{i}",)) for i in np.unique(kept) if i}
    spacing, origin = _place(attributes)
    table = write_labels_nifti(LabelMap(kept, members, spacing, origin), path)
    return [path, str(table)]


def write_image(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a radiograph as 16-bit PNG, or a CT as NIfTI, by the file's ending."""
    if path.lower().endswith(".png"):
        pixels = np.asarray(data, np.float32)
        if pixels.ndim != 2 or attributes.get("rgb"):
            raise ChexanatomyError("Only a 2D grey image is saved as a radiograph; save a CT as NIfTI (.nii.gz).")
        if pixels.size and (pixels.min() < 0 or pixels.max() > 1):
            raise ChexanatomyError("A radiograph's values go from 0 to 1; this layer has others: use napari's own writer.")
        write_radiograph_png(Radiograph(pixels), path)
        return [path]
    volume = np.asarray(data)
    core = _core(attributes)
    if core.ct is None or volume.dtype != np.int16:
        raise ChexanatomyError("Only a CT that was opened as one is saved as NIfTI; open it through CheXanatomy first.")
    spacing, origin = _place(attributes)
    write_ct_nifti(CT(volume, spacing, origin), path)
    return [path]


def _core(attributes: dict[str, Any]) -> Core:
    core = attributes.get("metadata", {}).get(KEY)
    return core if isinstance(core, Core) else Core()


def _place(attributes: dict[str, Any]) -> tuple[Triple, Triple]:
    """Spacing and origin (x, y, z) [mm] from a layer's scale and translate [z, y, x]."""
    z, y, x = (float(v) for v in attributes.get("scale", (1, 1, 1)))
    oz, oy, ox = (float(v) for v in attributes.get("translate", (0, 0, 0)))
    return (x, y, z), (ox, oy, oz)
