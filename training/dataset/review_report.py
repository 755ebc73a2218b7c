"""What a review has come to: a table of every finding and decision (CSV), and one HTML file with counts, pictures and reasons."""

from __future__ import annotations

import base64
import contextlib
import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from training.anatomy import vocabulary
from training.dataset.agreement import Agreement, agreements
from training.dataset.case import Case
from training.dataset.reviews import WHOLE_CASE, Decision
from training.dataset.store import Dataset
from training.dataset.suspicion import Queue, judge
from training.dataset.thumbnails import encode, shrink
from training.errors import ChexanatomyError
from training.images import from_rle
from training.progress import ProgressCallback, report

PICTURES = 60
"""Masks shown with a picture at most, in each part of the HTML report."""
EDGE = 240
"""Longer edge of the pictures [px]."""
COLUMNS = (
    "case",
    "subject",
    "view",
    "structure",
    "score",
    "reasons",
    "in_use",
    "repaired",
    "reviewer",
    "verdict",
    "comment",
    "at",
)
_WHOLE = "(whole case)"


@dataclass(frozen=True)
class Entry:
    """A mask, or a whole case, that somebody decided on or that a check speaks against."""

    case: Case
    structure: str
    score: float
    reasons: tuple[str, ...]
    decisions: tuple[Decision, ...]
    in_use: bool
    repaired: bool

    @property
    def verdicts(self) -> set[str]:
        """Verdicts of all reviewers."""
        return {d.verdict for d in self.decisions}


def write_report(folder: Path, html: Path, progress: ProgressCallback | None = None) -> tuple[Path, Path]:
    """Write the HTML report on a data set folder, and the CSV table beside it; returns both files. Raises ChexanatomyError."""
    dataset = Dataset.open(folder)
    queue = judge(dataset, progress)
    found = entries(dataset, queue)
    table = html.with_suffix(".csv")
    write_csv(found, table)
    write_html(dataset, queue, found, html, progress)
    return html, table


def entries(dataset: Dataset, queue: Queue) -> list[Entry]:
    """Everything that was found or decided, most suspicious first."""
    decided: dict[tuple[str, str], list[Decision]] = defaultdict(list)
    for decision in dataset.reviews.all():
        decided[decision.case_id, decision.structure].append(decision)
    excluded, repaired = dataset.reviews.excluded(), dataset.reviews.repairs()
    cases = {case.id: case for case in dataset.cases}

    def entry(case: Case, structure: str, score: float, reasons: tuple[str, ...]) -> Entry:
        key = case.id, structure
        in_use = key not in excluded and (case.id, WHOLE_CASE) not in excluded
        return Entry(case, structure, score, reasons, tuple(decided.pop(key, ())), in_use, key in repaired)

    found = [
        entry(s.case, s.structure, s.score, s.reasons)
        for s in queue.most_suspicious()
        if s.score > 0 or (s.case.id, s.structure) in decided
    ]
    rest = [entry(cases[c], s, queue.score(c) if s == WHOLE_CASE else 0.0, ()) for c, s in list(decided) if c in cases]
    return sorted(found + rest, key=lambda e: -e.score)


def write_csv(found: Iterable[Entry], path: str | Path) -> None:
    """Write a line for every decision, and for every suspicious mask without one. Raises ChexanatomyError."""
    try:
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for e in found:
                about = [e.case.id, e.case.subject, e.case.view, e.structure or _WHOLE, f"{e.score:.2f}", " ".join(e.reasons)]
                state = ["yes" if e.in_use else "no", "yes" if e.repaired else "no"]
                for d in e.decisions or (None,):
                    said = [d.reviewer, d.verdict, d.comment, d.at] if d else [""] * 4
                    writer.writerow([_harmless(cell) for cell in (*about, *state, *said)])
    except OSError as error:
        raise ChexanatomyError(f"The table {Path(path).name} cannot be written: {error.strerror}.") from error


