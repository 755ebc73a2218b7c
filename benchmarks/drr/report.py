"""Results as a Markdown page with a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.drr.plot import draw
from benchmarks.drr.turns import PATIENCE, POSES, ROUNDS, Result

BUDGET_CELL = ((512, 512, 300), 512)
BUDGETS = {"PA": 6.0, "AP": 6.0, "lateral": 6.0, "oblique": 4.0}
"""How many times faster than RTK's Joseph projector each view has to be."""
HOW = f"""
Every engine runs in a process of its own with the threads named, holds the same volume (this project's phantom thorax, int16,
resampled) and takes the same poses (1800 mm to the detector of 430 mm, 1500 mm to the isocentre; oblique: 25 degrees LAO, 12
cranial, rolled by 8), one engine after the other at each view: up to {ROUNDS} turns after a first one that is not counted. An
engine that has spent {PATIENCE:.0f} s on a view takes no further turn there; where already the first took that long, it stands
alone. Times are the best turn, ratios the median of the ratios within each turn; the ratio of processor time, summed over
threads, suffers less from what else the machine does. Reading files, copying the volume to float32 and compiling are not timed.
plastimatch is a command: its time is the "Total time" that it reports less its "I/O time". nanodrr takes its default of 500
samples per ray and holds all of them at once; what would take more than 6 GB is left out.

*RMSE*: root mean square difference to RTK's picture over RTK's root mean square. RTK interpolates as ours does; plastimatch takes
voxels as blocks and nanodrr samples at equal steps, which is why theirs are larger at coarse voxels.
*Held*: resident memory besides the int16 volume once the engine has it, of plastimatch the whole command. *Work*: peak during a
view above that (Linux's VmHWM, counted anew before each call); freed memory is used again, so less than 1 MB means little and
is drawn as 1 MB.
"""
SIZES_PLOT = "## Time and memory against size\n\n![Time and memory against size](images/benchmarks.png)\n"

Key = tuple[tuple[int, int, int], int, int]


def write_report(results: Sequence[Result], machine: str, folder: Path) -> str:
    """Write benchmarks.md and images/benchmarks.png into a folder; returns the table of the budgets, or all tables."""
    results = merged(results)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    again = "`make bench` measures the first table again, `make bench-all` all of them."
    parts = [f"# Projectors side by side\n\n{machine}\n\n{again}\n", HOW, budgets(results), masks(results)]
    if len({(r.size, r.pixels) for r in results}) > 1:
        if draw(results, folder / "images" / "benchmarks.png"):
            parts.append(SIZES_PLOT)
        parts.append(everything(results))
    (folder / "benchmarks.md").write_text("\n".join(parts))
    return "\n".join([machine, "", budgets(results), masks(results), f"Written: {folder / 'benchmarks.md'}"])


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def cell(result: Result | None) -> str:
    """Seconds in milliseconds, or why there are none."""
    if result is None:
        return ""
    return f"{1000 * result.best:.0f}" if result.seconds else result.left_out


def memory(result: Result | None) -> str:
    """Held and work in MB."""
    if result is None or result.work < 0:
        return ""
    return f"{max(result.held, 0) / 1e6:.0f} + {result.work / 1e6:.0f}"


def merged(results: Iterable[Result]) -> list[Result]:
    """Results of the same view taken together: all their turns, the larger memory, the latest difference."""
    found: dict[tuple[object, ...], Result] = {}
    for r in results:
        key = (r.engine, r.labels, r.size, r.threads, r.pixels, r.view)
        if key in found:
            held, work = max(r.held, found[key].held), max(r.work, found[key].work)
            seconds, paired = found[key].seconds + r.seconds, found[key].paired + r.paired
            processor, first = min(r.processor, found[key].processor), min(r.first, found[key].first)
            r = replace(r, seconds=seconds, paired=paired, first=first, processor=processor, held=held, work=work)
        found[key] = r
    return list(found.values())


def compared(results: Iterable[Result], labels: int) -> dict[tuple[Key, str], dict[str, Result]]:
    """(size, pixels, threads) and view -> engine -> result."""
    found: dict[tuple[Key, str], dict[str, Result]] = {}
    for r in results:
        if r.labels == labels:
            found.setdefault(((r.size, r.pixels, r.threads), r.view), {})[r.engine] = r
    return found


