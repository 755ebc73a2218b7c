"""The sentences the model reads and writes: prompts, answers, and a reader that survives whatever a model produces.

Prompts (without `<image>`, `<bos>` and the closing newline: those belong to whoever builds the model's input)::

    prompt  = "segment " names | "detect " names          where is it?
            | "caption " box | "caption " [ box ] mask    what is there? from tokens
            | "name the drawn box" | "name the overlaid mask"   what is there? from a mark in the image
            | "name the view" ;
    names   = name { " ; " name } ;

Answers::

    answer  = item { " ; " item } ;
    item    = box [ mask ] " " name                       a structure that is there: detect without mask, segment with it
            | "none " name                                a structure that is not in the image
            | name ;                                      the answer to caption and name prompts
    box     = 4 * "<locDDDD>" ;                           y_min x_min y_max x_max, D a decimal digit, 0000..1023
    mask    = 16 * "<segDDD>" ;                           codes of the 4x4 grid, row by row, 000..127

Box, mask and name are PaliGemma's own format (big_vision), so stock checkpoints and published adapters read and write it; "none"
is this project's addition, because a model that may never say "not here" draws structures that are not there.
A name is any text without ";", "<", ">" and line breaks that does not begin with the word "none".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from training.errors import UnknownStructure
from training.tokens.boxes import Bins, is_box

Codes = tuple[int, ...]
Needs = Literal["mask", "box", "name"]

CODES_PER_MASK = 16
"""Segmentation tokens that describe one mask: a grid of 4 x 4."""

SEG_CODES = 128
"""Number of segmentation tokens, `<seg000>` to `<seg127>`."""

SEPARATOR = " ; "
"""Between the structures of a prompt and of an answer."""

ABSENT = "none"
"""First word of the answer for a structure that is not in the image."""

PROMPT_END = "\n"
"""What PaliGemma puts between prompt and answer."""

NAME_BOX_PROMPT = "name the drawn box"
NAME_MASK_PROMPT = "name the overlaid mask"
VIEW_PROMPT = "name the view"

VIEW_ANSWERS = {"PA": "PA", "AP": "AP", "LATERAL": "lateral", "OBLIQUE": "oblique"}
"""View name -> how the answer spells it."""

_VIEW_SPELLINGS = {"posteroanterior": "PA", "anteroposterior": "AP"}
_ITEM = re.compile(r"(?P<locs>(?:<loc[0-9]{4}>\s*)*)(?P<segs>(?:<seg[0-9]{3}>\s*)*)(?P<name>.*)", re.DOTALL)
_LOC = re.compile(r"<loc([0-9]{4})>")
_SEG = re.compile(r"<seg([0-9]{3})>")
_CONTROL = re.compile(r"<(?:bos|eos|pad|image|unk)>|</?s>")


@dataclass(frozen=True)
class Answer:
    """What is said about one structure.

    bins: location bins (y_min, x_min, y_max, x_max), None where no box is given; codes: 16 mask codes, None where no mask is
    given; name: the structure's name as written; present: False for "none NAME".
    """

    bins: Bins | None
    codes: Codes | None
    name: str
    present: bool = True


def location_text(bins: Bins) -> str:
    """Return the four location tokens of a box."""
    return "".join(f"<loc{value:04d}>" for value in bins)


def mask_text(codes: Sequence[int]) -> str:
    """Return the sixteen segmentation tokens of a mask."""
    return "".join(f"<seg{int(code):03d}>" for code in codes)


def clean_name(name: str) -> str:
    """Return a name as prompts and answers spell it: single spaces, nothing that the grammar uses itself.

    Raises UnknownStructure for a name that could not be read back.
    """
    cleaned = " ".join(name.split())
    if not cleaned or re.search("[;<>\ud800-\udfff]", cleaned) or cleaned.split()[0].lower() == ABSENT:
        raise UnknownStructure(
            f"The structure name {name!r} cannot be used: give some text in UTF-8 without ';', '<' or '>' that does not "
            "begin with 'none'."
        )
    return cleaned


def segment_prompt(names: str | Iterable[str]) -> str:
    """Return the prompt that asks for boxes and masks of one or several structures."""
    return f"segment {_join_names(names)}"


def detect_prompt(names: str | Iterable[str]) -> str:
    """Return the prompt that asks for boxes of one or several structures."""
    return f"detect {_join_names(names)}"


def read_names(prompt: str) -> list[str]:
    """Return the names in a typed prompt: "segment heart ; left clavicle", "detect aorta", or bare names, by ; or , apart."""
    words = prompt.strip()
    for verb in ("segment ", "detect "):
        if words.casefold().startswith(verb):
            words = words[len(verb) :]
    return list(dict.fromkeys(name for part in re.split(r"[;,\n]", words) if (name := " ".join(part.split()))))


def caption_box_prompt(bins: Bins) -> str:
    """Return the prompt that asks what a box, given as tokens, contains."""
    return f"caption {location_text(bins)}"


def caption_mask_prompt(codes: Sequence[int], bins: Bins | None = None) -> str:
    """Return the prompt that asks what a mask, given as tokens, outlines; the box that places it may lead."""
    return f"caption {location_text(bins) if bins is not None else ''}{mask_text(codes)}"


def write_view(view: str) -> str:
    """Return the answer to the view prompt for a view name ("PA", "AP", "LATERAL" or "OBLIQUE")."""
    return VIEW_ANSWERS[view]


def read_view(text: str) -> str | None:
    """Return the view name that an answer to the view prompt gives, or None."""
    word = " ".join(_CONTROL.sub(" ", text).split()).lower()
    spelled = {answer.lower(): view for view, answer in VIEW_ANSWERS.items()} | _VIEW_SPELLINGS
    return spelled.get(word)


def write_answer(answers: Answer | Sequence[Answer]) -> str:
    """Return the text of one answer, or of several joined by " ; ".

    Raises UnknownStructure for a name that could not be read back.
    """
    if isinstance(answers, Answer):
        return _write_item(answers)
    return SEPARATOR.join(_write_item(answer) for answer in answers)


def read_answer(text: str, needs: Needs = "box") -> tuple[list[Answer], int]:
    """Return what a text says and how many of its items are no valid answers. Never raises.

    needs: what a present structure has to come with: "mask" (the answer to a segment prompt), "box" (detect; a mask may follow)
    or "name" (caption and name prompts; box and mask may be there). A missing name is accepted as "", because PaliGemma itself
    often leaves it out. Invalid are: a wrong number of tokens, tokens after the name, codes or bins out of range, a box
    whose bottom is not below its top or whose right is not beyond its left, text without what is needed, and nothing at all.
    """
    stripped = _CONTROL.sub(" ", text).strip().strip(";").strip()
    read = [_read_item(item.strip(), needs) for item in stripped.split(";")]
    answers = [answer for answer in read if answer is not None]
    return answers, len(read) - len(answers)


def _join_names(names: str | Iterable[str]) -> str:
    return SEPARATOR.join(clean_name(name) for name in ([names] if isinstance(names, str) else names))


def _write_item(answer: Answer) -> str:
    name = clean_name(answer.name)
    if not answer.present:
        return f"{ABSENT} {name}"
    tokens = (location_text(answer.bins) if answer.bins else "") + (mask_text(answer.codes) if answer.codes else "")
    return f"{tokens} {name}" if tokens else name


def _read_item(item: str, needs: Needs) -> Answer | None:
    match = _ITEM.fullmatch(item)
    if match is None or re.search("[<>\ud800-\udfff]", match["name"]):
        return None
    locs = [int(digits) for digits in _LOC.findall(match["locs"])]
    segs = tuple(int(digits) for digits in _SEG.findall(match["segs"]))
    name = " ".join(match["name"].split())
    if not locs and not segs:
        return _read_words(name, needs)
    if len(locs) != 4 or len(segs) not in (0, CODES_PER_MASK) or any(code >= SEG_CODES for code in segs):
        return None
    bins = (locs[0], locs[1], locs[2], locs[3])
    if not is_box(bins) or (needs == "mask" and not segs):
        return None
    return Answer(bins, segs or None, name)


def _read_words(words: str, needs: Needs) -> Answer | None:
    """Read an item without tokens: an absent structure, or a bare name where one is asked for."""
    first, _, rest = words.partition(" ")
    if first.lower() == ABSENT:
        return Answer(None, None, rest, present=False)
    return Answer(None, None, words) if words and needs == "name" else None