def _harmless(cell: str) -> str:
    """The text so that a spreadsheet takes it for text, not for a formula."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def write_html(
    dataset: Dataset, queue: Queue, found: Sequence[Entry], path: str | Path, progress: ProgressCallback | None = None
) -> None:
    """Write one file that needs no other, pictures included. Raises ChexanatomyError or BrokenDataset."""
    parts = {
        "Rejected": [e for e in found if "reject" in e.verdicts and not e.repaired],
        "Flagged": [e for e in found if "flag" in e.verdicts and "reject" not in e.verdicts and not e.repaired],
        "Repaired": [e for e in found if e.repaired],
        "Suspicious, not decided yet": [e for e in found if not e.decisions and e.structure],
    }
    total = sum(min(len(part), PICTURES) for part in parts.values())
    body = [f"<h1>Review of {escape(dataset.folder.resolve().name)}</h1>", _summary(dataset, queue, found)]
    body += [_by_structure(queue, found), _agreement(agreements(dataset.reviews.all()))]
    done = 0
    for title, part in parts.items():
        body.append(f"<h2>{escape(title)}: {len(part)}</h2>")
        if len(part) > PICTURES:
            body.append(f"<p>The {PICTURES} most suspicious of them; the CSV table has all.</p>")
        body.append('<div class="cards">')
        for entry in part[:PICTURES]:
            body.append(_card(dataset, entry))
            done += 1
            report(progress, done, total, "Writing the report")
        body.append("</div>")
    try:
        Path(path).write_text(_PAGE.format(title=escape(dataset.folder.resolve().name), body="\n".join(body)), encoding="utf-8")
    except OSError as error:
        raise ChexanatomyError(f"The report {Path(path).name} cannot be written: {error.strerror}.") from error


def _summary(dataset: Dataset, queue: Queue, found: Sequence[Entry]) -> str:
    kept = dataset.kept()
    reviewers = Counter(d.reviewer for e in found for d in e.decisions)
    touched = {e.case.id for e in found if e.decisions}
    rows = [
        ("Cases", f"{len(dataset.cases)}, of {len({c.subject for c in dataset.cases})} subjects"),
        ("Masks checked", f"{len(queue):,}"),
        ("Masks that a check speaks against", f"{sum(e.score > 0 and bool(e.structure) for e in found):,}"),
        ("Cases with a decision", f"{len(touched)} ({len(touched) / max(1, len(dataset.cases)):.0%})"),
        ("Decisions", ", ".join(f"{escape(name)}: {n}" for name, n in reviewers.most_common()) or "none"),
        ("Left in for training and export", f"{len(kept)} cases, {sum(len(c.present) for c in kept):,} masks"),
    ]
    return _table((), rows)


def _by_structure(queue: Queue, found: Sequence[Entry]) -> str:
    rows = []
    groups: dict[str, list[Entry]] = defaultdict(list)
    for e in found:
        groups[e.structure].append(e)
    for structure, part in sorted(groups.items(), key=lambda item: -len(item[1])):
        count = Counter(v for e in part for v in e.verdicts)
        figures = (sum(e.score > 0 for e in part), count["accept"], count["reject"], count["flag"], sum(e.repaired for e in part))
        rows.append((escape(_name(structure)), *(str(n) if n else "" for n in figures)))
    return "<h2>By structure</h2>" + _table(("Structure", "Suspicious", "Accepted", "Rejected", "Flagged", "Repaired"), rows)


def _agreement(pairs: Sequence[Agreement]) -> str:
    if not pairs:
        return ""
    rows = [
        (escape(a.one), escape(a.two), str(a.shared), str(a.agreed), "–" if a.kappa is None else f"{a.kappa:.2f}") for a in pairs
    ]
    text = "<h2>Agreement of reviewers</h2>" + _table(("", "", "Both decided", "Agreed", "Cohen's kappa"), rows)
    apart = []
    for a, b in (both for pair in pairs for both in pair.disagreements):
        said = [escape(f"{d.reviewer}: {d.verdict} {d.comment}") for d in (a, b)]
        apart.append((escape(a.case_id), escape(_name(a.structure or b.structure)), *said))
    return text + ("<h3>Where they differ</h3>" + _table(("Case", "Structure", "", ""), apart) if apart else "")


def _card(dataset: Dataset, entry: Entry) -> str:
    picture = base64.b64encode(encode(_picture(dataset, entry))).decode("ascii")
    said = "".join(
        f"<li><b>{escape(d.verdict)}</b> by {escape(d.reviewer)}{': ' + escape(d.comment) if d.comment else ''}</li>"
        for d in entry.decisions
    )
    reasons = "".join(f"<li>{escape(r)}</li>" for r in entry.reasons)
    score = f"suspicion {entry.score:.1f}, " if entry.score > 0 else ""
    return (
        f'<div class="card"><img alt="" src="data:image/jpeg;base64,{picture}"><h3>{escape(_name(entry.structure))}</h3>'
        f"<p>{escape(entry.case.id)}, {escape(entry.case.view)}<br>{score}{'in use' if entry.in_use else 'left out'}</p>"
        f"<ul>{said}{reasons}</ul></div>"
    )


def _picture(dataset: Dataset, entry: Entry) -> np.ndarray:
    """The radiograph, uint8 [row, column, 3], with the mask's outline in yellow, the original of a repaired one in red; without
    the outline of a damaged one."""
    pixels = dataset.image(entry.case).pixels
    canvas = np.repeat(shrink(pixels, EDGE)[..., None], 3, axis=2)
    original, current = dataset.original_masks(entry.case), dataset.encoded_masks(entry.case)
    layers = [(original, (230, 70, 60))] if entry.repaired else []
    for encoded, colour in [*layers, (current, (255, 220, 60))]:
        with contextlib.suppress(ChexanatomyError):
            mask = from_rle(encoded.get(entry.structure, {}))
            if mask.shape == pixels.shape:
                canvas[_edge(_resized(mask, canvas.shape[:2]))] = colour
    return canvas


def _resized(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    rows, columns = (((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip(shape, mask.shape, strict=True))
    return mask[rows][:, columns]


def _edge(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return mask & ~inside


def _name(structure: str) -> str:
    known = vocabulary().get(structure)
    return known.name if known else structure or _WHOLE


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>" if head else ""
    return f"<table>{top}{''.join('<tr>' + ''.join(f'<td>{c}</td>' for c in row) + '</tr>' for row in rows)}</table>"


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Review of {title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1180px; padding: 0 1em; color: #222; }}
h1, h2 {{ font-weight: 600; }} h2 {{ margin-top: 1.6em; }}
table {{ border-collapse: collapse; }} td, th {{ padding: .2em .8em .2em 0; text-align: left; vertical-align: top; }}
tr + tr {{ border-top: 1px solid #ddd; }}
.cards {{ display: flex; flex-wrap: wrap; gap: 1em; }}
.card {{ width: 240px; border: 1px solid #ddd; border-radius: 6px; padding: 8px; overflow-wrap: anywhere; }}
.card img {{ max-width: 100%; display: block; margin: auto; background: #000; }} .card h3 {{ margin: .4em 0 0; font-size: 1em; }}
.card p {{ margin: .2em 0; color: #555; font-size: .88em; }} .card ul {{ margin: .2em 0; padding-left: 1.2em; font-size: .88em; }}
</style></head><body>
{body}
<p>Pictures: the mask's outline in yellow, the original of a repaired mask in red. For research only, not for diagnosis.</p>
</body></html>
"""
