"""Sample data for File > Open Sample > CheXanatomy."""

from __future__ import annotations

from dataclasses import replace

from napari_chexanatomy.jobs import Work, wait_with_window_alive
from napari_chexanatomy.layers import LayerData, from_ct, from_labels
from training.errors import ChexanatomyError
from training.images.types import CT, LabelMap
from training.progress import Progress, ProgressCallback

PHANTOM_SPACING = 3.0
"""Voxel edge of the sample thorax [mm]."""


def lidc() -> list[LayerData]:
    """A real chest CT with 89 labelled structures: fetched once with pip, then kept in the user's cache."""

    def load(progress: ProgressCallback) -> tuple[CT, LabelMap]:
        from training.images import read_ct, read_labels
        from training.samples import fetch_lidc

        folder = fetch_lidc(progress)
        progress(Progress(0, 0, "reading the sample CT"))
        ct = replace(read_ct(folder / "ct.nii.gz"), name="LIDC-IDRI-0001")
        return ct, read_labels(folder / "labels.nii.gz", ct, folder / "label_names.csv")

    return _layers("Sample CT", load)


def phantom() -> list[LayerData]:
    """A procedural thorax with all structures; it needs no network."""

    def make(progress: ProgressCallback) -> tuple[CT, LabelMap]:
        from training.phantom import thorax

        progress(Progress(0, 0, "building the thorax"))
        return thorax(seed=0, spacing=PHANTOM_SPACING)

    return _layers("Sample thorax", make)


def _layers(title: str, work: Work) -> list[LayerData]:
    from napari.utils.notifications import show_error

    try:
        ct, labels = wait_with_window_alive(title, work)
    except ChexanatomyError as error:
        show_error(str(error))
        return []
    return [from_ct(ct), from_labels(labels)]
