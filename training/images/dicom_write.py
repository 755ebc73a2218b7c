"""Radiographs as DICOM: DX with the pose of tube and detector for one that was computed, secondary capture for any other."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.images.codes import CHEST, Code
from training.images.dicom_geometry import put_geometry
from training.images.dicom_headers import dicom_files, quiet, read_header, word
from training.images.paths import kind, replacing
from training.images.pseudonyms import pseudonym, pseudonymous_uid
from training.images.radiograph import FULL_SCALE, RECONSTRUCTED, WRITTEN_BY
from training.images.types import Radiograph

if TYPE_CHECKING:
    from training.drr import Geometry

RESEARCH_ONLY = "Research use, not for diagnosis."
UNICODE = "ISO_IR 192"
"""Specific Character Set UTF-8: names of structures are in any script."""
_VIEWS = {"PA": ("PA", "postero-anterior", "272479007"), "AP": ("AP", "antero-posterior", "399348003")}
_LATERALS = {1: ("LL", "left lateral", "399173006"), -1: ("RL", "right lateral", "399198007")}


@dataclass(frozen=True)
class Owner:
    """Whom a DICOM file is filed under: patient, study, and what the image was made of; its own UID follows from its pixels, too.
    All are stand-ins unless they were asked for."""

    patient: str
    study_uid: str
    image_uid: str


def owner_of(path: str | os.PathLike[str], image: str = "") -> Owner:
    """Return a stand-in for the patient, study and image of a file: two files of one patient, or one study, keep together.

    image: what tells this picture from others made of the same file.
    """
    source = Path(path)
    if source.is_dir():
        source = next(iter(dicom_files(source)), source)
    if source.is_file() and kind(source) == "dicom":
        with quiet():
            header = read_header(source, ["PatientID", "StudyInstanceUID", "SOPInstanceUID"])
        if header is not None and header.get("SOPInstanceUID", ""):
            patient, study, own = (word(header, k) for k in ("PatientID", "StudyInstanceUID", "SOPInstanceUID"))
            return made_up(patient or study, study, own + image)
    return made_up(str(source.absolute()), image=image)


def made_up(patient: str, study: str = "", image: str = "") -> Owner:
    """Return a stand-in for a patient named here; the study defaults to one for each patient."""
    return Owner(
        pseudonym("patient", patient), pseudonymous_uid("study", patient, study), pseudonymous_uid("image", patient, study, image)
    )


def write_radiograph_dicom(
    radiograph: Radiograph, path: str | os.PathLike[str], geometry: Geometry | None = None, owner: Owner | None = None
) -> Any:
    """Write a radiograph as DICOM, 16 bit, 0..1 as 0..65535, and return the pydicom Dataset.

    With a geometry (a radiograph that was computed from a CT): Digital X-Ray Image for presentation, distances [mm], angles
    [degrees] and pixel pitch in DX's attributes. Without: Secondary Capture. owner: default a new made-up patient and study.
    """
    dataset = radiograph_dataset(radiograph, geometry, owner)
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
    return dataset


def radiograph_dataset(radiograph: Radiograph, geometry: Geometry | None = None, owner: Owner | None = None) -> Any:
    """Return what write_radiograph_dicom writes, as a pydicom Dataset."""
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import (
        DigitalXRayImageStorageForPresentation,
        ExplicitVRLittleEndian,
        SecondaryCaptureImageStorage,
        generate_uid,
    )

    from training import __version__

    owner = owner or Owner(pseudonym("patient", generate_uid()), generate_uid(), generate_uid())
    pixels = np.rint(np.clip(np.nan_to_num(radiograph.pixels), 0, 1) * FULL_SCALE).astype("<u2")
    d = Dataset()
    d.SpecificCharacterSet = UNICODE
    d.SOPClassUID = DigitalXRayImageStorageForPresentation if geometry is not None else SecondaryCaptureImageStorage
    d.SOPInstanceUID = uid = pseudonymous_uid(owner.image_uid, hashlib.sha256(pixels.tobytes()).hexdigest())
    d.PatientName, d.PatientID = f"{owner.patient}^Pseudonym", owner.patient
    d.PatientBirthDate, d.PatientSex = "", ""
    d.PatientIdentityRemoved = "YES"
    d.DeidentificationMethod = "no attribute of the source copied; ids are salted hashes"
    d.StudyInstanceUID, d.StudyID = owner.study_uid, "1"
    d.StudyDate = d.StudyTime = d.AccessionNumber = d.ReferringPhysicianName = ""
    d.SeriesInstanceUID = pseudonymous_uid("series", uid)
    d.SeriesNumber, d.InstanceNumber, d.AcquisitionNumber = 1, 1, 1
    d.Manufacturer, d.ManufacturerModelName, d.SoftwareVersions = WRITTEN_BY, WRITTEN_BY, __version__
    d.ImageType = ["DERIVED", "SECONDARY"]
    d.ImageComments = RESEARCH_ONLY
    if radiograph.reconstructed:
        d.DerivationDescription = RECONSTRUCTED
    d.LossyImageCompression = "00"
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.Rows, d.Columns = pixels.shape
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
    d.PixelData = pixels.tobytes()
    d.RescaleIntercept, d.RescaleSlope, d.RescaleType = 0, 1, "US"
    d.PresentationLUTShape = "IDENTITY"
    d.WindowCenter, d.WindowWidth = (FULL_SCALE + 1) / 2, FULL_SCALE + 1
    if geometry is not None:
        _add_dx(d, geometry)
    else:
        _add_capture(d, radiograph)
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.ImplementationVersionName = "CHEXANATOMY"
    return d


def _add_capture(d: Any, radiograph: Radiograph) -> None:
    d.Modality, d.ConversionType, d.Laterality = "OT", "WSD", ""
    d.PatientOrientation = ["L", "F"] if radiograph.view in ("PA", "AP") else ""
    if radiograph.view in _VIEWS:
        d.ViewPosition = radiograph.view
    if radiograph.spacing is not None:
        d.NominalScannedPixelSpacing = [_decimal(s) for s in radiograph.spacing]


def _add_dx(d: Any, geometry: Geometry) -> None:
    d.Modality, d.PresentationIntentType = "DX", "FOR PRESENTATION"
    d.DerivationDescription = "Computed from a CT volume (digitally reconstructed radiograph)"
    d.PixelIntensityRelationship, d.PixelIntensityRelationshipSign = "LOG", 1
    d.BurnedInAnnotation = "NO"
    d.ImageLaterality, d.BodyPartExamined = "U", "CHEST"
    d.AnatomicRegionSequence = [coded(CHEST)]
    d.AcquisitionContextSequence = []
    d.DetectorType = ""
    d.ImagerPixelSpacing = [_decimal(s) for s in geometry.spacing]
    d.PositionerType = "CARM"
    d.PositionerPrimaryAngle, d.PositionerSecondaryAngle = _decimal(geometry.primary), _decimal(geometry.secondary)
    d.DistanceSourceToDetector, d.DistanceSourceToPatient = _decimal(geometry.sdd), _decimal(geometry.sid)
    d.EstimatedRadiographicMagnificationFactor = _decimal(geometry.sdd / geometry.sid)
    d.PatientOrientation = ["".join(_towards(axis)) for axis in geometry.axes]
    turned = (geometry.primary + 180) % 360 - 180
    view = _VIEWS.get(geometry.view_name) or (_LATERALS[1 if turned > 0 else -1] if geometry.view_name == "LATERAL" else None)
    d.ViewPosition = view[0] if view else ""
    if view:
        d.ViewCodeSequence = [coded(Code(view[2], "SCT", view[1]))]
    put_geometry(d, geometry.to_dict())


def coded(code: Code) -> Any:
    """Return a code as an item of a DICOM code sequence; a value of more than 16 characters goes where those belong."""
    from pydicom import Dataset

    item = Dataset()
    setattr(item, "CodeValue" if len(code.value) <= 16 else "LongCodeValue", code.value)
    item.CodingSchemeDesignator, item.CodeMeaning = code.scheme, code.meaning[:64]
    return item


def _towards(axis: np.ndarray) -> list[str]:
    """Letters of the directions that an axis (x, y, z) [LPS] points to, the strongest first."""
    names = (("L", "R"), ("P", "A"), ("H", "F"))
    order = sorted(range(3), key=lambda i: -abs(axis[i]))
    return [names[i][0 if axis[i] > 0 else 1] for i in order if abs(axis[i]) > 1e-3]


def _decimal(value: float) -> Any:
    from pydicom.valuerep import DSfloat

    return DSfloat(float(value), auto_format=True)
