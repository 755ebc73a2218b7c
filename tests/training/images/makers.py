"""Makes small volumes and DICOM files whose every voxel is known from its place in the patient."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def hu_at(x: Any, y: Any, z: Any) -> Any:
    """HU at a place in the patient [mm, LPS]: linear, so that linear interpolation is exact, and different in every direction."""
    return -500.0 + 2.0 * np.asarray(x) - 3.0 * np.asarray(y) + 5.0 * np.asarray(z)


def sampled(patient_from_index: np.ndarray, size: tuple[int, int, int]) -> np.ndarray:
    """int16 [k, j, i] of hu_at on a grid; size: (i, j, k)."""
    i, j, k = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    places = np.stack([i, j, k, np.ones_like(i)], -1) @ patient_from_index.T
    return np.rint(hu_at(*np.moveaxis(places[..., :3], -1, 0))).astype(np.int16).transpose(2, 1, 0)


def places_of(volume: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, z [mm] of every voxel of a CT or label map, each [z, y, x]."""
    z, y, x = np.meshgrid(
        *(volume.origin[2 - a] + volume.spacing[2 - a] * np.arange(volume.shape[a]) for a in range(3)), indexing="ij"
    )
    return x, y, z


def affine(directions: np.ndarray, spacing: tuple[float, float, float], origin: tuple[float, float, float]) -> np.ndarray:
    """patient_from_index of direction cosines (columns), spacing and origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = directions * np.array(spacing)
    matrix[:3, 3] = origin
    return matrix


def write_itk(path: Path, array: np.ndarray, matrix: np.ndarray) -> Path:
    """Write [k, j, i] with an orthogonal patient_from_index by SimpleITK, which is not what reads NIfTI here."""
    import SimpleITK as sitk

    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(matrix[:3, 3].tolist())
    image.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    sitk.WriteImage(image, str(path))
    return path


def dicom(path: Path, pixels: np.ndarray, **changes: Any) -> Path:
    """Write one plain DICOM image [row, column] or [row, column, rgb]; changes: attributes by keyword, None to remove."""
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = changes.pop("SOPClassUID", CTImageStorage)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.PatientName, dataset.PatientID = "Secret^Person", "4711"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "1.2.3.4", "1.2.3"
    dataset.Modality = "CT"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.ndim == 3 and not colour:
        dataset.NumberOfFrames = len(pixels)
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def ct_series(
    folder: Path,
    count: int = 8,
    *,
    spacing: tuple[float, float, float] = (2.0, 1.5, 4.0),
    origin: tuple[float, float, float] = (-20.0, -10.0, -30.0),
    orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
    step: tuple[float, float, float] | None = None,
    size: tuple[int, int] = (10, 12),
    skip: tuple[int, ...] = (),
    prefix: str = "slice",
    **changes: Any,
) -> list[Path]:
    """Write a CT series of hu_at, one file per slice, named against their order; size: (rows, columns); step [mm]."""
    across, down = np.array(orientation[:3], float), np.array(orientation[3:], float)
    move = np.array(step) if step is not None else np.cross(across, down) * spacing[2]
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([across * spacing[0], down * spacing[1], move])
    matrix[:3, 3] = origin
    array = sampled(matrix, (size[1], size[0], count))
    files = []
    for k in (k for k in range(count) if k not in skip):
        position = matrix[:3, 3] + k * move
        stored = (array[k] + 1024).astype(np.int16)
        attributes = {
            "ImagePositionPatient": [f"{v:.4f}" for v in position],
            "ImageOrientationPatient": [f"{v:.8f}" for v in orientation],
            "PixelSpacing": [spacing[1], spacing[0]],
            "SliceThickness": spacing[2],
            "RescaleSlope": 1,
            "RescaleIntercept": -1024,
            **changes,
        }
        files.append(dicom(folder / f"{prefix}{count - k:03d}.dcm", stored, **attributes))
    return files


def compress(path: Path, syntax: str) -> None:
    """Compress a DICOM file in place; syntax: a name of gdcm.TransferSyntax."""
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
