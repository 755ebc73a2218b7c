"""Structures answered part by part: what is made of many thin pieces, like all ribs together, does not fit into sixteen codes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from training.anatomy import vocabulary

if TYPE_CHECKING:
    from training.model.predictor import Finding


def parts_of(structure: str, taught: Collection[str]) -> tuple[str, ...]:
    """The keys of those parts of a structure that a model was taught; none if they are fewer than two. Not all of them need be
    there: what the spine has beyond the vertebrae taught stays undrawn."""
    known = vocabulary().get(structure)
    parts = tuple(label for label in known.labels if label in taught and label != structure) if known else ()
    return parts if len(parts) > 1 else ()


def answered_by(structure: str, card: Mapping[str, Any]) -> tuple[str, ...]:
    """What a model is asked for a structure, by its card: the structure or, where `in_parts` has it, the parts that stand there.
    One that was taught from drawings is asked for as it was drawn."""
    if structure in card.get("from_drawings", ()):
        return (structure,)
    return tuple(card.get("in_parts", {}).get(structure, ())) or (structure,)


def united(structure: str, parts: Sequence[Finding]) -> Finding:
    """One finding of several: the union of their masks and boxes, present if one of them is; answers one after the other, the
    mean confidence of those that are present, or the least where none is."""
    if len(parts) == 1:
        return replace(parts[0], structure=structure)
    there = [part for part in parts if part.present]
    boxes = [part.box for part in there if part.box is not None]
    masks = [part.mask for part in there if part.mask is not None]
    chances = [part.probability for part in there or parts if part.probability is not None]
    tops, lefts, bottoms, rights = zip(*boxes, strict=True) if boxes else ((), (), (), ())
    return replace(
        parts[0],
        structure=structure,
        present=bool(masks),
        box=(min(tops), min(lefts), max(bottoms), max(rights)) if boxes else None,
        mask=np.logical_or.reduce(masks) if masks else None,
        confidence=float(np.mean([part.confidence for part in there]) if there else min(part.confidence for part in parts)),
        tokens=tuple(token for part in parts for token in part.tokens),
        text=" ; ".join(part.text for part in parts),
        probability=np.maximum.reduce(chances) if chances else None,
    )
