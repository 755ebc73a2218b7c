"""Codes of the structures for other programs: SNOMED CT where one could be verified, otherwise our own scheme.

snomed.csv holds them. Its column `source` says where a code stands: `dicom`, in the dictionaries of DICOM PS3.16 as pydicom
carries them; `totalsegmentator`, in the mapping that TotalSegmentator publishes for its classes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from training.anatomy import find, vocabulary
from training.errors import UnknownStructure

OUR_SCHEME = "99CHEXANATOMY"
"""Coding scheme of structures without a SNOMED CT code: the code value is the structure's key. Private schemes begin with 99."""
SNOMED_CT = "SCT"


@dataclass(frozen=True)
class Code:
    """One coded concept: value, coding scheme, meaning."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class StructureCode:
    """What a structure is, and which side where the code itself does not say it."""

    kind: Code
    side: Code | None = None


SIDES: Mapping[str, Code] = MappingProxyType(
    {
        "left": Code("7771000", SNOMED_CT, "Left"),
        "right": Code("24028007", SNOMED_CT, "Right"),
        "both": Code("51440002", SNOMED_CT, "Right and left"),
    }
)
CHEST = Code("816094009", SNOMED_CT, "Chest")
ANATOMICAL_STRUCTURE = Code("91723000", SNOMED_CT, "Anatomical Structure")


@cache
def snomed_codes() -> Mapping[str, StructureCode]:
    """Return the verified SNOMED CT codes by structure key."""
    rows = csv.DictReader(files("training").joinpath("snomed.csv").read_text(encoding="utf-8").splitlines())
    return MappingProxyType(
        {row["key"]: StructureCode(Code(row["code"], SNOMED_CT, row["meaning"]), SIDES.get(row["side"])) for row in rows}
    )


def code_of(structure: str) -> StructureCode:
    """Return a structure's code: SNOMED CT where verified, otherwise OUR_SCHEME with its key or its own name as value."""
    known = snomed_codes().get(structure)
    if known is not None:
        return known
    named = vocabulary().get(structure)
    return StructureCode(Code(structure, OUR_SCHEME, named.name if named is not None else structure))


def structure_of(label: str, kind: tuple[str, str], side: tuple[str, str] | None = None) -> str:
    """Return the structure that a segment of any program shows: by its code, then by its label, otherwise the label itself.

    kind, side: (value, scheme) of the segmented property and of its modifier. A paired organ coded without its side is left to
    the label.
    """
    if kind[1] == OUR_SCHEME:
        return kind[0]
    key = _by_code().get((kind, side))
    if key is not None:
        return key
    try:
        return find(label).key
    except UnknownStructure:
        return label or kind[0]


@cache
def _by_code() -> Mapping[tuple[tuple[str, str], tuple[str, str] | None], str]:
    pairs = {key: (code.kind, code.side) for key, code in snomed_codes().items()}
    return {
        ((kind.value, kind.scheme), (side.value, side.scheme) if side is not None else None): key
        for key, (kind, side) in pairs.items()
    }
