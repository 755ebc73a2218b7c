"""Text that came from a file, made fit to be shown: one line, nothing that a terminal, a window or a format would act on."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 900
"""Characters kept of a sentence: no file may fill the screen."""

_ACTS = ("Cc", "Cs", "Zl", "Zp", "Cn", "Co")
"""Unicode categories of control characters, halves of characters, line separators, and what no font has."""
_HIDDEN = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u00ad\u200b\u2060\ufeff")
"""Marks that turn the direction of writing, and those that nobody sees: with them a name reads as another one."""
_HALVES = re.compile("[\ud800-\udfff]")


def is_plain(text: str) -> bool:
    """True when a text holds nothing but characters that are shown as they are."""
    return text.isprintable() or not any(_acts(character) for character in text)


def plain(text: str, most: int = LONGEST) -> str:
    """Return the text on one line, without characters that act instead of being shown, cut to `most` characters."""
    if not is_plain(text):
        text = " ".join("".join(" " if _acts(character) else character for character in text).split())
    return text if len(text) <= most else text[: most - 2].rstrip() + " …"


def writable(text: str) -> str:
    """Return a name as UTF-8 can hold it: halves of characters, as which Python reads a file name's bytes that are no UTF-8,
    become U+FFFD."""
    return _HALVES.sub("\ufffd", text)


def inert(text: str) -> str:
    """Return text that a window shows as it stands: Qt takes what looks like HTML for HTML, and would load what it names."""
    return plain(text).replace("<", "‹").replace(">", "›") if "<" in text else text


def _acts(character: str) -> bool:
    return character in _HIDDEN or unicodedata.category(character) in _ACTS
