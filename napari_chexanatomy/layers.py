"""Core objects <-> napari layers: a layer made here carries its core object in `layer.metadata["chexanatomy"]`."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from training.errors import ChexanatomyError
from training.images.types import CT, LabelMap, Radiograph

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from training.drr import Geometry

LayerData = tuple[Any, dict[str, Any], str]
"""What a napari reader returns for one layer: data, keyword arguments, layer type."""

KEY = "chexanatomy"
GEOMETRY_KEY = "geometry"
"""Where a radiograph's layer carries the values of geometry.json, for scripts and other plugins."""
VOLUME_AXES = ("z", "y", "x")
IMAGE_AXES = ("row", "column")
SOFT_WINDOW = (-1000.0, 1000.0)
"""Contrast limits that show lung, soft tissue and bone at once [HU]."""


@dataclass(frozen=True)
class Core:
    """The core object behind a layer.

    masks: bool [row, column] per structure; members: which structures a mask layer's ids stand for, under 0 those that are known
    not to be there; role: marks what we draw ourselves; source, source_labels: CT and label map that a radiograph was taken from,
    which it does not keep alive.
    """

    ct: CT | None = None
    labels: LabelMap | None = None
    radiograph: Radiograph | None = None
    geometry: Geometry | None = None
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    members: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    role: str = ""
    source: weakref.ref[CT] | None = None
    source_labels: weakref.ref[LabelMap] | None = None

    def sources(self) -> tuple[CT | None, LabelMap | None]:
        """CT and label map that the radiograph was taken from; None for one that there was not, or that was closed since."""
        return (
            self.source() if self.source is not None else None,
            self.source_labels() if self.source_labels is not None else None,
        )

    def radiograph_with(self, pixels: np.ndarray, spacing: tuple[float, float] | None, name: str = "radiograph") -> Radiograph:
        """The radiograph that a layer with other pixels shows now: view and origin are those of the one it was made from."""
        if self.radiograph is None:
            return Radiograph(pixels, spacing, name=name)
        return replace(self.radiograph, pixels=pixels, spacing=spacing, name=name, notes=())


def core_of(layer: Layer | None) -> Core:
    """The core object of a layer; an empty one for a layer that we did not make."""
    core = layer.metadata.get(KEY) if layer is not None else None
    return core if isinstance(core, Core) else Core()


def from_ct(ct: CT) -> LayerData:
    """Image layer of a CT: axes (z, y, x), millimetres in LPS."""
    return (
        ct.hu,
        {**_volume(ct, ct.name), "colormap": "gray", "contrast_limits": SOFT_WINDOW, "metadata": {KEY: Core(ct=ct)}},
        "image",
    )


def from_labels(labels: LabelMap) -> LayerData:
    """Labels layer of a label map on its CT's grid, in the vocabulary's colours, with the structure under the pointer named."""
    keywords = {
        **_volume(labels, labels.name),
        "opacity": 0.45,
        "colormap": label_colormap({number: names[0] for number, names in labels.members.items() if names}),
        "features": _names_by_id(labels.members),
        "metadata": {KEY: Core(labels=labels)},
    }
    return labels.ids, keywords, "labels"


def from_radiograph(
    radiograph: Radiograph, geometry: Geometry | None = None, masks: Mapping[str, np.ndarray] | None = None
) -> LayerData:
    """Image layer of a radiograph: axes (row, column), millimetres at the detector where known, otherwise pixels."""
    keywords = {
        "name": radiograph.name,
        "colormap": "gray",
        "contrast_limits": (0.0, 1.0),
        "interpolation2d": "linear",
        "metadata": {
            KEY: Core(radiograph=radiograph, geometry=geometry, masks=masks or {}),
            **({GEOMETRY_KEY: geometry.to_dict()} if geometry is not None else {}),
        },
        **plane(radiograph.spacing),
    }
    return radiograph.pixels, keywords, "image"


def from_masks(masks: Mapping[str, np.ndarray], name: str) -> LayerData:
    """Labels layer of overlapping masks (bool [row, column] by structure): every combination that comes up has an id of its own.

    The structure under the pointer is named, and the layer can be saved with all its masks.
    """
    stack = np.stack([mask.ravel() for mask in masks.values()])
    combinations, ids = np.unique(np.packbits(stack, axis=0), axis=1, return_inverse=True)
    bits = np.unpackbits(combinations, axis=0, count=len(masks)).astype(bool)
    names = list(masks)
    order = np.argsort(bits.sum(axis=0), kind="stable")
    empty = not bits[:, order[0]].any()
    new = np.zeros(len(order), np.int64)
    new[order] = np.arange(len(order)) + (0 if empty else 1)
    members = {
        int(new[i]): tuple(n for n, held in zip(names, bits[:, i], strict=True) if held) for i in order if bits[:, i].any()
    }
    data = new[ids.reshape(-1)].reshape(next(iter(masks.values())).shape).astype(np.int32)
    keywords = {
        **plane(None),
        "name": name,
        "opacity": 0.45,
        "colormap": label_colormap({number: held[0] for number, held in members.items()}),
        "features": _names_by_id(members),
        "metadata": {KEY: Core(members={**members, 0: tuple(n for n in names if not masks[n].any())})},
    }
    return data, keywords, "labels"


