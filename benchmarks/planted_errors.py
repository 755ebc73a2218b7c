"""Plant known errors into a copy of a data set and count how many come up in the first 5 % of the review queue.

`python benchmarks/planted_errors.py DATASET... [--share 0.0025] [--seeds 3] [--first-seed 0] [--first-cases N] [--out JSON]`

The data sets are taken together, as one. Every error is planted before the book-keeping (lists of present, absent and cut-off
structures, composites), as if the label map itself had been wrong: nothing but the masks and the pictures can give it away.
Each seed plants anew. Pictures are linked, not copied; the data sets given are not touched.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.anatomy import vocabulary
from training.dataset import Case, Dataset
from training.dataset.measure import composites
from training.dataset.suspicion import judge
from training.images import to_rle

FIRST = 0.05
"""Part of the queue that counts as its beginning."""
SMALLEST = 12
"""Masks of fewer pixels are left out, as the synthesis does."""
Masks = dict[str, np.ndarray]


@dataclass(frozen=True)
class Planted:
    """What was done: kind of error, and the structures concerned (none: all of the case)."""

    kind: str
    case: str
    view: str
    structures: tuple[str, ...] = ()


def is_leaf(name: str) -> bool:
    """Whether a structure is no union of others."""
    return name not in composites()


def sided(masks: Masks) -> list[tuple[str, str]]:
    """Pairs of leaves with a left and a right one."""
    return [(s, s.replace("left", "right")) for s in masks if "left" in s and is_leaf(s) and s.replace("left", "right") in masks]


def choose(rng: np.random.Generator, masks: Masks) -> str:
    """A leaf that is not tiny."""
    area = next(iter(masks.values())).size
    leaves = [s for s, m in masks.items() if is_leaf(s) and m.sum() > 0.001 * area and s != "body"]
    return str(rng.choice(leaves))


def moved(mask: np.ndarray, rng: np.random.Generator, low: float, high: float) -> tuple[int, int]:
    """Rows and columns of a shift by `low` to `high` of the picture's edge, in any direction."""
    angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(low, high) * min(mask.shape)
    return round(np.sin(angle) * size), round(np.cos(angle) * size)


def shift(mask: np.ndarray, by: tuple[int, int]) -> np.ndarray:
    """The mask moved; what leaves the picture is lost."""
    out = np.zeros_like(mask)
    h, w = mask.shape
    dy, dx = by
    out[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] = mask[
        max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
    ]
    return out


