"""The page of the four claims: tables, charts, and which of them hold at this scale."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import training
from training.evaluate.ablations import fourth
from training.evaluate.charts import Line, chart
from training.evaluate.claims import BASELINE, MODEL, Claims
from training.evaluate.common import said_of
from training.evaluate.report import NOT_FOR_DIAGNOSIS
from training.evaluate.shifts import SWEEPS
from training.evaluate.tables import Estimate, Row, difference, distances, estimate

UNDECIDED = "These data do not decide it."


def figures_of(page: Path) -> Path:
    """The folder beside a page where its charts and figures go."""
    return page.parent / f"{page.stem}_figures"


def write_claims(claims: Claims, page: Path, own: Mapping[str, Any], command: str) -> None:
    """Write the page, its charts and every figure (claims.json) beside it. own: the model's card; command: how it was made."""
    folder = figures_of(page)
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "# The four claims, measured",
        "",
        f"Data: {claims.data}. Software {training.__version__}. {NOT_FOR_DIAGNOSIS} Means over images of the mean over their "
        "structures, with 95 % intervals from a bootstrap over subjects; differences are paired by image. HD95 is over the "
        "answers in which every model of the table drew something. Each heading is what the paper claims; what holds here is "
        "said at its end. Written by",
        "",
        f"```\n{command}\n```",
        "",
        *([said_of(claims.left_out), ""] if claims.left_out else []),
        *_first(claims),
        *_second(claims, folder),
        *_third(claims, folder),
        *fourth(replace(claims, distribution=_as_others(claims)), own),
    ]
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    (folder / "claims.json").write_text(json.dumps(_plain(claims), separators=(",", ":")) + "\n", encoding="utf-8")


def _first(claims: Claims) -> list[str]:
    lines = ["## 1. In distribution: about as good as a U-Net trained on the same data", ""]
    rows = claims.distribution
    lines += _table(rows) if rows else []
    if not any(r.model == BASELINE for r in rows):
        return [*lines, "Not measured: it needs a U-Net (`--baseline RUN`).", ""]
    gap = difference(rows, MODEL, BASELINE)
    return [*lines, f"Model less U-Net: {gap}. {_verdict(gap, 'The claim holds', slack=0.02)}", ""]


GEOMETRIC = ("rotation", "magnification", "crop")


def _lost(levels: Mapping[float, Sequence[Row]], still: float) -> list[Row]:
    """What every model lost of every image, on average over the shifted levels, as the Dice of a row."""
    shifted: dict[tuple[str, str, str], list[float]] = {}
    for level, rows in levels.items():
        for row in rows if level != still else ():
            shifted.setdefault((row.model, row.image, row.structure), []).append(row.dice)
    keys = [(row, shifted.get((row.model, row.image, row.structure))) for row in levels[still]]
    return [replace(row, dice=row.dice - float(np.mean(dice))) for row, dice in keys if dice]


def _robustness(gaps: Sequence[Estimate]) -> str:
    """What the losses under geometric shifts, model less U-Net, say of the claim."""
    less, more = sum(gap.high < 0 for gap in gaps), sum(gap.low > 0 for gap in gaps)
    counted = f"Of {len(gaps)} geometric shifts the model loses less than the U-Net in {less} and more in {more}"
    left = f"; {len(gaps) - less - more} are within the error" if less + more < len(gaps) else ""
    if not less and not more:
        return f"{counted}{left}. {UNDECIDED}"
    holds = "holds" if less == len(gaps) else "does not hold" if not less else "holds in part"
    return f"{counted}{left}: the claim {holds} here."


def _second(claims: Claims, folder: Path) -> list[str]:
    lines = ["## 2. Under shift: geometrically more robust than that U-Net", ""]
    if claims.real:
        lines += ["Real radiographs:", "", *_table(claims.real)]
        if any(r.model == BASELINE for r in claims.real):
            lines += [f"Model less U-Net on real radiographs: {difference(claims.real, MODEL, BASELINE)}.", ""]
    if not claims.sweeps:
        return [*lines, "The sweeps were not measured.", ""]
    lines += [f"![{name}]({folder.name}/{name}.svg)" for name in claims.sweeps] + [""]
    lines += ["| shift | level | n | model Dice | U-Net Dice | model HD95 | U-Net HD95 |", "|---|---|---|---|---|---|---|"]
    lost: dict[str, list[Row]] = {}
    for sweep in SWEEPS:
        levels = claims.sweeps.get(sweep.name, {})
        drawn = []
        for name in (MODEL, BASELINE):
            points = [(level, estimate(_of(rows, name))) for level, rows in levels.items()]
            if any(e.n for _, e in points):
                drawn.append(Line(name, [(x, e.mean, e.low, e.high) for x, e in points]))
        (folder / f"{sweep.name}.svg").write_text(chart(sweep.name, sweep.unit, "Dice", drawn), encoding="utf-8")
        for level, rows in levels.items():
            cells = [estimate(_of(rows, name)) for name in (MODEL, BASELINE)]
            far = dict.fromkeys((MODEL, BASELINE), "–") | dict(zip(_names(rows), distances(rows, _names(rows)), strict=True))
            lines.append(
                f"| {sweep.name} | {level:g} | {cells[0].n} | {cells[0]} | {cells[1]} | {far[MODEL]} | {far[BASELINE]} |"
            )
        if len(drawn) == 2:
            lost[sweep.name] = _lost(levels, sweep.still)
    lines += [""]
    if lost:
        gaps = {name: difference(rows, MODEL, BASELINE) for name, rows in lost.items()}
        lines += ["Dice lost on average over the shifted levels:", ""]
        lines += ["| shift | model | U-Net | model less U-Net |", "|---|---|---|---|"]
        for name, rows in lost.items():
            mine, theirs = (estimate(_of(rows, one)).mean for one in (MODEL, BASELINE))
            lines.append(f"| {name} | {mine:.3f} | {theirs:.3f} | {gaps[name]} |")
        lines += ["", _robustness([gaps[name] for name in GEOMETRIC if name in gaps]), ""]
    return lines


