"""What napari asks when layers are saved: masks as PNG, COCO, DICOM SEG; radiographs as PNG, DICOM; volumes as NIfTI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_chexanatomy.layers import KEY, Core, masks_in
from training.errors import ChexanatomyError
from training.filenames import file_stem
from training.images import write_ct_nifti, write_labels_nifti, write_mask_png, write_radiograph
from training.images.types import CT, LabelMap, Triple

FullLayerData = tuple[Any, dict[str, Any], str]
"""What napari hands a writer of several layers for each: data, attributes, layer type."""


def write_mask(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a 2D Labels layer as PNG of 0 and 255; several labels give one file each (NAME_1.png, NAME_2.png ...).

    A layer of opened masks gives one file for each structure, whole where it overlaps others and empty where it is absent.
    """
    labels = np.asarray(data)
    if labels.ndim != 2:
        raise ChexanatomyError(f"The layer has {labels.ndim} dimensions; a mask picture has two: save it as NIfTI (.nii.gz).")
    target, core = Path(path), _core(attributes)
    known = masks_in(labels, core, str(attributes.get("name", "mask"))) if core.members else {}
    masks = known or {str(i): labels == i for i in np.unique(labels) if i}
    if len(masks) <= 1:
        write_mask_png(labels > 0, target, next(iter(known), ""))
        return [str(target)]
    targets = [target.with_name(f"{target.stem}_{file_stem(name)}{target.suffix}") for name in masks]
    for (name, mask), one in zip(masks.items(), targets, strict=True):
        write_mask_png(mask, one, name if name in known else "")
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
        spacing, core = _pitch(attributes), _core(attributes)
        sidecar = write_radiograph(core.radiograph_with(pixels, spacing), path, core.geometry)
        return [path, str(sidecar)]
    volume = np.asarray(data)
    core = _core(attributes)
    if core.ct is None or volume.dtype != np.int16:
        raise ChexanatomyError("Only a CT that was opened as one is saved as NIfTI; open it through CheXanatomy first.")
    edges, origin = _place(attributes)
    write_ct_nifti(CT(volume, edges, origin), path)
    return [path]


def write_coco_masks(path: str, layer_data: Sequence[FullLayerData]) -> list[str]:
    """Write the masks of the selected layers (mask layers, drawings, overlays of predicted masks) as COCO JSON."""
    from training.images import MaskSet, write_coco

    masks = _masks(layer_data)
    image = next((name for name, _, attributes in _pictures(layer_data)), "")
    size = next(iter(masks.values())).shape
    write_coco([MaskSet(image, (size[0], size[1]), masks)], path)
    return [path]


def write_dicom(path: str, layer_data: Sequence[FullLayerData]) -> list[str]:
    """Write a radiograph as DICOM; with mask layers beside it the masks as DICOM SEG, and the radiograph as NAME_radiograph.dcm.

    Patient and study are made up.
    """
    from training.images import write_masks_dicom, write_radiograph_dicom

    pictures = _pictures(layer_data)
    if len(pictures) != 1:
        raise ChexanatomyError("DICOM holds one radiograph with its masks: select one radiograph and the masks that lie on it.")
    _, data, attributes = pictures[0]
    core = _core(attributes)
    pixels = np.asarray(data, np.float32)
    if pixels.ndim != 2 or attributes.get("rgb") or (pixels.size and (pixels.min() < 0 or pixels.max() > 1)):
        raise ChexanatomyError("Only a radiograph is saved as DICOM: a 2D grey image with values from 0 to 1.")
    radiograph = core.radiograph_with(pixels, _pitch(attributes))
    if len(layer_data) == 1:
        write_radiograph_dicom(radiograph, path, core.geometry)
        return [path]
    masks = _masks(layer_data)
    beside = Path(path).with_name(f"{Path(path).stem}_radiograph.dcm")
    image = write_radiograph_dicom(radiograph, beside, core.geometry)
    write_masks_dicom(masks, path, image)
    return [path, str(beside)]


def _pictures(layer_data: Sequence[FullLayerData]) -> list[tuple[str, Any, dict[str, Any]]]:
    """Name, data and attributes of the image layers that are no overlays."""
    return [
        (str(attributes.get("name", "")), data, attributes)
        for data, attributes, kind in layer_data
        if kind == "image" and _core(attributes).role != "overlay"
    ]


def _masks(layer_data: Sequence[FullLayerData]) -> dict[str, np.ndarray]:
    """Masks of all mask layers and overlays, by structure. Raises ChexanatomyError where there is none, or of two sizes."""
    masks: dict[str, np.ndarray] = {}
    for data, attributes, kind in layer_data:
        core = _core(attributes)
        found: Mapping[str, np.ndarray] = {}
        if kind == "labels":
            if np.ndim(data) != 2:
                raise ChexanatomyError("Masks on a radiograph have two dimensions; save a label map as NIfTI (.nii.gz).")
            found = masks_in(np.asarray(data), core, str(attributes.get("name", "mask")))
        elif core.role == "overlay":
            found = core.masks
        for structure, mask in found.items():
            if masks and mask.shape != next(iter(masks.values())).shape:
                raise ChexanatomyError("The selected masks are of two sizes: select layers that lie on one radiograph.")
            masks[structure] = masks[structure] | mask if structure in masks else np.asarray(mask, bool)
    if not masks:
        raise ChexanatomyError("There is no mask in the selected layers: select mask layers, or the overlay of predicted masks.")
    return masks


def _pitch(attributes: dict[str, Any]) -> tuple[float, float] | None:
    """Pixel pitch (row, column) [mm] of a 2D layer; None where its unit is no millimetre."""
    units = attributes.get("units") or ()
    known = len(units) == 2 and all(str(unit) in ("millimeter", "mm") for unit in units)
    scale = attributes.get("scale", (1, 1))
    return (float(scale[0]), float(scale[1])) if known else None


def _core(attributes: dict[str, Any]) -> Core:
    core = attributes.get("metadata", {}).get(KEY)
    return core if isinstance(core, Core) else Core()


def _place(attributes: dict[str, Any]) -> tuple[Triple, Triple]:
    """Spacing and origin (x, y, z) [mm] from a layer's scale and translate [z, y, x]."""
    z, y, x = (float(v) for v in attributes.get("scale", (1, 1, 1)))
    oz, oy, ox = (float(v) for v in attributes.get("translate", (0, 0, 0)))
    return (x, y, z), (ox, oy, oz)
