"""A CT from DICOM: the series is chosen, its slices are ordered along their normal and checked, then decoded."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import UnreadableFile
from training.images.dicom_headers import (
    Found,
    Slice,
    believable,
    dicom_errors,
    preference,
    quiet,
    read_dataset,
    read_header,
    scan,
)
from training.images.grid import Stored
from training.images.hounsfield import AIR, Hounsfield
from training.images.identity import header_of, shown_name
from training.images.paths import check_volume_size, stem
from training.images.unpacking import unpacked

FEWEST_SLICES = 5
"""Fewer slices are no volume to take a radiograph of."""

UNEVEN_WITHIN = 0.2
"""Slice positions may deviate from even spacing by this part of it: positions are often rounded to 0.1 mm."""

OFF_LINE_MM = 1.0
"""Slices whose centres lie further from one straight line than this do not form one volume."""


def read_dicom_ct(path: Path, series: str | None = None) -> tuple[Stored, Hounsfield, str]:
    """Read a folder's CT series, or a multi-frame file: stored values are int16 HU; and a name for it that tells no patient.

    Raises UnreadableFile with what is wrong.
    """
    found = scan(path)
    chosen, notes = _choose(found, path, series)
    slices, matrix, more = _ordered(chosen, path)
    values = Hounsfield()
    array = _decode(slices, values)
    if chosen.localizers:
        more = (*more, f"{chosen.localizers} localizer images of the series were left out.")
    if chosen.damaged:
        more = (*more, f"{len(chosen.damaged)} damaged DICOM files were left out, such as {chosen.damaged[0]}.")
    return Stored(array, matrix, notes=(*notes, *more)), values, shown_name(path, header_of(slices[0].path))


def _choose(found: list[Found], path: Path, series: str | None) -> tuple[Found, tuple[str, ...]]:
    name = stem(path)
    if path.is_file():
        one = found[0]
        if one.series.modality != "CT":
            raise _no_ct(name, found)
        if one.series.slices == 1:
            raise UnreadableFile(f"{path.name} is one slice of a CT; give the folder that holds all slices of its series.")
    ordered = sorted(found, key=preference)
    if series is not None:
        wanted = [one for one in ordered if series in (one.series.uid, one.series.description)]
        wanted = wanted or [one for one in ordered if one.series.description.casefold() == series.casefold()]
        if not wanted:
            raise UnreadableFile(f"{name} holds no series {series!r}; it holds {_names(ordered)}.")
        if wanted[0].series.modality != "CT":
            raise UnreadableFile(
                f"The series {series!r} of {name} is {wanted[0].series.modality or 'unnamed'}, not CT; choose a CT series."
            )
        return wanted[0], ()
    candidates = [one for one in ordered if one.series.modality == "CT"]
    if not any(one.series.slices for one in candidates):
        raise _no_ct(name, found)
    chosen = candidates[0]
    if len(found) == 1:
        return chosen, ()
    rule = "the CT with the most slices, thinner slices first"
    return chosen, (f"Of {len(found)} series in the folder this is {_label(chosen)}: {rule}. The others: {_names(ordered[1:])}.",)


def _label(one: Found) -> str:
    series = one.series
    of = f" of {series.thickness:g} mm" if series.thickness else ""
    return f"{series.description or series.uid!r} ({series.modality or 'no modality'}, {series.slices} slices{of})"


def _names(found: list[Found], most: int = 6) -> str:
    names = [_label(one) for one in found[:most]]
    return ", ".join(names) + (f" and {len(found) - most} more" if len(found) > most else "")


def _no_ct(name: str, found: list[Found]) -> UnreadableFile:
    modalities = Counter(one.series.modality or "unnamed" for one in found)
    what = ", ".join(sorted(modalities))
    if modalities.get("CT"):
        return UnreadableFile(
            f"{name} holds CT images, but none with a position in the patient (localizers or screenshots); give the CT's slices."
        )
    remedy = "open it as a radiograph" if set(modalities) & {"CR", "DX", "RG", "RF", "XA"} else "give the folder of a CT"
    return UnreadableFile(f"{name} holds no CT series (its modality is {what}); {remedy}.")


def _ordered(chosen: Found, path: Path) -> tuple[list[Slice], np.ndarray, tuple[str, ...]]:
    """Return the slices in order, LPS from index [mm], notes. Raises UnreadableFile where they form no even volume."""
    name, slices = stem(path), list(chosen.slices)
    if chosen.unplaced:
        raise UnreadableFile(
            f"CT images in {name} do not say where in the patient they lie, {len(chosen.unplaced)} of its files, such as "
            f"{chosen.unplaced[0]}: the volume would have holes; export the series again."
        )
    if len(slices) < FEWEST_SLICES:
        raise UnreadableFile(f"The CT series in {name} has {len(slices)} slices; at least {FEWEST_SLICES} are needed.")
    if not believable(slices[0].spacing):
        raise UnreadableFile(
            f"The CT series in {name} states a pixel spacing of {slices[0].spacing[0]:g} x {slices[0].spacing[1]:g} mm, which no "
            "scanner has; export it again."
        )
    _check_alike(slices, name)
    across, down = np.array(slices[0].orientation[:3]), np.array(slices[0].orientation[3:])
    normal = np.cross(across, down)
    if abs(np.linalg.norm(normal) - 1) > 0.01:
        raise UnreadableFile(f"The CT series in {name} states image axes that are not at right angles; export it again.")
    slices.sort(key=lambda one: (float(np.dot(one.position, normal)), one.path.name, one.frame))
    positions = np.array([one.position for one in slices])
    _check_even(slices, positions @ normal, normal, name)
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    off_line = positions - positions[0] - np.arange(len(slices))[:, None] * step
    off_line -= (off_line @ normal)[:, None] * normal
    if np.linalg.norm(off_line, axis=1).max() > OFF_LINE_MM:
        raise UnreadableFile(
            f"The slices of the CT series in {name} are shifted against each other, as when two series are mixed; "
            "export one series alone."
        )
    row_spacing, column_spacing = slices[0].spacing
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = across * column_spacing, down * row_spacing, step
    matrix[:3, 3] = positions[0]
    tilt = np.degrees(np.arccos(np.clip(np.dot(step, normal) / np.linalg.norm(step), -1, 1)))
    notes = (f"The gantry was tilted by {tilt:.1f} degrees.",) if tilt > 0.1 else ()
    return slices, matrix, notes


def _check_alike(slices: list[Slice], name: str) -> None:
    """Raise when the slices do not belong to one patient, one frame and one pixel grid."""
    first = slices[0]
    for one in slices:
        if one.belongs != first.belongs:
            what = "of different patients or examinations"
        elif one.size != first.size:
            what = f"of {first.size[0]} x {first.size[1]} and {one.size[0]} x {one.size[1]} pixels"
        elif not np.allclose(one.spacing, first.spacing, rtol=1e-3):
            what = f"of {first.spacing[0]:g} and {one.spacing[0]:g} mm pixel spacing"
        elif not np.allclose(one.orientation, first.orientation, atol=5e-3):
            what = "of different orientations"
        else:
            continue
        raise UnreadableFile(
            f"Two series are mixed in {name}: slices {what} ({first.path.name} and {one.path.name}); "
            "give a folder with one series."
        )


def _check_even(slices: list[Slice], depths: np.ndarray, normal: np.ndarray, name: str) -> None:
    """Raise when a slice is there twice or missing, or distances differ; depths: positions along the normal [mm], ascending."""
    letter = "xyz"[int(np.abs(normal).argmax())]
    places = [one.position["xyz".index(letter)] for one in slices]
    gaps = np.diff(depths)
    twice = np.flatnonzero(gaps < 1e-3)
    if len(twice):
        a, b = slices[twice[0]], slices[twice[0] + 1]
        at = f"{letter} = {places[twice[0]]:.1f} mm"
        if a.identity == b.identity or len(twice) < len(slices) // 4:
            raise UnreadableFile(
                f"The CT series in {name} holds a slice twice: {_file(a)} and {_file(b)} both lie at {at}; remove one of them."
            )
        raise UnreadableFile(
            f"Two series are mixed in {name}: {len(twice)} positions are there twice, first {at} "
            f"({_file(a)} and {_file(b)}); give a folder with one series."
        )
    usual = float(np.median(gaps))
    wide = np.flatnonzero(gaps > 1.5 * usual)
    uneven = f"between {gaps.min():.2f} and {gaps.max():.2f} mm apart"
    multiples = np.abs(gaps[wide] / usual - np.rint(gaps[wide] / usual))
    if len(wide) and len(wide) <= max(3, len(slices) // 10) and multiples.max() < UNEVEN_WITHIN:
        missing = int((np.rint(gaps[wide] / usual) - 1).sum())
        at = wide[0]
        before, after = (f"{_file(slices[k])} ({letter} = {places[k]:.1f} mm)" for k in (at, at + 1))
        between = f"between {before} and {after}"
        count = "A slice is" if missing == 1 else f"{missing} slices are"
        middle = (places[at] + places[at + 1]) / 2
        where = f"at {letter} = {middle:.1f} mm, {between}" if missing == 1 else f"first {between}"
        raise UnreadableFile(f"{count} missing in the CT series in {name}: {where}; export the series again.")
    even = np.linspace(depths[0], depths[-1], len(depths))
    if len(wide) or np.abs(depths - even).max() > UNEVEN_WITHIN * usual:
        raise UnreadableFile(
            f"The slices of the CT series in {name} are unevenly spaced, {uneven}; give a series with even spacing."
        )


def _file(one: Slice) -> str:
    return f"{one.path.name}, frame {one.frame + 1}" if one.frame >= 0 else one.path.name


def _decode(slices: list[Slice], values: Hounsfield) -> np.ndarray:
    """Return int16 [k, j, i] in HU of the ordered slices."""
    rows, columns = slices[0].size
    check_volume_size(slices[0].path, (len(slices), rows, columns), 2)
    array = np.empty((len(slices), rows, columns), np.int16)
    opened: tuple[Path | None, np.ndarray | None] = (None, None)
    with quiet():
        for k, one in enumerate(slices):
            if opened[0] != one.path:
                opened = (one.path, decoded(one.path))
            pixels = opened[1]
            assert pixels is not None
            if one.frame >= 0 and pixels.ndim == 3:
                pixels = pixels[one.frame]
            if pixels.shape != (rows, columns):
                raise UnreadableFile(
                    f"{one.path.name} holds colours or several frames where one grey slice belongs; export the CT again."
                )
            array[k] = values.convert(pixels, one.slope, one.intercept)
            if one.padding is not None and not AIR <= one.padding * one.slope + one.intercept <= 3071:
                array[k][pixels == one.padding] = AIR
    return array


def decoded(path: Path, dataset: Any | None = None) -> np.ndarray:
    """Return the stored values of a DICOM file, decompressed. Raises UnreadableFile; call within `quiet`."""
    import pydicom

    try:
        dataset = read_dataset(path) if dataset is None else dataset
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit = dataset.original_encoding[0]
            dataset.file_meta.TransferSyntaxUID = (
                pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
            )
        return unpacked(path, dataset)
    except dicom_errors() as error:
        raise _undecodable(path) from error


def _undecodable(path: Path) -> UnreadableFile:
    from pydicom.pixels import get_decoder

    with contextlib.suppress(*dicom_errors()):
        syntax = getattr(getattr(read_header(path), "file_meta", None), "TransferSyntaxUID", None)
        if syntax is not None and syntax.is_compressed and not get_decoder(syntax).is_available:
            return UnreadableFile(f"{path.name} is compressed as {syntax.name}, which is not read here; decompress it first.")
    return UnreadableFile(f"{path.name} is damaged or incomplete: its pixels cannot be decoded; copy or export it again.")
