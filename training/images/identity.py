"""Names without people: what of a DICOM file tells who was examined, and a name for it that does not."""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

from training.errors import UnreadableFile
from training.images.dicom_headers import dicom_errors, dicom_files, quiet, read_dataset, word
from training.images.paths import kind, stem
from training.images.pseudonyms import pseudonym

PEOPLE_AND_DATES = ("PN", "DA", "DT")
"""Value representations of which a file's name must repeat nothing, whatever the attribute."""

PATIENT_IDS = ("PatientID", "OtherPatientIDs")
IDS = (
    *PATIENT_IDS,
    *("AccessionNumber", "StudyID", "AdmissionID", "RequestedProcedureID", "ScheduledProcedureStepID"),
    *("PerformedProcedureStepID", "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest"),
    *("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"),
)
TEXTS = ("PatientAddress", "PatientComments", "InstitutionName", "InstitutionAddress", "StudyDescription")
"""Attributes (PS3.15, table E.1-1), at any depth, of which a file's name must not repeat a word."""

_PLAIN = """
abdomen and ap bedside body case chest children clinic cr ct data department digital dicom dr dx erect exam examination follow for
frontal heart home hospital image images lat lateral left list ll lung lungs model new old pa patient phantom portable radiograph
radiographs radiography radiology ray rib ribs right routine rx scan series set spine standing study supine test the thorax torax
train university upright view views with without xr xray
"""
PLAIN = frozenset(_PLAIN.split())
"""Words that descriptions and addresses share with names of files that tell nobody."""

_DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

SHORTEST = 3
"""Letters or digits that make a word worth hiding; shorter ones are in every name."""
SHORTEST_ID, SHORTEST_JOINED, SHORTEST_UID, SHORTEST_OF_OTHER_SCRIPTS = 2, 4, 6, 2
"""The same for a patient's id, for the words of a value or of a UID in one, and for scripts that need fewer letters."""
INSIDE_OTHERS = 6
"""Letters or digits from which a word is also found inside a longer one."""

BURNED_IN = "Text is burned into the picture and may name the patient: look at it before passing anything on."
PERHAPS_BURNED_IN = "Nobody says whether text is burned into the picture: look at it before passing anything on."


def shown_name(path: Path, header: Any | None = None) -> str:
    """Return what a file is called in windows and results: its stem, or a pseudonym where the stem names the patient.

    header: of a DICOM file, read here where it is not given; files of other kinds say nothing of the patient but their name.
    """
    if header is None:
        header = header_of(path)
    name = stem(path)
    if header is None or not names_patient(name, header):
        return name
    patient, image = word(header, "PatientID"), word(header, "SOPInstanceUID")
    return pseudonym("image", patient, image or str(path.absolute()))


def names_patient(text: str, header: Any) -> bool:
    """True when a text repeats what the header, or a sequence in it, tells of who was examined, when, where or by whom.

    Of a path, the folders may repeat words of addresses and descriptions, as they are in use for anything.
    """
    whole, name = ([(one, "".join(_words(one))) for one in _spellings(part)] for part in (text, Path(text).name))
    with quiet():
        told = set(_told(header))
    return any(
        _repeats(*one, words)
        for what, value in told
        for words in _telling(what, value)
        for one in (name if what in TEXTS else whole)
    )


def _told(header: Any) -> Iterator[tuple[str, str]]:
    """(keyword or value representation, value) of whatever tells of the patient; a damaged element tells nothing."""
    from pydicom.datadict import dictionary_VR, keyword_for_tag

    for tag in list(header.keys()):
        keyword = keyword_for_tag(tag)
        what = keyword if keyword in IDS + TEXTS else dictionary_VR(tag) if keyword else ""
        if what not in (*IDS, *TEXTS, *PEOPLE_AND_DATES, "SQ"):
            continue
        with contextlib.suppress(*dicom_errors()):
            element = header[tag]
            for value in element.value if element.VM > 1 or element.VR == "SQ" else [element.value]:
                if element.VR == "SQ":
                    yield from _told(value)
                elif value is not None:
                    yield what, str(value)


def _telling(what: str, value: str) -> Iterator[tuple[str, ...]]:
    """The words of a value, each alone and several in one, that a text must not repeat."""
    if what in ("DA", "DT"):
        digits = re.sub(r"\D", "", value)
        year, month, day = digits[:4], digits[4:6], digits[6:8]
        if len(day) == 2:
            yield from ((year, month, day), (day, month, year), (month, day, year))
            if month + day != "0101":  # of dates that are made up, such as 19000101: 000101 is a running number
                yield year[2:], month, day
        return
    least = SHORTEST_ID if what in PATIENT_IDS else SHORTEST_UID if what.endswith("UID") else SHORTEST_JOINED
    for spelling in _spellings(value):
        for group in spelling.split("=") if what == "PN" else (spelling,):  # in letters, in ideographs, by sound
            words = tuple(w for w in _words(group) if not (what in TEXTS and w in PLAIN))
            yield from ((w,) for w in words if _long(w, SHORTEST))
            several = (words, *permutations(words[:12], 2)) if what == "PN" else (words,)
            yield from (some for some in several if _long("".join(some), least))


def _long(word: str, least: int) -> bool:
    return len(word) >= (least if word.isascii() else SHORTEST_OF_OTHER_SCRIPTS)


def _repeats(text: str, joined: str, words: tuple[str, ...]) -> bool:
    """True where the words follow each other in a text, `joined` without what stands between its words.

    Short ones must not be a part of another word, or, from four letters or digits on, of a longer row of letters or of digits.
    """
    word = "".join(words)
    if word not in joined:
        return False
    pattern = r"[\W_]*".join(words)
    if word.isascii() and len(word) < INSIDE_OTHERS + word.isdigit():  # six digits are in many a number
        kinds = [r"\d" if c.isdigit() else r"[^\W\d_]" for c in (word[0], word[-1])] if len(word) > SHORTEST else [r"[^\W_]"] * 2
        pattern = f"(?<!{kinds[0]}){pattern}(?!{kinds[1]})"
    return re.search(pattern, text) is not None


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
    return unicodedata.normalize("NFC", "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c)))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text)


def neutral(path: Path) -> Path:
    """Return the path of a file as results may repeat it: as it stands, or a pseudonym where it names the patient."""
    header = header_of(path)
    if header is None or not names_patient(str(path), header):
        return path
    suffix = path.suffix.lower() if path.suffix.lower() in _DICOM_SUFFIXES else ""  # a name without one may end in a name
    return Path(shown_name(Path(word(header, "SOPInstanceUID") or path.name), header) + suffix)


def neutral_texts(texts: Iterable[str], source: Path) -> list[str]:
    """Return texts as they stand, or a pseudonym in place of one that names the patient of a DICOM file or folder."""
    header = header_of(next(iter(dicom_files(source)), source) if source.is_dir() else source)
    return [pseudonym("text", text) if header is not None and names_patient(text, header) else text for text in texts]


def header_of(path: Path) -> Any | None:
    """Return what a DICOM file says beside its pixels; None for files of other kinds and where nothing can be read."""
    with contextlib.suppress(UnreadableFile, *dicom_errors()), quiet():
        if path.is_file() and kind(path) == "dicom":
            return read_dataset(path, stop_before_pixels=True)
    return None
