"""What napari asks when a file or folder is opened or dropped onto it: CTs, label maps, radiographs and masks become layers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import ChexanatomyError
from training.images.mask_sets import MaskSet
from training.images.paths import VOLUME_SUFFIXES, is_volume_name, kind, stem
from training.images.types import CT, LabelMap, Radiograph
from training.plain import inert

LayerData = tuple[Any, dict[str, Any], str]
Reader = Callable[[Any], list[Any]]

ENDINGS = (*VOLUME_SUFFIXES, ".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""File name endings that are claimed; folders are claimed when DICOM files or volumes lie in them."""

NOTHING: list[Any] = [(None,)]
"""What napari takes for "was read, and adds no layer"."""

SAME_SELECTION = 3.0
"""Slices of one series that are opened one after another within this time [s] were selected together."""

_MOST_LOOKED_AT = 200
_just_opened: dict[tuple[Path, str], float] = {}


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return the reader for a path, or for the paths of a stack; None when nothing there is ours."""
    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    return read_layers if paths and all(_is_ours(Path(one)) for one in paths) else None


def read_layers(path: str | Sequence[str]) -> list[Any]:
    """Read a path (or the paths of a stack) into layers.

    In a window, a file that cannot be read gives its sentence as a notification and no layer; without one it raises
    ChexanatomyError.
    """
    import napari

    paths = [path] if isinstance(path, (str, os.PathLike)) else list(path)
    viewer = napari.current_viewer()
    cts = _open_cts(viewer)
    layers: list[LayerData] = []
    for one in dict.fromkeys(_whole(Path(p)) for p in paths):
        if one in _just_opened and time.monotonic() - _just_opened[one] < SAME_SELECTION:
            _just_opened[one] = time.monotonic()
            continue
        try:
            opened = _read(one, cts)
        except ChexanatomyError as error:
            if viewer is None:
                raise
            from napari.utils.notifications import show_error

            show_error(inert(str(error)))
            continue
        finally:
            if one[1]:
                _just_opened.clear()
                _just_opened[one] = time.monotonic()
        cts = (*cts, *(found for found in opened if isinstance(found, CT)))
        layers.extend(_layer(found, one[0]) for found in opened if not isinstance(found, MaskSet) or found.masks)
        _tell(viewer, opened)
    return layers or NOTHING


def _is_ours(path: Path) -> bool:
    if path.is_dir():
        return _holds_volumes(path)
    if path.name.lower().endswith(".json"):
        from training.images.coco import holds_masks

        return holds_masks(path)
    return path.name.lower().endswith(ENDINGS)


def _holds_volumes(folder: Path) -> bool:
    """True when DICOM files or volumes lie in a folder or below it, by a look at the first files only."""
    looked_at = 0
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here, name)
            looked_at += 1
            if looked_at > _MOST_LOOKED_AT:
                return False
            if path.is_file() and os.access(path, os.R_OK) and (is_volume_name(path) or kind(path) == "dicom"):
                return True
    return False


def _whole(path: Path) -> tuple[Path, str]:
    """Return a path with no series; for one slice of a CT its folder and the series it belongs to."""
    from training.images.any_file import series_of

    return series_of(path) or (path, "")


def _read(source: tuple[Path, str], cts: Sequence[CT]) -> list[Any]:
    from napari_chexanatomy.jobs import wait_with_window_alive
    from training.images import read_any, read_ct

    path, series = source

    def work(_progress: Any) -> list[Any]:
        return [read_ct(path, series)] if series else read_any(path, cts)

    opened: list[Any] = wait_with_window_alive(f"Opening {path.name}", work)
    return opened


def _open_cts(viewer: Any) -> tuple[CT, ...]:
    """CTs in the viewer, the one added last first."""
    from napari_chexanatomy.layers import core_of

    if viewer is None:
        return ()
    return tuple(core.ct for core in (core_of(layer) for layer in reversed(viewer.layers)) if core.ct is not None)


def _layer(opened: CT | LabelMap | Radiograph | MaskSet | np.ndarray, path: Path) -> LayerData:
    from napari_chexanatomy import layers

    match opened:
        case CT():
            return layers.from_ct(opened)
        case LabelMap():
            return layers.from_labels(opened)
        case Radiograph():
            return layers.from_radiograph(opened)
        case MaskSet():
            return layers.from_masks(opened.masks, stem(Path(opened.image)) if opened.image else stem(path))
        case _:
            return opened.astype(np.uint8), {"name": stem(path), **layers.plane(None)}, "labels"


def _tell(viewer: Any, opened: Sequence[Any]) -> None:
    """Say what reading changed."""
    notes = [f"{getattr(one, 'name', 'masks')}: {note}" for one in opened for note in getattr(one, "notes", ())]
    if viewer is not None and notes:
        from napari.utils.notifications import show_info

        show_info("\n".join(map(inert, notes)))
