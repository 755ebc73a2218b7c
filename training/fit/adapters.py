"""Adapters on disk: what each says of itself, and naming, exporting and deleting them."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.anatomy import vocabulary
from training.errors import ChexanatomyError
from training.model.checkpoint import CARD, PAGE
from training.model.taught import answers_alone

HELD_OUT = "held_out.json"
DELETED = "deleted"


@dataclass(frozen=True)
class Kept:
    """A finished adapter. name: what its maker calls it; structure: what it was taught; before, after: mean held-out Dice, None
    where nothing was held out; better: whether it is applied of itself."""

    folder: Path
    name: str
    structure: str
    before: float | None
    after: float | None
    better: bool
    card: Mapping[str, Any]

    @property
    def per_image(self) -> dict[str, tuple[float | None, float | None]]:
        """Held-out image -> Dice before and after."""
        old, new = ((self.card.get(when) or {}).get("per_image") or {} for when in ("before", "after"))
        return {str(name): (_number(old.get(name)), _number(new.get(name))) for name in new}

    @property
    def unchanged(self) -> bool:
        """Whether other structures are answered by the weights as they were: so it is with every low-rank adapter."""
        return answers_alone(self.card)

    @property
    def others(self) -> float | None:
        """How well other structures agree with what was said of them before (mean Dice); None where nothing was measured, and
        where nothing has changed."""
        return None if self.unchanged else _number((self.card.get("others") or {}).get("mean"))

    @property
    def forgotten(self) -> tuple[str, ...]:
        """Other structures that look otherwise than before."""
        return () if self.unchanged else tuple((self.card.get("others") or {}).get("forgotten") or ())


def read_adapter(folder: Path) -> Kept | None:
    """What a folder holds; None for one that is no finished adapter of ours."""
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        before, after = (_number((card.get(when) or {}).get("dice")) for when in ("before", "after"))
        name, structure = str(card.get("adapter") or folder.name), str(card["structure"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Kept(folder, name, structure, before, after, bool(card.get("better")), card)


def adapters_in(folder: Path) -> list[Kept]:
    """Finished adapters, oldest first; what was left half-written by a crash is not among them."""
    if not folder.is_dir():
        return []
    found = [read_adapter(path) for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(
        (kept for kept in found if kept is not None), key=lambda kept: (str(kept.card.get("made", "")), kept.folder.name)
    )


def rename_adapter(kept: Kept, name: str) -> Kept:
    """Call an adapter something else; its folder stays, so that whatever uses it goes on. Raises ChexanatomyError when
    there is no name."""
    name = " ".join(name.split())
    if not name:
        raise ChexanatomyError("Give the adapter a name of at least one letter.")
    write_card(kept.folder, {**kept.card, "adapter": name})
    again = read_adapter(kept.folder)
    assert again is not None
    return again


def delete_adapter(kept: Kept) -> Path:
    """Move an adapter into the folder `deleted` beside the adapters', and return where it lies now: nothing is lost by a slip."""
    bin_ = kept.folder.parent.parent / DELETED
    bin_.mkdir(exist_ok=True)
    where = bin_ / f"{kept.folder.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    number = 2
    while where.exists():
        where = where.with_name(f"{kept.folder.name}-{time.strftime('%Y%m%d-%H%M%S')}-{number}")
        number += 1
    shutil.move(str(kept.folder), where)
    return where


def export_adapter(kept: Kept, target: Path) -> Path:
    """Write an adapter as one .zip file: weights, configuration, card; unpacked, it opens as a model.

    Pictures of the held-out images are not part of it.
    """
    target = target.with_suffix(".zip")
    part = target.with_name(f".{target.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as pack:
        for path in sorted(kept.folder.iterdir()):
            if path.is_file() and path.name != HELD_OUT:
                pack.write(path, f"{kept.folder.name}/{path.name}")
    os.replace(part, target)
    return target


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write the card for programs (JSON) and for people (README.md), each in one step."""
    for name, text in ((CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n"), (PAGE, card_page(card))):
        part = folder / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, folder / name)


def card_page(card: Mapping[str, Any]) -> str:
    """The card in Markdown."""
    images, others = card.get("images") or {}, (card.get("others") or {}).get("agreement") or {}
    before, after = ((card.get(when) or {}) for when in ("before", "after"))
    lines = [
        f"## {card.get('adapter') or card['structure']}",
        "",
        f"Teaches **{_name(card['structure'])}** to `{card.get('base')}`.",
        "",
    ]
    lines += [f"- learnt from {len(images.get('learnt_from', ()))} images, measured on {len(images.get('held_out', ()))}"]
    lines += [f"- {card.get('steps')} steps in {card.get('seconds')} s, made {card.get('made')}, version {card.get('software')}"]
    lines += [f"- {card.get('use')}"]
    lines += [f"- {card['note']}"] if card.get("note") else []
    unchanged = answers_alone(card)
    lines += ["- other structures are answered as before, without this adapter"] if unchanged else []
    if after.get("per_image"):
        lines += ["", "| held-out image | Dice before | after |", "|---|---|---|"]
        old = before.get("per_image") or {}
        lines += [f"| {name} | {_shown(old.get(name))} | {_shown(new)} |" for name, new in after["per_image"].items()]
        lines += [f"| **mean** | {_shown(before.get('dice'))} | {_shown(after.get('dice'))} |"]
    if others and not unchanged:
        lines += ["", "| other structure | agrees with before (Dice) |", "|---|---|"]
        lines += [f"| {_name(key)} | {_shown(value)} |" for key, value in sorted(others.items(), key=lambda pair: pair[1])]
    settings = card.get("settings") or {}
    lines += ["", "| setting | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in settings.items() if not isinstance(value, dict)]
    return "\n".join(lines) + "\n"


def _name(key: str) -> str:
    known = vocabulary().get(key)
    return known.name if known else key


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _shown(value: Any) -> str:
    number = _number(value)
    return "–" if number is None else f"{number:.3f}"