def masks_in(layer_data: np.ndarray, core: Core, name: str) -> dict[str, np.ndarray]:
    """Bool [row, column] by structure of a 2D mask layer's ids; an id that stands for nothing known is NAME or NAME_id."""
    from training.anatomy import find
    from training.errors import UnknownStructure

    masks = {structure: np.zeros(layer_data.shape, bool) for structure in core.members.get(0, ())}
    drawn = [int(i) for i in np.unique(layer_data) if i]
    unknown = [i for i in drawn if i not in core.members]
    try:
        own = find(name).key
    except UnknownStructure:
        own = name
    for i in drawn:
        for structure in core.members.get(i, (own if len(unknown) == 1 else f"{own}_{i}",)):
            masks[structure] = masks.get(structure, False) | (layer_data == i)
    return masks


def plane(spacing: tuple[float, float] | None) -> dict[str, Any]:
    """Scale, units and axis names of a layer on a radiograph's pixel grid (spacing: (row, column) [mm])."""
    return {"scale": spacing or (1.0, 1.0), "units": ("mm", "mm") if spacing else ("pixel", "pixel"), "axis_labels": IMAGE_AXES}


def plane_of(layer: Layer) -> dict[str, Any]:
    """Scale, units, axis names and place of a 2D layer, for another layer to lie exactly on it."""
    return {
        "scale": tuple(layer.scale),
        "translate": tuple(layer.translate),
        "units": tuple(str(unit) for unit in layer.units),
        "axis_labels": tuple(layer.axis_labels),
    }


def place(layer: Layer, base: Layer) -> None:
    """Put a 2D layer exactly on another; napari redraws for each value that is set, so only what differs is."""
    for name in ("scale", "translate"):
        wanted = getattr(base, name)
        if not np.array_equal(getattr(layer, name), wanted):
            setattr(layer, name, tuple(wanted))
    if tuple(layer.units) != tuple(base.units):
        layer.units = base.units


def regrid(layer: Layer, scale: tuple[float, float]) -> None:
    """Give a 2D layer pixels of another size; its upper left corner stays where it is."""
    old = np.asarray(layer.scale, float)
    new = np.asarray(scale, float)
    if not np.array_equal(old, new):
        layer.scale = tuple(new)
        layer.translate = tuple(np.round(np.asarray(layer.translate) + (new - old) / 2, 9))


class LivePixels:
    """Shows quickly changing pictures in one image layer.

    A preview is written into the array that the layer already shows: napari then neither measures its layers again nor paints
    thumbnails, which costs it several times more than the picture itself.
    """

    def __init__(self) -> None:
        """Nothing shown yet."""
        self._buffer: np.ndarray | None = None

    def show(self, layer: Layer, pixels: np.ndarray, scale: tuple[float, float], live: bool) -> None:
        """Show pixels ([row, column] or RGBA) of a scale [mm]; live: more will follow at once."""
        buffer = self._buffer
        if live and buffer is not None and layer.data is buffer and buffer.shape == pixels.shape:
            regrid(layer, scale)
            np.copyto(buffer, pixels)
            with layer.events.blocker():  # the canvas hears of it, the layer list does not
                layer.refresh(thumbnail=False, highlight=False, extent=False)
            return
        self._buffer = pixels.copy() if live else None
        layer.data = pixels if self._buffer is None else self._buffer
        regrid(layer, scale)


def is_ct(layer: Layer) -> bool:
    """True for a CT that was opened through this plugin, so that its orientation is known."""
    return core_of(layer).ct is not None


def is_labels(layer: Layer) -> bool:
    """True for a label map that was opened through this plugin."""
    return core_of(layer).labels is not None


def is_radiograph(layer: Layer) -> bool:
    """True for a 2D image layer that can be read as a radiograph; composite overlays are not."""
    return type(layer).__name__ == "Image" and core_of(layer).role != "overlay" and layer.ndim == 2


def is_drawing(layer: Layer) -> bool:
    """True for a 2D Labels layer, whoever made it."""
    return type(layer).__name__ == "Labels" and layer.ndim == 2