def resized(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Nearest pixels of the mask on another grid."""
    rows = ((np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]).astype(int)
    columns = ((np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]).astype(int)
    return mask[rows][:, columns]


def swap_names(masks: Masks, pairs: list[tuple[str, str]]) -> Masks:
    """The masks with the names of each pair exchanged."""
    other = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    return {other.get(s, s): m for s, m in masks.items()}


def one_pair_swapped(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """Left and right of one structure exchanged."""
    pairs = sided(masks)
    pair = pairs[int(rng.integers(len(pairs)))]
    return swap_names(masks, [pair]), pair


def all_sides_swapped(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """Left and right exchanged in every name."""
    return swap_names(masks, sided(masks)), ()


def one_mask_shifted(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """One structure moved by 8 to 15 % of the picture."""
    name = choose(rng, masks)
    return masks | {name: shift(masks[name], moved(masks[name], rng, 0.08, 0.15))}, (name,)


def all_masks_shifted(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """All masks moved by 6 to 12 % of the picture."""
    by = moved(next(iter(masks.values())), rng, 0.06, 0.12)
    return {s: shift(m, by) for s, m in masks.items()}, ()


def masks_mirrored(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """The label map lay mirrored."""
    return {s: m[:, ::-1] for s, m in masks.items()}, ()


def two_names_exchanged(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """Two structures carry each other's name."""
    one, two = choose(rng, masks), choose(rng, masks)
    while two == one:
        two = choose(rng, masks)
    return swap_names(masks, [(one, two)]), (one, two)


def names_off_by_one(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """Every name moved on by one in the numbering: the wrong table of names."""
    leaves = [s for s in vocabulary() if s in masks and is_leaf(s)]
    following = dict(zip(leaves, leaves[1:] + leaves[:1], strict=True))
    return {following.get(s, s): m for s, m in masks.items()}, ()


def one_missing(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """One structure was forgotten."""
    name = choose(rng, masks)
    return {s: m for s, m in masks.items() if s != name}, (name,)


def two_merged(rng: np.random.Generator, masks: Masks) -> tuple[Masks, tuple[str, ...]]:
    """One structure has swallowed another."""
    one, two = choose(rng, masks), choose(rng, masks)
    while two == one or masks[one].sum() > 3 * masks[two].sum():
        one, two = choose(rng, masks), choose(rng, masks)
    return {s: m | masks[two] if s == one else m for s, m in masks.items() if s != two}, (one, two)


ON_MASKS: dict[str, Callable[[np.random.Generator, Masks], tuple[Masks, tuple[str, ...]]]] = {
    f.__name__: f
    for f in (
        one_pair_swapped, all_sides_swapped, one_mask_shifted, all_masks_shifted, masks_mirrored, two_names_exchanged,
        names_off_by_one, one_missing, two_merged,
    )
}  # fmt: skip
KINDS = (*ON_MASKS, "masks_of_another_case", "picture_mirrored")


def booked(case: Case, masks: Masks, known: set[str]) -> tuple[Case, Masks]:
    """Composites as unions of their parts, and the lists of the case as the synthesis writes them."""
    leaves = {s: m for s, m in masks.items() if is_leaf(s) or not any(p in masks for p in composites()[s])}
    for _ in range(4):  # composites of composites
        for whole, parts in composites().items():
            here = [leaves[p] for p in parts if p in leaves]
            if here and whole in known:
                leaves[whole] = np.logical_or.reduce(here)
    kept = {s: leaves[s] for s in vocabulary() if s in leaves and leaves[s].sum() >= SMALLEST}
    kept |= {s: m for s, m in leaves.items() if s not in vocabulary() and m.sum() >= SMALLEST}
    edge = tuple(s for s, m in kept.items() if m[0].any() or m[-1].any() or m[:, 0].any() or m[:, -1].any())
    absent = tuple(s for s in case.absent if s not in kept)
    return replace(case, present=tuple(kept), absent=absent, cut_off=edge), kept


def merge(folders: list[Path], out: Path, first: int | None = None) -> Dataset:
    """One data set of several: pictures and masks linked, ids made unique; the first so many cases of each, all by default."""
    (out / "images").mkdir(parents=True)
    (out / "masks").mkdir()
    lines = []
    for folder in folders:
        for case in Dataset.open(folder).cases[:first]:
            name = f"{folder.name}-{case.id}"
            link(folder / case.image, out / "images" / f"{name}.png")
            link(folder / "masks" / f"{case.id}.json", out / "masks" / f"{name}.json")
            lines.append(replace(case, id=name, image=f"images/{name}.png").to_json())
    (out / "cases.jsonl").write_text("\n".join(lines) + "\n")
    return Dataset.open(out)


def link(source: Path, target: Path) -> None:
    """Hard link where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def plant(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, list[Planted]]:
    """Plant every kind of error in the given share of the cases. The masks' and pictures' files are replaced, not written to."""
    from training.images import write_radiograph_png

    rng = np.random.default_rng(seed)
    known = {s for case in dataset.cases for s in case.present}
    each = max(1, round(share * len(dataset.cases)))
    order = rng.permutation(len(dataset.cases))
    planted, changed = [], {}
    for number, kind in enumerate(KINDS * each):
        case = dataset.cases[order[number]]
        masks, names = dataset.masks(case), ()
        if kind == "picture_mirrored":
            picture = dataset.image(case)
            (dataset.folder / case.image).unlink()
            write_radiograph_png(replace(picture, pixels=picture.pixels[:, ::-1]), dataset.folder / case.image)
        elif kind == "masks_of_another_case":
            shape = next(iter(masks.values())).shape
            alike = [c for c in dataset.cases if c.view == case.view and c.subject == case.subject and c.id != case.id]
            alike = alike or [c for c in dataset.cases if c.view == case.view and c.id != case.id]
            donor = alike[int(rng.integers(len(alike)))]
            masks = {s: resized(m, shape) for s, m in dataset.masks(donor).items()}
        else:
            masks, names = ON_MASKS[kind](rng, masks)
        changed[case.id], kept = booked(case, masks, known)
        path = dataset.folder / "masks" / f"{case.id}.json"
        path.unlink()
        path.write_text(json.dumps({s: to_rle(m) for s, m in kept.items()}))
        planted.append(Planted(kind, case.id, case.view, names))
    lines = [changed.get(c.id, c).to_json() for c in dataset.cases]
    (dataset.folder / "cases.jsonl").write_text("\n".join(lines) + "\n")
    return Dataset.open(dataset.folder), planted


def count(dataset: Dataset, planted: list[Planted]) -> list[tuple[Planted, bool, bool, float, str]]:
    """For each error: found in the first cases, in the first masks, its place in the queue of cases 0..1, the first reason."""
    queue = judge(dataset)
    cases = [case.id for case in queue.cases()]
    place = {case: i / len(cases) for i, case in enumerate(cases)}
    masks = queue.most_suspicious(round(FIRST * len(queue)))
    first = defaultdict(set)
    for one in masks:
        first[one.case.id].add(one.structure)
    results = []
    for one in planted:
        hit = first[one.case] & set(one.structures) if one.structures else first[one.case]
        said = sorted(
            (s for s in queue.of(one.case) if not one.structures or s.structure in one.structures), key=lambda s: -s.score
        )
        reason = f"{said[0].score:.1f} {said[0].structure}: {' '.join(said[0].reasons)}" if said else "not in the queue"
        results.append((one, place[one.case] < FIRST, bool(hit), place[one.case], reason))
    return results


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", type=Path)
    parser.add_argument("--share", type=float, default=0.0025, help="share of the cases for each kind of error")
    parser.add_argument("--seeds", type=int, default=3, help="how many times errors are planted")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first time; the checks were tuned on 0 to 2")
    parser.add_argument("--first-cases", type=int, default=None, help="take so many cases of each data set (default all)")
    parser.add_argument("--scratch", type=Path, default=None, help="where the copies go (needs hard links to be quick)")
    parser.add_argument("--out", type=Path, default=None, help="write the table as JSON")
    parser.add_argument("--missed", action="store_true", help="list the errors that were missed")
    given = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        clean = merge(given.datasets, Path(scratch) / "clean", given.first_cases)
        judge(clean)
        for seed in range(given.first_seed, given.first_seed + given.seeds):
            copy = Path(scratch) / f"seed-{seed}"
            shutil.copytree(clean.folder, copy, copy_function=os.link)
            (copy / "cases.jsonl").unlink()
            shutil.copy2(clean.folder / "cases.jsonl", copy / "cases.jsonl")
            results += count(*plant(Dataset.open(copy), given.share, seed))
            shutil.rmtree(copy)
    table = {}
    print(f"{len(clean.cases)} cases, {len(results)} planted errors over {given.seeds} seeds")
    print(f"{'kind':24}{'planted':>8}{'in first 5 % of cases':>24}{'of masks':>12}")
    for kind in (*KINDS, "all"):
        mine = [r for r in results if kind in (r[0].kind, "all")]
        table[kind] = {"planted": len(mine), "cases": sum(r[1] for r in mine), "masks": sum(r[2] for r in mine)}
        print(f"{kind:24}{len(mine):8}{table[kind]['cases'] / len(mine):24.1%}{table[kind]['masks'] / len(mine):12.1%}")
    if given.missed:
        for one, by_case, by_mask, place, reason in results:
            if not (by_case and by_mask):
                print(f"{one.kind} {one.view} {one.case} {one.structures} at {place:.1%} {by_case} {by_mask} {reason[:160]}")
    if given.out:
        given.out.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
