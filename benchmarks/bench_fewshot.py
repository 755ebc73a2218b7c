"""What 1, 3, 5 and 10 drawings teach: structures that the model was not trained on, scored on images that it did not learn from.

python benchmarks/bench_fewshot.py --radiographs FOLDER --lungs FOLDER [--dataset FOLDER] [--shots 1 3 5] [--seeds 2] [--out FILE]

Radiographs with masks of both lungs (same stem) give regions that no model has a name for; a data set gives structures of the
vocabulary outside the model's own. Three or more drawings are split as the desk does it: one of four is held out. Every seed
takes other images to learn from and others to score on. With --minutes nothing more is begun when that much processor time is
spent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image
from skimage.transform import resize

from training.dataset import Dataset
from training.errors import ChexanatomyError
from training.evaluate.sources import pairs
from training.fit import AdaptSettings, Example, adapt
from training.images import read_mask_png, read_radiograph
from training.model import Predictor, load

TESTS = 12
"""Images to score on."""


def lungs_apart(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The right and the left lung, bool [row, column] each, of a mask of both; the patient's right is on the image's left."""
    pieces, count = ndimage.label(mask)
    sizes = ndimage.sum_labels(mask, pieces, range(1, count + 1))
    middle = ndimage.center_of_mass(mask)[1]
    right, left = np.zeros_like(mask), np.zeros_like(mask)
    for piece in np.flatnonzero(sizes > 0.02 * mask.sum()) + 1:
        own = pieces == piece
        (right if ndimage.center_of_mass(own)[1] < middle else left)[own] = True
    return right, left


def between(mask: np.ndarray) -> np.ndarray:
    """What lies between the lungs: the hull of both without them, between their middles and with lung on either side."""
    right, left = lungs_apart(mask)
    column = np.arange(mask.shape[1])
    inner = np.where(right, column, -1).max(1)[:, None], np.where(left, column, mask.shape[1]).min(1)[:, None]
    filled = (column > inner[0]) & (column < inner[1]) & (inner[0] >= 0) & (inner[1] < mask.shape[1])
    filled &= (column > ndimage.center_of_mass(right)[1]) & (column < ndimage.center_of_mass(left)[1])
    return filled & convex_hull_image(mask) & ~mask


def part(mask: np.ndarray, low: float, high: float) -> np.ndarray:
    """The rows of a mask from a share `low` to a share `high` of its height."""
    rows = np.flatnonzero(mask.any(1))
    cut = np.zeros_like(mask)
    top, bottom = (rows[0] + (rows[-1] + 1 - rows[0]) * s for s in (low, high))
    cut[round(top) : round(bottom)] = mask[round(top) : round(bottom)]
    return cut


REGIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "space between the lungs": between,
    "right upper zone": lambda mask: part(lungs_apart(mask)[0], 0, 0.4),
    "left lower zone": lambda mask: part(lungs_apart(mask)[1], 0.65, 1),
    "both lungs in one": lambda mask: mask,
}
"""Regions of a chest radiograph that follow from a mask of both lungs."""


Picture = tuple[str, Example]
"""Whose it is, and what is drawn in it: nobody is learnt from and scored on."""


def regions(radiographs: Path, lungs: Path) -> dict[str, list[Picture]]:
    """Every region on every radiograph."""
    read = [(image.stem, read_radiograph(image), read_mask_png(mask)) for image, mask in pairs(radiographs, lungs)]
    return {name: [(stem, Example(r, draw(m), name=stem)) for stem, r, m in read] for name, draw in REGIONS.items()}


def structures(folder: Path, names: Sequence[str]) -> dict[str, list[Picture]]:
    """One frontal view of every subject that shows the whole of a structure; several where there are few subjects."""
    dataset = Dataset.open(folder)
    found: dict[str, list[Picture]] = {}
    for name in names:
        showing = [c for c in dataset.cases if c.view in ("PA", "AP") and name in c.present and name not in c.cut_off]
        subjects = {c.subject for c in showing}
        chosen = list({c.subject: c for c in showing}.values()) if len(subjects) > 40 else showing
        chosen = chosen[:60]
        found[name] = [(c.subject, Example(dataset.image(c), dataset.masks(c, [name])[name], name=c.id)) for c in chosen]
    return found


def dice(a: np.ndarray | None, b: np.ndarray) -> float:
    """Overlap of two masks; None is an empty one."""
    total = (0 if a is None else int(a.sum())) + int(b.sum())
    return (2 * int((a & b).sum()) / total if a is not None else 0.0) if total else 1.0


