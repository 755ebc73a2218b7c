"""Sample data for File > Open Sample > CheXanatomy."""

from __future__ import annotations

from dataclasses import replace

from napari_chexanatomy.jobs import Work, wait_with_window_alive
from napari_chexanatomy.layers import LayerData, from_ct, from_labels
from training.images.types import CT, LabelMap
from training.progress import Progress, ProgressCallback

PHANTOM_SPACING = 3.0
"""Voxel edge of the sample thorax [mm]."""


def lidc() -> list[LayerData]:
    """A real chest CT with 89 labelled structures: fetched once with pip, then kept in the user's cache."""
    return _layers("Sample CT", load_lidc)


def phantom() -> list[LayerData]:
    """A procedural thorax with all structures; it needs no network."""
    return _layers("Sample thorax", load_phantom)


def load_lidc(progress: ProgressCallback) -> tuple[CT, LabelMap]:
    """The sample CT and its labels. Raises ChexanatomyError when it can be had neither from the cache nor from the network."""
    from training.images import read_ct, read_labels
    from training.samples import fetch_lidc

    folder = fetch_lidc(progress)
    progress(Progress(0, 0, "reading the sample CT"))
    ct = replace(read_ct(folder / "ct.nii.gz"), name="LIDC-IDRI-0001")
    return ct, read_labels(folder / "labels.nii.gz", ct, folder / "label_names.csv")


def load_phantom(progress: ProgressCallback) -> tuple[CT, LabelMap]:
    """The sample thorax and its labels."""
    from training.phantom import thorax

    progress(Progress(0, 0, "building the thorax"))
    return thorax(seed=0, spacing=PHANTOM_SPACING)


def _layers(title: str, work: Work) -> list[LayerData]:
    """Layers for napari. Raises ChexanatomyError: napari shows its sentence, and would complain itself about an empty list."""
    ct, labels = wait_with_window_alive(title, work)
    return [from_ct(ct), from_labels(labels)]