def budgets(results: Sequence[Result]) -> str:
    """Our time against the others' where budgets are set, or whatever there is of one view size."""
    projections, ninety = compared(results, 0), compared(results, 90)
    there = [key for key, _ in projections if key[:2] == BUDGET_CELL] or [key for key, _ in projections][:1]
    others = [e for e in dict.fromkeys(r.engine for r in results) if e not in ("ours", "RTK")]
    out = ""
    for size, pixels, threads in dict.fromkeys(there):
        rows = []
        for view in POSES:
            found = projections.get(((size, pixels, threads), view), {})
            if "ours" not in found:
                continue
            ours, rtk = found["ours"], found.get("RTK")
            all_masks = ninety.get(((size, pixels, threads), view), {}).get("ours")
            rows.append([
                view, f"{cell(ours)} ({1000 * ours.median:.0f})", f"{cell(rtk)} ({1000 * rtk.median:.0f})" if rtk else "",
                *(cell(found.get(e)) for e in others),
                f"**{1 / ours.share:.1f}**" if rtk else "",
                f"{rtk.processor / ours.processor:.1f}" if rtk else "", f"{BUDGETS[view]:.0f}",
                f"{100 * ours.error:.3f} %" if ours.error is not None else "",
                f"{cell(all_masks)}, {all_masks.processor / ours.processor:.2f} of a view" if all_masks else "",
            ])  # fmt: skip
        head = [
            "view",
            *(f"{e} [ms]" for e in ("ours", "RTK", *others)),
            "RTK / ours",
            "in CPU time",
            "at least",
            "RMSE",
            "90 masks [ms]",
        ]
        out += f"## {pixels} x {pixels} pixels, {'x'.join(map(str, size))} voxels, {threads} thread{'s' * (threads > 1)}\n\n"
        loads = [r.load for r in results if (r.size, r.pixels, r.threads) == (size, pixels, threads)]
        said = f"Best turn; in brackets the median. Load of the machine before the views: {min(loads):.1f} to {max(loads):.1f}."
        out += f"{said}\n\n{table(head, rows)}\n"
    return out


def masks(results: Sequence[Result]) -> str:
    """Masks by number of structures, PA view."""
    rows = []
    counts = sorted({r.labels for r in results if r.labels})
    for r in results:
        if r.labels == counts[0] and r.engine == "ours" and r.view == "PA":
            key = (r.size, r.threads, r.pixels, r.view)
            same = {(o.engine, o.labels): o for o in results if (o.size, o.threads, o.pixels, o.view) == key}
            agree = [o.error for (e, n), o in same.items() if e == "nanodrr" and n and o.error is not None]
            rows.append([
                "x".join(map(str, r.size)), str(r.pixels), str(r.threads), cell(same.get(("ours", 0))),
                *(cell(same.get(("ours", n))) for n in counts), f"{1000 * r.first:.0f}",
                *(cell(same.get(("nanodrr", n))) for n in counts), f"{1 - max(agree):.4f}" if agree else "",
            ])  # fmt: skip
    head = ("voxels", "pixels", "threads", "our view", *(f"our {n}" for n in counts), "first view",
            *(f"nanodrr {n}" for n in counts), "Dice")  # fmt: skip
    said = (
        "Milliseconds, PA, by number of structures. *First view*: that of a label map never seen, its runs being found. RTK and\n"
        "plastimatch know no label maps: they take one projection per structure. *Dice* of nanodrr's masks with ours.\n"
    )
    return f"## Masks\n\n{said}\n{table(head, rows)}"


def everything(results: Sequence[Result]) -> str:
    """One row per size, detector, threads and view."""
    engines = list(dict.fromkeys(r.engine for r in results))
    rows = []
    for ((size, pixels, threads), view), found in compared(results, 0).items():
        ours, rtk = found.get("ours"), found.get("RTK")
        ratio = f"{1 / ours.share:.1f}" if ours and rtk else ""
        errors = ["" if (r := found.get(e)) is None or r.error is None else f"{100 * r.error:.2f}" for e in engines if e != "RTK"]
        where = ["x".join(map(str, size)), str(pixels), str(threads), view]
        rows.append([*where, *(cell(found.get(e)) for e in engines), ratio, *errors, *(memory(found.get(e)) for e in engines)])
    head = [
        "voxels", "pixels", "threads", "view", *(f"{e} [ms]" for e in engines), "RTK / ours",
        *(f"RMSE {e} [%]" for e in engines if e != "RTK"), *(f"{e} held + work [MB]" for e in engines),
    ]  # fmt: skip
    return "## All views\n\n" + table(head, rows)