def mean_mask(drawn: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """What one would draw without a model: the mean of the drawn masks, bool, laid over an image of that shape."""
    return np.mean([resize(mask.astype(np.float32), shape) for mask in drawn], axis=0) > 0.5


def drawn_by_lot(pictures: Sequence[Picture], shot: int, seed: int) -> tuple[list[Example], list[Example]]:
    """`shot` pictures to learn from, and up to TESTS of other people to score on. Raises ChexanatomyError for too few."""
    order = [pictures[i] for i in np.random.default_rng(seed).permutation(len(pictures))]
    taken = {subject for subject, _ in order[:shot]}
    tests = [example for subject, example in order[shot:] if subject not in taken][-TESTS:]
    if len(order) < shot or not tests:
        raise ChexanatomyError(f"{len(order)} pictures are too few to learn from {shot} and to score on others.")
    return [example for _, example in order[:shot]], tests


def trial(base: Predictor, name: str, pictures: list[Picture], shot: int, seed: int, settings: AdaptSettings) -> dict[str, Any]:
    """Learn from `shot` images, score on TESTS others."""
    lessons, tests = drawn_by_lot(pictures, shot, seed)
    with tempfile.TemporaryDirectory() as scratch:
        started, processor = time.monotonic(), time.process_time()
        made = adapt(base, lessons, name, Path(scratch) / "adapter", replace(settings, seed=seed))
        spent = time.process_time() - processor
        learnt = load(made.folder)
        scores = [dice(learnt.segment(e.radiograph, [name])[0].mask, e.mask) for e in tests]
    drawn = [e.mask for e in lessons]
    constant = [dice(mean_mask(drawn, e.mask.shape), e.mask) for e in tests]
    guess = float(np.mean(list(made.after.values()))) if made.after else None
    return {
        "structure": name, "shots": shot, "seed": seed, "dice": round(float(np.mean(scores)), 4),
        "worst": round(float(np.min(scores)), 4), "held_out": guess, "steps": made.card["steps"],
        "processor_seconds": round(spent, 1), "seconds": round(time.monotonic() - started, 1),
        "mean_mask": round(float(np.mean(constant)), 4),
    }  # fmt: skip


def changed(settings: AdaptSettings, changes: Sequence[str]) -> AdaptSettings:
    """Settings with NAME=VALUE changes, values in JSON."""
    names = {f.name for f in fields(settings)}
    values = dict(change.split("=", 1) for change in changes)
    augmentation = {k.removeprefix("augmentation."): json.loads(v) for k, v in values.items() if k.startswith("augmentation.")}
    plain = {k: json.loads(v) for k, v in values.items() if k in names}
    return replace(settings, **plain, augmentation=replace(settings.augmentation, **augmentation))


def main() -> None:
    """Print one line of JSON per trial, then a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--radiographs", type=Path)
    parser.add_argument("--lungs", type=Path)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--structures", nargs="*", default=["scapulae", "clavicles", "kidney_left", "pulmonary_artery"])
    parser.add_argument("--shots", nargs="*", type=int, default=[1, 3, 5, 10])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="names of the structures to teach")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--set", nargs="*", default=[], help="settings of training.fit.AdaptSettings, NAME=VALUE")
    parser.add_argument("--minutes", type=float, help="most processor time [minutes]")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    pictures = regions(given.radiographs, given.lungs) if given.radiographs else {}
    pictures |= structures(given.dataset, given.structures) if given.dataset else {}
    pictures = {name: own for name, own in pictures.items() if not given.only or name in given.only}
    base = load(given.model)
    settings = changed(AdaptSettings(), given.set)
    rows = []
    for seed, (name, own), shot in product(range(given.seeds), pictures.items(), given.shots):
        if given.minutes and time.process_time() > 60 * given.minutes:
            print(f"ended before {name}, {shot} drawings, seed {seed}: {given.minutes:g} minutes are spent")
            break
        rows.append(trial(base, name, own, shot, seed, settings))
        print(json.dumps(rows[-1]), flush=True)
        if given.out:
            given.out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    print(table(rows, given.shots))
    print(f"{time.process_time() / 60:.1f} minutes of processor time for {len(rows)} trials")


def table(rows: Sequence[dict[str, Any]], shots: Sequence[int]) -> str:
    """Mean Dice per structure and number of drawings, and in brackets that of the mean mask, as Markdown."""
    names = list(dict.fromkeys(row["structure"] for row in rows))
    lines = ["| structure | " + " | ".join(map(str, shots)) + " |", "|---" * (len(shots) + 1) + "|"]
    for name in (*names, "mean"):
        cells = []
        for shot in shots:
            chosen = [r for r in rows if name in (r["structure"], "mean") and r["shots"] == shot]
            pair = [np.mean([r[what] for r in chosen]) for what in ("dice", "mean_mask")] if chosen else []
            cells.append(f"{pair[0]:.3f} ({pair[1]:.3f})" if pair else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
