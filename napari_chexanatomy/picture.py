"""What the Radiograph widget asks of `training.drr`: a picture for an order, worked out off the GUI thread, repeating nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from napari_chexanatomy.overlay import Patch, Style, compose, patches
from training.anatomy import DERIVED, resolve
from training.drr import Geometry, project_labels, render
from training.images.types import CT, LabelMap, Radiograph

PREVIEW_PIXELS = 224
"""Longer edge of the detector while a slider is dragged."""
PREVIEW_VOXEL = 1.6
"""Voxels are thinned out to about this edge while a slider is dragged [mm]."""

Volume = TypeVar("Volume", CT, LabelMap, LabelMap | None)


@dataclass(frozen=True)
class Order:
    """What the controls ask for. `full` is the chosen detector, otherwise a quick preview on the same field of view."""

    ct: CT
    labels: LabelMap | None
    geometry: Geometry
    structures: tuple[str, ...]
    style: Style
    highlight: str | None
    full: bool


@dataclass(frozen=True)
class Picture:
    """What came of an order: the radiograph, masks of the ticked structures (bool, full quality only), the overlay."""

    order: Order
    radiograph: Radiograph
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    overlay: np.ndarray | None = None
    seconds: float = 0.0


def makeable(labels: LabelMap | None) -> list[str]:
    """Every structure that `project_labels` can make from the label map, lung fields included."""
    if labels is None:
        return []
    found = list(resolve(labels.structures))
    return found + [field for field in sorted(DERIVED) if field.replace("_field", "") in found]


class PictureTaker:
    """Takes pictures one after another; used by one thread. It keeps the last radiograph and masks, so a tick only repaints."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._radiograph: tuple[CT, Geometry, Radiograph] | None = None
        self._masks: tuple[LabelMap, Geometry, dict[str, np.ndarray], dict[str, Patch]] | None = None
        self._coarse: dict[int, tuple[CT | LabelMap, CT | LabelMap]] = {}

    def take(self, order: Order) -> Picture:
        """Carry out an order. Raises ImpossibleGeometry, and then the last picture stands."""
        started = time.perf_counter()
        if order.full:
            pose, ct, labels = order.geometry, order.ct, order.labels
        else:
            pose, ct, labels = preview_pose(order.geometry), self._thinned(order.ct), self._thinned(order.labels)
        radiograph = self._take_radiograph(ct, pose)
        masks, overlay = self._take_masks(labels, pose, order)
        if not order.full:
            radiograph = replace(radiograph, pixels=_enlarge(radiograph.pixels, order.geometry), spacing=order.geometry.spacing)
            overlay = _enlarge(overlay, order.geometry) if overlay is not None else None
            masks = {}
        return Picture(order, radiograph, masks, overlay, time.perf_counter() - started)

    def _take_radiograph(self, ct: CT, pose: Geometry) -> Radiograph:
        if self._radiograph is None or self._radiograph[0] is not ct or self._radiograph[1] != pose:
            self._radiograph = (ct, pose, render(ct, pose))
        return self._radiograph[2]

    def _take_masks(
        self, labels: LabelMap | None, pose: Geometry, order: Order
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        if labels is None or not order.structures:
            return {}, None
        if self._masks is None or self._masks[0] is not labels or self._masks[1] != pose:
            self._masks = (labels, pose, {}, {})
        _, _, masks, cuts = self._masks
        missing = [structure for structure in order.structures if structure not in masks]
        if missing:
            new = project_labels(labels, pose, missing)
            masks.update(new)
            cuts.update({patch.structure: patch for patch in patches(new)})
        wanted = [cuts[structure] for structure in order.structures if structure in cuts]
        wanted.sort(key=lambda patch: -patch.crop.size)
        painted = compose((pose.rows, pose.columns), wanted, order.style, order.highlight)
        return {structure: masks[structure] for structure in order.structures}, painted

    def _thinned(self, volume: Volume) -> Volume:
        """The volume with fewer voxels for previews, made once per volume."""
        if volume is None:
            return volume
        kept = self._coarse.get(id(volume))
        if kept is None or kept[0] is not volume:
            kept = (volume, thin_out(volume))
            self._coarse = {key: pair for key, pair in self._coarse.items() if type(pair[0]) is not type(volume)}
            self._coarse[id(volume)] = kept
        return kept[1]  # type: ignore[return-value]


def thin_out(volume: CT | LabelMap) -> CT | LabelMap:
    """Every n-th voxel along each axis, so that an edge is at most about PREVIEW_VOXEL; voxels that stay keep their places."""
    steps = [max(1, int(PREVIEW_VOXEL / edge)) for edge in volume.spacing]
    cut = tuple(slice(None, None, step) for step in reversed(steps))
    x, y, z = (edge * step for edge, step in zip(volume.spacing, steps, strict=True))
    if isinstance(volume, CT):
        return replace(volume, hu=np.ascontiguousarray(volume.hu[cut]), spacing=(x, y, z))
    return replace(volume, ids=np.ascontiguousarray(volume.ids[cut]), spacing=(x, y, z))


def preview_pose(geometry: Geometry) -> Geometry:
    """The same field of view on a detector small enough to follow a slider."""
    longest = max(geometry.rows, geometry.columns)
    if longest <= PREVIEW_PIXELS:
        return geometry
    shrink = PREVIEW_PIXELS / longest
    return geometry.resized(max(2, round(geometry.rows * shrink)), max(2, round(geometry.columns * shrink)))


def _enlarge(picture: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Repeat pixels so that a preview covers the pixel grid of the full picture; the layer then never changes its shape."""
    rows = np.minimum(np.arange(geometry.rows) * picture.shape[0] // geometry.rows, picture.shape[0] - 1)
    columns = np.minimum(np.arange(geometry.columns) * picture.shape[1] // geometry.columns, picture.shape[1] - 1)
    return np.ascontiguousarray(picture[rows][:, columns])
