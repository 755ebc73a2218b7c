"""Names without people: what of a DICOM file tells who was examined, and a name for it that does not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.errors import UnreadableFile
from training.images.dicom_headers import dicom_files, quiet, read_header, word
from training.images.paths import kind, stem
from training.images.pseudonyms import pseudonym

IDENTIFYING = (
    *("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"),
    *("PatientBirthDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AccessionNumber", "StudyID"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "ReferringPhysicianName", "OperatorsName"),
)
"""Attributes (PS3.15, table E.1-1) of which a file's name must not repeat a word."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

SHORTEST = 3
"""Letters or digits that make a word worth hiding; shorter ones are in every name."""

BURNED_IN = "Text is burned into the picture and may name the patient: look at it before passing anything on."
PERHAPS_BURNED_IN = "Nobody says whether text is burned into the picture: look at it before passing anything on."


def shown_name(path: Path, header: Any | None = None) -> str:
    """Return what a file is called in windows and results: its stem, or a pseudonym where the stem names the patient.

    header: of a DICOM file, read here where it is not given; files of other kinds say nothing of the patient but their name.
    """
    if header is None and path.is_file() and kind(path) == "dicom":
        with quiet():
            header = read_header(path, list(IDENTIFYING))
    name = stem(path)
    if header is None or not names_patient(name, header):
        return name
    patient, image = word(header, "PatientID"), word(header, "SOPInstanceUID")
    return pseudonym("image", patient, image or str(path.absolute()))


def names_patient(text: str, header: Any) -> bool:
    """True when a text repeats a word of the header that tells who was examined, or when."""
    said, joined = _words(text), _joined(text)
    for keyword in IDENTIFYING:
        value = header.get(keyword, None)
        for part in value if isinstance(value, (list, tuple)) else [value]:
            found = str(part) if part is not None else ""
            if _words(found) & said or any(len(w) >= 2 * SHORTEST and w in j for w in _joined(found) for j in joined):
                return True
    return False


def burned_in_note(header: Any, capture: bool) -> str:
    """Return the warning about text in the pixels; "" where the file says that there is none, or is a plain radiograph.

    capture: a screenshot or scanned film, whose text nobody took out.
    """
    stated = word(header, "BurnedInAnnotation").upper()
    if stated == "YES":
        return BURNED_IN
    return PERHAPS_BURNED_IN if capture and stated != "NO" else ""


_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae", "ł": "l", "đ": "d"})


def _spellings(text: str) -> tuple[str, str]:
    """A text without capitals and accents, however they were encoded, and with letters such as ü written as ue."""
    whole = unicodedata.normalize("NFKC", text.casefold())
    return _bare(whole), _bare(whole.translate(_SPELT_OUT))


def _bare(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


def _words(text: str) -> set[str]:
    return {part for one in _spellings(text) for part in re.findall(r"[^\W_]+", one) if len(part) >= SHORTEST}


def _joined(text: str) -> set[str]:
    return {"".join(re.findall("[a-z0-9]+", one)) for one in _spellings(text)}


def neutral(path: Path) -> Path:
    """Return the path of a file as results may repeat it: as it stands, or a pseudonym where it names the patient."""
    header = _header_of(path) if path.is_file() else None
    if header is None or not names_patient(str(path), header):
        return path
    suffix = path.suffix.lower() if path.suffix.lower() in _DICOM_SUFFIXES else ""  # a name without one may end in a name
    return Path(shown_name(Path(str(header.get("SOPInstanceUID", "")) or path.name), header) + suffix)


def neutral_texts(texts: Iterable[str], source: Path) -> list[str]:
    """Return texts as they stand, or a pseudonym in place of one that names the patient of a DICOM file or folder."""
    header = _header_of(source)
    return [pseudonym("text", text) if header is not None and names_patient(text, header) else text for text in texts]


def _header_of(source: Path) -> Any | None:
    """What a DICOM file, or the first one in a folder, says about the patient; None for files of other kinds."""
    path = next(iter(dicom_files(source)), source) if source.is_dir() else source
    try:
        if not path.is_file() or kind(path) != "dicom":
            return None
    except UnreadableFile:
        return None
    with quiet():
        return read_header(path, list(IDENTIFYING))
