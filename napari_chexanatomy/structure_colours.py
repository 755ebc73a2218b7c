"""How a structure is written and coloured on screen, also one that the vocabulary does not hold."""

from __future__ import annotations

import colorsys
import zlib

from training.anatomy import find, vocabulary
from training.errors import UnknownStructure

OTHER_GROUP = "Other structures"


def display_name(structure: str) -> str:
    """Plain English name of a vocabulary key; any other name as it is, without underscores."""
    known = vocabulary().get(structure)
    return known.name if known else structure.replace("_", " ")


def group_of(structure: str) -> str:
    """Heading under which a structure is listed."""
    known = vocabulary().get(structure)
    return known.group if known else OTHER_GROUP


def side_of(structure: str) -> str:
    """Patient's side: right, left, both or midline; "" for a name that the vocabulary does not hold."""
    known = vocabulary().get(structure)
    return known.side if known else ""


def search_text(structure: str) -> str:
    """Everything a person might type to find a structure, in lower case."""
    known = vocabulary().get(structure)
    names = (known.key, known.name, *known.synonyms, known.group) if known else (structure, display_name(structure))
    return " | ".join(names).casefold()


def colour_of(structure: str) -> tuple[int, int, int]:
    """(red, green, blue) 0..255: the vocabulary's colour, or one that follows from the name."""
    known = vocabulary().get(structure)
    if known:
        return known.colour
    hue = zlib.crc32(structure.encode()) % 360 / 360
    r, g, b = (round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.65, 0.95))
    return r, g, b


def key_of(text: str) -> str:
    """The vocabulary key that a typed name means, or the typed name itself when the vocabulary does not hold it."""
    try:
        return find(text).key
    except UnknownStructure:
        return text.strip()
