"""Single volume files: NIfTI by its layout, NRRD and MetaImage through SimpleITK."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import UnreadableFile
from training.images.grid import Stored
from training.images.nifti import four_dimensional, read_nifti
from training.images.paths import check_volume_size, damaged, kind, leads_outside, not_this

_WANTED = "give a NIfTI (.nii, .nii.gz), NRRD or MHA/MHD file"


def read_stored(path: Path, wanted: str = _WANTED) -> Stored:
    """Read the volume file at an existing path. Raises UnreadableFile; `wanted` is the remedy for a file of another kind."""
    match kind(path):
        case "nifti":
            return read_nifti(path)
        case "nrrd":
            return _read_itk(path, "NrrdImageIO", "NRRD")
        case "meta":
            return _read_itk(path, "MetaImageIO", "MetaImage")
        case _:
            raise not_this(path, wanted)


def _read_itk(path: Path, engine: str, form: str) -> Stored:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetImageIO(engine)
    reader.SetFileName(str(path))
    try:
        _check_references(path, form)
        _check_length(path)
        reader.ReadImageInformation()
        sizes = [int(n) for n in reader.GetSize()]
        check_volume_size(path, sizes, reader.GetNumberOfComponents())
        while len(sizes) > 3 and sizes[-1] == 1:
            sizes.pop()
        if len(sizes) > 3:
            raise four_dimensional(path, sizes)
        if reader.GetNumberOfComponents() > 1:
            several = f"{path.name} holds {reader.GetNumberOfComponents()} values per voxel (colours or time points), not one"
            raise UnreadableFile(f"{several}; save one volume of it as its own file.")
        if reader.GetDimension() > 3:
            reader.SetExtractSize([*sizes, 0])
        image = reader.Execute()
    except (RuntimeError, ValueError, OSError) as error:
        if "orthonormal" in str(error) or "irection" in str(error):
            raise UnreadableFile(
                f"{path.name} states a sheared orientation, which {form} files cannot be read with; convert it to NIfTI."
            ) from error
        raise damaged(path, form) from error
    array = sitk.GetArrayFromImage(image)
    array = array.reshape((1,) * (3 - array.ndim) + array.shape)
    return Stored(array, _patient_from_index(image), names=_slicer_names(image))


def _check_references(path: Path, form: str) -> None:
    """Raise where the header says that its data lie in a file of another folder: no volume may have others read for it."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if form == "NRRD":
        entry = re.search(rb"^data ?file:[ \t]*([^\r\n]*)", head.split(b"\n\n", 1)[0], re.MULTILINE | re.IGNORECASE)
    else:
        entry = re.search(rb"ElementDataFile[ \t]*=[ \t]*([^\r\n]*)", head)
    names = [entry.group(1).decode("utf-8", "replace").strip()] if entry else []
    if names and names[0].startswith("LIST") and entry:
        names = [line.strip() for line in head[entry.end() :].decode("utf-8", "replace").splitlines()]
    outside = [name for name in names if name and leads_outside(name)]
    if outside:
        raise UnreadableFile(f"{path.name} wants its data from {outside[0]}, outside its own folder; put both into one folder.")


def _check_length(path: Path) -> None:
    """Raise where a MetaImage file or its raw data file is shorter than its header says: ITK would read it without a word."""
    if path.suffix.lower() not in (".mha", ".mhd"):
        return
    with path.open("rb") as file:
        head = file.read(1 << 16)
    end = re.search(rb"ElementDataFile[ \t]*=[ \t]*([^\r\n]*)\r?\n", head)
    entries = dict(
        re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)[ \t]*\r?$", head[: end.end() if end else 0].decode("latin-1"), re.MULTILINE)
    )
    if end is None:
        raise damaged(path, "MetaImage")
    source = end.group(1).strip().decode("utf-8", "replace")
    data = path if source == "LOCAL" else path.parent / source
    if source.startswith("LIST") or "%" in source:
        return
    if not data.is_file():
        raise UnreadableFile(f"{path.name} needs its data file {source} beside it; put both into one folder.")
    size = data.stat().st_size - (end.end() if source == "LOCAL" else 0)
    if entries.get("CompressedData", "False").lower() == "true":
        wanted = int(entries.get("CompressedDataSize", "0"))
    else:
        widths = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
        width = widths.get(
            entries.get("ElementType", "").removeprefix("MET_").replace("UCHAR", "CHAR").replace("USHORT", "SHORT"), 1
        )
        wanted = width * int(np.prod([int(n) for n in entries.get("DimSize", "0").split()], dtype=object))
    if size < wanted:
        raise damaged(path, "MetaImage")


def _patient_from_index(image: Any) -> np.ndarray:
    """LPS from index [mm]; ITK's own frame is LPS."""
    n = image.GetDimension()
    matrix = np.eye(4)
    matrix[:n, :n] = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    matrix[:n, 3] = image.GetOrigin()
    return matrix


def _slicer_names(image: Any) -> dict[int, tuple[str, ...]]:
    """Return id -> names of the segments that 3D Slicer writes into a .seg.nrrd header."""
    names: dict[int, tuple[str, ...]] = {}
    keys = set(image.GetMetaDataKeys())
    for key in sorted(keys):
        match = re.fullmatch(r"(Segment\d+)_LabelValue", key)
        if match and f"{match[1]}_Name" in keys and image.GetMetaData(key).strip().isdigit():
            names[int(image.GetMetaData(key))] = (image.GetMetaData(f"{match[1]}_Name").strip(),)
    return names