def radiograph_of(layer: Layer | None) -> Radiograph:
    """The radiograph that a layer shows. A 2D layer of another origin is converted: colour to grey, values to 0..1.

    Raises ChexanatomyError when there is no layer or it is not a 2D image.
    """
    if layer is None:
        raise ChexanatomyError(
            "There is no radiograph yet: open one with File > Open, or take one from a CT with the Radiograph widget."
        )
    core = core_of(layer)
    if core.radiograph is not None and layer.data is core.radiograph.pixels:
        return core.radiograph
    if not is_radiograph(layer):
        raise ChexanatomyError(f"“{layer.name}” is not a 2D image: choose a radiograph layer.")
    pixels = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    if layer.rgb:
        pixels = pixels[..., :3] @ np.array([0.299, 0.587, 0.114])
    pixels = pixels.astype(np.float32)
    finite = np.isfinite(pixels)
    if min(pixels.shape) < 2 or not finite.any():
        raise ChexanatomyError(f"“{layer.name}” holds no picture: choose another radiograph layer.")
    low, high = float(pixels[finite].min()), float(pixels[finite].max())
    if core.radiograph is None or low < 0 or high > 1:
        pixels = (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)
    known = all(str(unit) in ("millimeter", "mm") for unit in layer.units)
    spacing = (float(layer.scale[0]), float(layer.scale[1])) if known else None
    return core.radiograph_with(np.nan_to_num(pixels).astype(np.float32), spacing, layer.name)


def drawn_mask(layer: Layer, shape: tuple[int, int]) -> np.ndarray:
    """Bool [row, column] of everything drawn in a Labels or Shapes layer that lies on a picture of the given (rows, columns)."""
    kind = type(layer).__name__
    if kind == "Labels" and layer.ndim == 2:
        mask = np.asarray(layer.data) > 0
        if mask.shape != shape:
            raise ChexanatomyError(
                f"“{layer.name}” is {mask.shape[0]} x {mask.shape[1]} pixels and the radiograph {shape[0]} x {shape[1]}: "
                "draw in a layer that belongs to this radiograph."
            )
        return mask
    if kind == "Shapes" and layer.ndim == 2:
        return np.asarray(layer.to_labels(shape)) > 0
    raise ChexanatomyError(f"“{layer.name}” is no drawing: choose a Labels or Shapes layer.")


def look_at(viewer: ViewerModel, layer: Layer) -> None:
    """Fit one 2D layer to the canvas; `viewer.reset_view(layers=...)` cannot when the viewer holds volumes as well."""
    viewer.dims.ndisplay = 2
    if viewer.dims.ndim == layer.ndim:
        viewer.reset_view(layers=[layer])
        return
    viewer.reset_view()
    low, high = (corner[-2:] for corner in viewer.layers.extent.world)
    mine_low, mine_high = layer.extent.world
    viewer.scene.camera.zoom *= float(((high - low) / (mine_high - mine_low)).min())
    viewer.scene.camera.center = tuple((mine_low + mine_high) / 2)


def keep_in_sight(viewer: ViewerModel, larger: np.ndarray) -> None:
    """Leave the same part of a picture on the canvas whose pixels became so many times larger (row, column)."""
    camera = viewer.scene.camera
    camera.zoom /= float(larger.max())
    camera.center = (*camera.center[:-2], *(np.array(camera.center[-2:]) * larger))


def _volume(volume: CT | LabelMap, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "scale": volume.spacing[::-1],
        "translate": volume.origin[::-1],
        "units": ("mm", "mm", "mm"),
        "axis_labels": VOLUME_AXES,
    }


def label_colormap(structures: Mapping[int, str]) -> Any:
    """Colours of a Labels layer by id: cyclic, because napari compiles for seconds before it shows its first direct one."""
    from napari.utils.colormaps import CyclicLabelColormap

    from napari_chexanatomy.structure_colours import colour_of

    colours = np.full((max(structures, default=1) + 1, 4), (0.6, 0.6, 0.6, 1.0), np.float32)
    colours[0] = 0
    for number, structure in structures.items():
        if number:
            colours[number, :3] = np.array(colour_of(structure)) / 255
    return CyclicLabelColormap(colors=colours)


def _names_by_id(members: Mapping[int, tuple[str, ...]]) -> Any:
    import pandas as pd

    from napari_chexanatomy.structure_colours import display_name

    top = max(members, default=0)
    names = [", ".join(display_name(s) for s in members.get(i, ())) or "nothing" for i in range(top + 1)]
    return pd.DataFrame({"index": range(top + 1), "structure": names})
