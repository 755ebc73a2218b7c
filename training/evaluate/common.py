"""What several models can be compared on: the structures that every one of them was taught."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from training.errors import UnknownStructure
from training.evaluate.sources import Scored, parts

if TYPE_CHECKING:
    from training.images import Radiograph

LeftOut = dict[str, tuple[str, ...]]
"""Target -> the models that were not taught it."""


def untaught(model: Any, names: Sequence[str], radiograph: Radiograph | None = None) -> list[str]:
    """Return the names that a model was not taught, by its own account; none where it has no `untaught` to ask.

    radiograph: what it is asked about (lungs are answered with their outlines on some, see `training.model.convention`).
    """
    from training.model.convention import AsDrawn

    def strange(name: str) -> bool:
        try:
            return bool(model.untaught([name], radiograph) if isinstance(model, AsDrawn) else model.untaught([name]))
        except UnknownStructure:
            return True

    return [name for name in names if strange(name)] if hasattr(model, "untaught") else []


def shared(models: Mapping[str, Any], images: Iterable[Scored], left_out: LeftOut) -> Iterator[Scored]:
    """Give the images with those references alone whose structures every model was taught.

    left_out: is filled, as the images go by, with what was left out of them.
    """
    for scored in images:
        kept = {}
        for target, mask in scored.references.items():
            strangers = tuple(name for name, model in models.items() if untaught(model, parts(target), scored.radiograph))
            if strangers:
                left_out[target] = tuple(dict.fromkeys((*left_out.get(target, ()), *strangers)))
            else:
                kept[target] = mask
        yield replace(scored, references=kept)


def said_of(left_out: LeftOut) -> str:
    """A sentence on what was left out; empty where nothing was."""
    by_models: dict[tuple[str, ...], list[str]] = {}
    for target, models in left_out.items():
        by_models.setdefault(models, []).append(target)
    reasons = [f"{', '.join(targets)} (not {', '.join(models)})" for models, targets in by_models.items()]
    return f"Left out, because not every model was taught it: {'; '.join(reasons)}." if reasons else ""
