"""What the Radiograph widget asks of `training.drr`: a picture for an order, worked out off the GUI thread, repeating nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from napari_chexanatomy.overlay import Patch, Style, compose, patches
from training.anatomy import DERIVED, resolve
from training.drr import Exposure, Geometry, Physics, Presentation, expose, present, project_labels, tissue_paths
from training.errors import Cancelled
from training.images.types import CT, LabelMap, Radiograph

PREVIEW_PIXELS = 192
"""Longer edge of the detector while a slider is dragged."""
PREVIEW_VOXEL = 3.6
"""Voxels are merged to at most this edge while a slider is dragged [mm]."""

Volume = TypeVar("Volume", CT, LabelMap)


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
    physics: Physics = field(default_factory=Physics)
    presentation: Presentation = field(default_factory=Presentation)


@dataclass(frozen=True)
class Picture:
    """What came of an order: the radiograph, masks of the ticked structures (bool, full quality only), the overlay.

    A preview's radiograph and overlay have fewer pixels on the same field of view.
    """

    order: Order
    radiograph: Radiograph
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    overlay: np.ndarray | None = None
    exposure: Exposure | None = None


def makeable(labels: LabelMap | None) -> list[str]:
    """Every structure that `project_labels` can make from the label map, lung fields included."""
    if labels is None:
        return []
    found = list(resolve(labels.structures))
    return found + [field for field in sorted(DERIVED) if field.replace("_field", "") in found]


def fits(labels: LabelMap | None, ct: CT) -> bool:
    """True for a label map on the CT's own grid."""
    return (
        labels is not None and labels.shape == ct.shape
        and np.allclose(labels.origin, ct.origin, atol=1e-3) and np.allclose(labels.spacing, ct.spacing, atol=1e-5)
    )  # fmt: skip


def exposure_settings(order: Order) -> dict[str, Any]:
    """Beam, dose and look as plain values, ready for JSON."""
    return {"physics": asdict(order.physics), "presentation": asdict(order.presentation)}


class Kept:
    """The last result of one step: made again only when something it follows from has changed."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._causes: tuple[Any, ...] | None = None
        self._result: Any = None

    def of(self, make: Callable[[], Any], *causes: Any) -> Any:
        """The result for these causes (settings are compared by value, volumes and arrays by identity)."""
        if self._causes is None or not all(map(_same, self._causes, causes)):
            self._result = make()
            self._causes = causes
        return self._result


def _same(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, Geometry | Physics | Presentation) and one == other)


class PictureTaker:
    """Takes pictures one after another; used by one thread. It repeats no step whose causes stayed: a tick only repaints."""

    def __init__(self) -> None:
        """Start with nothing kept."""
        self._steps: dict[tuple[str, bool], Kept] = {}

    def take(self, order: Order, outdated: Callable[[], bool] = lambda: False) -> Picture:
        """Carry out an order at full quality. Raises ImpossibleGeometry, and Cancelled when something newer is wanted."""
        return self._take(order, order.geometry, outdated)

    def take_coarse(self, order: Order) -> Picture:
        """Carry out an order whose volumes are thinned out already, on a small detector. Raises ImpossibleGeometry."""
        return self._take(order, preview_pose(order.geometry), lambda: False)

    def _take(self, order: Order, pose: Geometry, outdated: Callable[[], bool]) -> Picture:
        ct, labels = order.ct, order.labels

        def go_on() -> None:
            if outdated():
                raise Cancelled("A newer picture is wanted.")

        paths = self._kept("paths", order).of(lambda: tissue_paths(ct, pose), ct, pose)
        go_on()
        exposure = self._kept("exposure", order).of(lambda: expose(paths, pose, order.physics), paths, order.physics)
        pixels = self._kept("pixels", order).of(
            lambda: present(exposure.attenuation, pose.spacing, order.presentation), exposure, order.presentation
        )
        go_on()
        masks, overlay = self._take_masks(labels, pose, order)
        view = pose.view_name
        name = f"{order.ct.name} {view}"
        radiograph = Radiograph(pixels, pose.spacing, "" if view == "OBLIQUE" else view, name, reconstructed=True)
        return Picture(order, radiograph, masks if order.full else {}, overlay, exposure)

    def _take_masks(
        self, labels: LabelMap | None, pose: Geometry, order: Order
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        if labels is None or not order.structures:
            return {}, None
        nothing: tuple[dict[str, np.ndarray], dict[str, Patch]] = ({}, {})
        masks, cuts = self._kept("masks", order).of(lambda: nothing, labels, pose)
        missing = [structure for structure in order.structures if structure not in masks]
        if missing:
            new = project_labels(labels, pose, missing)
            masks.update(new)
            cuts.update({patch.structure: patch for patch in patches(new)})
        wanted = [cuts[structure] for structure in order.structures if structure in cuts]
        wanted.sort(key=lambda patch: -patch.crop.size)
        painted = compose((pose.rows, pose.columns), wanted, order.style, order.highlight)
        return {structure: masks[structure] for structure in order.structures}, painted

    def _kept(self, step: str, order: Order) -> Kept:
        return self._steps.setdefault((step, order.full), Kept())


def thin_out(volume: Volume) -> Volume:
    """The same volume in voxels of at most PREVIEW_VOXEL: HU are averaged; of labels every n-th voxel stays in its place."""
    steps = [max(1, int(PREVIEW_VOXEL / edge)) for edge in volume.spacing]
    x, y, z = (edge * step for edge, step in zip(volume.spacing, steps, strict=True))
    middle = [(step - 1) / 2 if isinstance(volume, CT) else (step - 1) // 2 for step in steps]
    ox, oy, oz = (start + m * edge for start, m, edge in zip(volume.origin, middle, volume.spacing, strict=True))
    grid: dict[str, Any] = {"spacing": (x, y, z), "origin": (ox, oy, oz)}
    if isinstance(volume, CT):
        return replace(volume, hu=_averaged(volume.hu, steps[::-1]), **grid)  # type: ignore[call-arg]
    every = tuple(slice((step - 1) // 2, None, step) for step in reversed(steps))
    return replace(volume, ids=np.ascontiguousarray(volume.ids[every]), **grid)


def _averaged(hu: np.ndarray, steps: list[int]) -> np.ndarray:
    """Means of blocks of steps (z, y, x) voxels, slab by slab so that no copy of the whole volume is made; a rest is left out."""
    z, y, x = (max(1, n // step) for n, step in zip(hu.shape, steps, strict=True))
    dz, dy, dx = (min(step, n) for n, step in zip(hu.shape, steps, strict=True))
    coarse = np.empty((z, y, x), np.int16)
    for slab in range(z):
        block = hu[slab * dz : (slab + 1) * dz, : y * dy, : x * dx]
        coarse[slab] = block.reshape(dz, y, dy, x, dx).mean(axis=(0, 2, 4), dtype=np.float32).round()
    return coarse


def preview_pose(geometry: Geometry) -> Geometry:
    """The same field of view on a detector small enough to follow a slider."""
    longest = max(geometry.rows, geometry.columns)
    if longest <= PREVIEW_PIXELS:
        return geometry
    shrink = PREVIEW_PIXELS / longest
    return geometry.resized(max(2, round(geometry.rows * shrink)), max(2, round(geometry.columns * shrink)))
