"""Masks as DICOM Segmentation (BINARY, one segment each, overlaps kept), coded, and referring to the image they lie on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.anatomy import vocabulary
from training.errors import ChexanatomyError, UnreadableFile
from training.images.codes import ANATOMICAL_STRUCTURE, Code, code_of, structure_of
from training.images.dicom_ct import decoded
from training.images.dicom_geometry import geometry_in, put_geometry
from training.images.dicom_headers import dicom_errors, quiet, read_dataset, word
from training.images.dicom_write import RESEARCH_ONLY, UNICODE, coded
from training.images.mask_sets import MaskSet
from training.images.paths import damaged, existing, replacing
from training.images.pseudonyms import pseudonymous_uid
from training.images.radiograph import WRITTEN_BY, check_size, oriented
from training.images.turning import AS_STORED, Turn

LONGEST_LABEL = 64
"""Characters in a segment's label (VR LO)."""
MOST_SEGMENTS = 65535


def write_masks_dicom(masks: Mapping[str, np.ndarray], path: str | os.PathLike[str], image: Any, made_by: str = "") -> None:
    """Write bool masks [row, column] by structure as DICOM SEG that refers to `image`, a pydicom Dataset of one frame.

    The file is filed under the image's own patient and study: with an image from write_radiograph_dicom those are stand-ins, with
    a hospital's file they are the patient's. The masks lie on the image as read_radiograph gives it. made_by: the model or
    method, empty for masks drawn by hand. Raises ChexanatomyError for masks of another size, and for an image that none can refer
    to.
    """
    import highdicom as hd

    from training import __version__

    if not masks:
        raise ChexanatomyError("There is no mask to write; name at least one structure.")
    size = (int(image.Rows), int(image.Columns))
    turn = _turn_of(image)
    planes = [_stored(structure, turn.back(mask), size) for structure, mask in masks.items()]
    descriptions = [_description(hd, number, structure, made_by) for number, structure in enumerate(masks, 1)]
    with quiet():
        try:
            seg = hd.seg.Segmentation(
                source_images=[_for_highdicom(image)],
                pixel_array=np.stack(planes, axis=-1)[np.newaxis],
                segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=descriptions,
                series_instance_uid=pseudonymous_uid("masks", str(image.SOPInstanceUID)),
                series_number=int(image.get("SeriesNumber", None) or 0) + 100,
                sop_instance_uid=hd.UID(),
                instance_number=1,
                manufacturer=WRITTEN_BY,
                manufacturer_model_name=WRITTEN_BY,
                software_versions=__version__,
                device_serial_number="0",
                content_label="ANATOMY",
                content_description=RESEARCH_ONLY,
                omit_empty_frames=False,
                series_description="Anatomy",
                specific_character_set=UNICODE,
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ChexanatomyError(
                "No DICOM SEG can refer to this image: its header lacks what one needs, such as a frame of reference. "
                "Give the masks as PNG or COCO."
            ) from error
        for item, structure in zip(seg.SegmentSequence, masks, strict=True):
            side = code_of(structure).side
            if side is not None:
                item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [coded(side)]
        seg.PatientOrientation = image.get("PatientOrientation", None) or ""
        pose = geometry_in(image)
        if pose is not None:
            put_geometry(seg, pose)
        if image.get("PatientIdentityRemoved", ""):
            seg.PatientIdentityRemoved = image.PatientIdentityRemoved
            seg.DeidentificationMethod = image.DeidentificationMethod
        with replacing(path) as temporary:
            seg.save_as(temporary)


def read_masks_dicom(path: str | os.PathLike[str]) -> MaskSet:
    """Read the masks of a DICOM SEG (BINARY, FRACTIONAL or LABELMAP) that lies on one image of one frame.

    Structures are named by their codes, then by their labels. Raises UnreadableFile for other files and for segments on several
    images.
    """
    source = existing(path)
    with quiet():
        try:
            return _read(read_dataset(source), source)
        except dicom_errors() as error:
            raise damaged(source, "a DICOM segmentation") from error


def is_segmentation(path: Path) -> bool:
    """True for a DICOM file that says it is a segmentation."""
    from training.images.dicom_headers import read_header

    with quiet():
        header = read_header(path, ["Modality"])
    return header is not None and word(header, "Modality").upper() == "SEG"


def _read(dataset: Any, path: Path) -> MaskSet:
    kind = str(dataset.get("SegmentationType", "") or "").strip().upper()
    if word(dataset, "Modality") != "SEG" or kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise UnreadableFile(f"{path.name} is no DICOM segmentation; give one of type BINARY, FRACTIONAL or LABELMAP.")
    size = (int(dataset.Rows), int(dataset.Columns))
    frames = int(dataset.get("NumberOfFrames", None) or 1)
    check_size(path, size[1], size[0])
    if frames > MOST_SEGMENTS:
        raise UnreadableFile(f"{path.name} holds {frames} frames; give the segmentation of one radiograph.")
    values = decoded(path, dataset).reshape(frames, *size)
    notes: tuple[str, ...] = ()
    names = described(dataset, path)
    _same_image(dataset, path)
    planes: dict[int, np.ndarray] = {number: np.zeros(size, bool) for number in names}
    if kind == "LABELMAP":
        if frames > 1:
            raise _several(path)
        for number in names:
            planes[number] = values[0] == number
    else:
        half = 1.0 if kind == "BINARY" else max(1.0, float(dataset.MaximumFractionalValue) / 2)
        if kind == "FRACTIONAL":
            notes = ("Its fractional values were cut at one half.",)
        for frame, number in enumerate(_segment_numbers(dataset)):
            if planes[number].any() and values[frame].any():
                raise _several(path)
            planes[number] |= values[frame] >= half
    masks: dict[str, np.ndarray] = {}
    turn = _turn_of(dataset)
    for number, plane in planes.items():
        turned = turn(plane)
        name = names[number]
        masks[name] = masks[name] | turned if name in masks else turned
    shape = next(iter(masks.values())).shape if masks else size
    return MaskSet("", shape, masks, notes=notes, turn=turn)  # type: ignore[arg-type]  # two numbers


def described(dataset: Any, path: Path) -> dict[int, str]:
    """Segment number -> structure. Raises UnreadableFile where a number has several descriptions, or a frame's number none."""
    numbers = [int(segment.SegmentNumber) for segment in dataset.SegmentSequence]
    if len(set(numbers)) < len(numbers):
        raise UnreadableFile(f"{path.name} describes several segments under one number; export it again.")
    labelmap = str(dataset.get("SegmentationType", "") or "").strip().upper() == "LABELMAP"
    unknown = sorted(set(() if labelmap else _segment_numbers(dataset)) - set(numbers))
    if unknown:
        raise UnreadableFile(f"{path.name} holds frames of segment {unknown[0]}, which it does not describe; export it again.")
    return dict(zip(numbers, map(structure_in, dataset.SegmentSequence), strict=True))


def structure_in(segment: Any) -> str:
    """The structure that a segment shows: by its codes, then by its label."""
    kind = _code(segment.SegmentedPropertyTypeCodeSequence)
    modifiers = segment.SegmentedPropertyTypeCodeSequence[0].get("SegmentedPropertyTypeModifierCodeSequence", None)
    side = _code(modifiers or segment.get("SegmentedPropertyTypeModifierCodeSequence", None))
    assert kind is not None
    return structure_of(str(segment.get("SegmentLabel", "") or "").strip(), kind, side)


def _code(sequence: Sequence[Any] | None) -> tuple[str, str] | None:
    if not sequence:
        return None
    value = sequence[0].get("CodeValue", None) or sequence[0].get("LongCodeValue", "")
    return str(value), str(sequence[0].get("CodingSchemeDesignator", "") or "")


def _segment_numbers(dataset: Any) -> list[int]:
    shared = dataset.get("SharedFunctionalGroupsSequence", None)
    numbers = []
    for group in dataset.PerFrameFunctionalGroupsSequence:
        where = group if "SegmentIdentificationSequence" in group else shared[0] if shared else group
        numbers.append(int(where.SegmentIdentificationSequence[0].ReferencedSegmentNumber))
    return numbers


def _same_image(dataset: Any, path: Path) -> None:
    """Raise UnreadableFile for segments that lie on slices of a volume."""
    referred = {
        (str(instance.ReferencedSOPInstanceUID), str(instance.get("ReferencedFrameNumber", "")))
        for series in dataset.get("ReferencedSeriesSequence", None) or ()
        for instance in series.get("ReferencedInstanceSequence", None) or ()
    }
    if len(referred) > 1:
        raise _several(path)


def _several(path: Path) -> UnreadableFile:
    return UnreadableFile(f"{path.name} holds segments of several slices or images; give the segmentation of one radiograph.")


def _turn_of(dataset: Any) -> Turn:
    """How read_radiograph turns the image from the file's grid. Rolled radiographs of ours stay."""
    return AS_STORED if geometry_in(dataset) is not None else oriented(dataset.get("PatientOrientation", None))[0]


def _stored(structure: str, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask on the file's grid of size (rows, columns) as uint8 0 and 1."""
    if mask.shape != size:
        raise ChexanatomyError(
            f"The mask of {structure!r} is {mask.shape[0]} x {mask.shape[1]} pixels on the file's grid and the image {size[0]} x "
            f"{size[1]}: give masks of this image."
        )
    return mask.astype(np.uint8)


def _description(hd: Any, number: int, structure: str, made_by: str) -> Any:
    known = vocabulary().get(structure)
    label = known.name if known is not None else structure
    if len(label) > LONGEST_LABEL or "\\" in label:
        raise ChexanatomyError(f"DICOM takes names of up to {LONGEST_LABEL} characters without \\; rename {label!r}.")
    algorithm = None
    if made_by:
        family = Code("123110", "DCM", "Artificial Intelligence")
        algorithm = hd.AlgorithmIdentificationSequence(name=made_by[:LONGEST_LABEL], family=_concept(hd, family), version="1")
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=_concept(hd, ANATOMICAL_STRUCTURE),
        segmented_property_type=_concept(hd, code_of(structure).kind),
        algorithm_type="AUTOMATIC" if made_by else "MANUAL",
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*known.colour) if known is not None else None,
    )


def _concept(hd: Any, code: Code) -> Any:
    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning[:LONGEST_LABEL])


def _for_highdicom(image: Any) -> Any:
    """Return a copy of the image's header with the attributes that highdicom asks for, empty where the file has none."""
    import copy

    header = copy.copy(image)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"):
        if keyword not in header:
            setattr(header, keyword, "")
    for keyword in ("AccessionNumber", "ReferringPhysicianName"):
        if keyword not in header:
            setattr(header, keyword, "")
    return header