def _third(claims: Claims, folder: Path) -> list[str]:
    lines = ["## 3. Few-shot: a model that knows anatomy needs fewer labelled images", ""]
    if not claims.few_shot:
        return [*lines, "Not measured: it needs a run trained without a structure (`--few-shot RUN --left-out STRUCTURE`).", ""]
    for structure, shots in claims.few_shot.items():
        names = _names([r for rows in shots.values() for r in rows])
        drawn = []
        for name in names:
            points = [(float(k), estimate(_of(rows, name))) for k, rows in shots.items()]
            drawn.append(Line(name, [(x, e.mean, e.low, e.high) for x, e in points]))
        (folder / f"few_shot_{structure}.svg").write_text(chart(structure, "labelled images", "Dice", drawn), encoding="utf-8")
        lines += [f"![{structure}]({folder.name}/few_shot_{structure}.svg)", ""]
        lines += [f"| {structure}, labelled images | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        lines += [f"| {k} | " + " | ".join(str(estimate(_of(rows, n))) for n in names) + " |" for k, rows in shots.items()]
        lines += [""]
        gaps = {n: difference(shots[max(shots)], names[0], n) for n in names[1:]}
        lines += [
            f"With {max(shots)} images, pretrained less {n}: {gap}. {_verdict(gap, 'The claim holds')}" for n, gap in gaps.items()
        ]
        lines += [""]
    return lines


def _table(rows: Sequence[Row]) -> list[str]:
    """Every model's mean, and a row per structure."""
    names = _names(rows)
    lines = [
        "| structure | n | " + " | ".join(f"{n} Dice | {n} HD95" for n in names) + " |",
        "|---|---|" + "---|---|" * len(names),
    ]
    structures = list(dict.fromkeys(r.structure for r in rows))
    for structure in [None, *structures]:
        here = [r for r in rows if structure in (None, r.structure)]
        cells = [f"{estimate(_of(here, n))} | {far}" for n, far in zip(names, distances(here, names), strict=True)]
        lines.append(f"| {structure or 'all'} | {estimate(_of(here, names[0])).n} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(r.model for r in rows))


def _as_others(claims: Claims) -> list[Row]:
    """The model's rows of claim 1 on what the runs of claim 4 were asked for, which is what all of them were taught."""
    asked = {r.structure for _, rows in claims.others.values() for r in rows}
    return [r for r in claims.distribution if r.structure in asked]


def _of(rows: Sequence[Row], model: str) -> list[Row]:
    return [r for r in rows if r.model == model]


def _verdict(gap: Estimate, holds: str, slack: float = 0.0) -> str:
    if gap.n == 0:
        return ""
    if gap.low > -slack:
        return f"{holds} at this scale."
    if gap.high < -slack:
        return "The claim does not hold at this scale."
    return UNDECIDED


def _short(value: Any) -> Any:
    """Floats to four places, which keeps the file small; None for what is not known."""
    return (None if value != value else round(value, 4)) if isinstance(value, float) else value


def _plain(claims: Claims) -> dict[str, Any]:
    def rows(values: Sequence[Row]) -> list[dict[str, Any]]:
        return [{k: _short(v) for k, v in asdict(r).items()} for r in values]

    return {
        "data": claims.data,
        "left_out": claims.left_out,
        "distribution": rows(claims.distribution),
        "real": rows(claims.real),
        "sweeps": {name: {str(level): rows(r) for level, r in levels.items()} for name, levels in claims.sweeps.items()},
        "few_shot": {name: {str(k): rows(r) for k, r in shots.items()} for name, shots in claims.few_shot.items()},
        "others": {spec: {"training": card, "rows": rows(r)} for spec, (card, r) in claims.others.items()},
    }
