"""Claim 4: what models of other sizes, picture sizes, or with a frozen vision tower are worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from training.evaluate.claims import MODEL, Claims
from training.evaluate.tables import Row, difference, estimate

_NO_MATTER = {
    "max_steps", "max_minutes", "seed", "threads", "workers", "loaders", "log_steps", "save_minutes", "validate_minutes",
    "validate_images", "calibrate_images",
}  # fmt: skip
"""Settings that leave the outcome as it is, and the length, which has a column of its own."""


class Run(NamedTuple):
    """A model that was trained, and how. rows: its scores."""

    name: str
    steps: int | None
    settings: Mapping[str, Any]
    rows: list[Row]


def fourth(claims: Claims, own: Mapping[str, Any]) -> list[str]:
    """The lines of claim 4. own: the card of the model itself."""
    lines = ["## 4. Larger models and more pixels help; training the vision tower matters little", ""]
    if not claims.others:
        return [*lines, "Not measured: it needs other runs (`--others RUN,RUN`).", ""]
    runs = [_run(MODEL, own.get("training", {}), [r for r in claims.distribution if r.model == MODEL])]
    runs += [_run(_name(spec), card, rows) for spec, (card, rows) in claims.others.items()]
    lines += ["Each run beside the one above it that was made most like it.", ""]
    lines += ["| run | steps | Dice | most like it | what differs | Dice less that run's |", "|---|---|---|---|---|---|"]
    for place, run in enumerate(runs):
        cells = [run.name, str(run.steps or "–"), str(estimate(run.rows))]
        if place:
            nearest = min(runs[:place], key=lambda other: len(_differences(run, other)))
            rows = [replace(r, model=name) for name, one in (("a", run), ("b", nearest)) for r in one.rows]
            cells += [nearest.name, "; ".join(_differences(run, nearest)) or "nothing", str(difference(rows, "a", "b"))]
        else:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Where more than one thing differs, the table does not say which of them made the difference."]
    return [*lines, ""]


def _run(name: str, card: Mapping[str, Any], rows: list[Row]) -> Run:
    """card: what a model's card says under "training". A setting that it does not mention, of an older version, was as it is by
    default; whether such a run began with weights is not known."""
    from training.fit.settings import NOT_IN_CARD, PretrainConfig

    usual = _flat(json.loads(json.dumps(asdict(PretrainConfig((Path("data"),), Path("run"), max_steps=1)), default=str)))
    settings = {key: value for key, value in usual.items() if key not in NOT_IN_CARD} | _flat(card.get("settings", {}))
    began = {key: bool(card["settings"][key]) if key in card.get("settings", {}) else "unknown" for key in ("start", "tower")}
    return Run(name, card.get("steps"), {**settings, **began, "cases": card.get("cases")}, rows)


def _flat(settings: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{name}.")
        elif name not in _NO_MATTER:
            flat[before + name] = value
    return flat


def _differences(run: Run, other: Run) -> list[str]:
    """What was set otherwise, as "name mine, not theirs"."""
    mine, theirs = run.settings, other.settings
    names = [name for name in dict.fromkeys((*mine, *theirs)) if mine.get(name) != theirs.get(name)]
    return [f"{name} {mine.get(name, 'unknown')}, not {theirs.get(name, 'unknown')}" for name in names]


def _name(spec: str) -> str:
    path = Path(spec)
    return path.parent.name if path.name == "checkpoint" else path.name
