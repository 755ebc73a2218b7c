"""Clavicles of real radiographs, whose middle lines were seen by eye (`clavicles.csv`): whether a model finds them, and whether
synthetic ones lie where they do.

python benchmarks/clavicles.py RADIOGRAPHS [--model embedded] [--accurate] [--dataset FOLDER ...]

RADIOGRAPHS holds images/ and lungs/ (masks) of the names in the table. A line's points are x:y, both as shares of the picture's
width. A clavicle is taken to be a tube of 13 mm around it, where the picture is 380 mm wide; the lines were placed to about 4 mm,
on pictures of 384 pixels. So the Dice is rough: it tells a mask that lies on the bone from one that lies beside it. No model was
trained on them. Prints two tables in Markdown: mean Dice with its 95 % interval (over radiographs), the worst tenth, and how far
from the line the masks' pixels lie; and how far below the top of its lung the medial end of a clavicle is, and above it the
lateral one, in frontal views, lungs taken to be 280 mm wide: median, and from which to which nine of ten lie.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from scipy.stats import bootstrap

from training.dataset import Dataset
from training.images import read_mask_png, read_radiograph
from training.model import load

WIDTH, LUNGS = 380.0, 280.0
"""Of the pictures and of both lungs, assumed [mm]."""
THICKNESS = 13.0
"""Of a clavicle [mm]."""
Lines = dict[str, list[tuple[str, np.ndarray]]]


def main() -> None:
    """Ask, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("radiographs", type=Path)
    parser.add_argument("--model", nargs="*", default=["embedded"])
    parser.add_argument("--accurate", action="store_true")
    parser.add_argument("--dataset", type=Path, nargs="*", default=[])
    parser.add_argument("--cases", type=int, default=300, help="of each data set")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines: Lines = defaultdict(list)
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            lines[row["file"]].append((row["side"], np.array([point.split(":") for point in row["line"].split()], float)))
    print("| model | clavicles | Dice (95 % interval) | worst tenth | median distance to the line |\n|---|---|---|---|---|")
    for spec in options.model:
        print(found(spec, options.radiographs / "images", lines, options.accurate))
    print("\n| frontal views | clavicles | medial end below the apex | lateral end above it |\n|---|---|---|---|")
    print(places("real radiographs", real(options.radiographs / "lungs", lines)))
    for folder in options.dataset:
        print(places(folder.name, synthetic(folder, options.cases)))


def found(spec: str, folder: Path, lines: Lines, accurate: bool) -> str:
    """A model's row."""
    predictor, scores, distances = load(spec), [], []
    for name, both in lines.items():
        radiograph = read_radiograph(folder / name)
        answers = predictor.segment(radiograph, [f"clavicula_{side}" for side, _ in both], accurate=accurate)
        measured = [compare(f.mask, points, radiograph.pixels.shape) for f, (_, points) in zip(answers, both, strict=True)]
        scores.append([dice for dice, _ in measured])
        distances += [distance for _, distance in measured]
    low, high = bootstrap(([np.mean(pair) for pair in scores],), np.mean, rng=0).confidence_interval
    single = np.concatenate(scores)
    return (
        f"| {spec} | {len(single)} | {single.mean():.2f} ({low:.2f} to {high:.2f}) | {np.quantile(single, 0.1):.2f} | "
        f"{np.nanmedian(distances):.0f} mm |"
    )


def compare(mask: np.ndarray | None, points: np.ndarray, shape: tuple[int, ...]) -> tuple[float, float]:
    """Dice of a mask bool [row, column] with the tube around a line, and the median distance of its pixels to the line [mm], NaN
    where there is no mask. points: float [n, 2] (x, y) as shares of the width."""
    picture = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(picture).line([(x * shape[1], y * shape[1]) for x, y in points], fill=1)
    distance = distance_transform_edt(~np.asarray(picture)) * WIDTH / shape[1]
    tube = distance < THICKNESS / 2
    if mask is None:
        return 0.0, float("nan")
    return float(2 * (mask & tube).sum() / (mask.sum() + tube.sum())), float(np.median(distance[mask]))


def real(folder: Path, lines: Lines) -> Iterable[tuple[float, float]]:
    """Depth of the medial and height of the lateral end of each line [mm]."""
    for name, both in lines.items():
        lungs = read_mask_png(folder / name)
        columns = np.flatnonzero(lungs.any(0))
        for _, points in both:
            ends = points[[0, -1]] * lungs.shape[1]
            right = ends[0, 0] < columns.mean()
            half = lungs[:, : int(columns.mean())] if right else lungs[:, int(columns.mean()) :]
            below = (ends[:, 1] - np.flatnonzero(half.any(1))[0]) * LUNGS / np.ptp(columns)
            yield below[0], -below[1]


def synthetic(folder: Path, cases: int) -> Iterable[tuple[float, float]]:
    """The same of the whole clavicles in a data set's frontal views."""
    dataset = Dataset.open(folder)
    for case in [c for c in dataset.kept() if c.view in ("PA", "AP")][:cases]:
        masks = dataset.masks(case)
        outlines = [masks.get(f"lung_outline_{side}") for side in ("left", "right")]
        if any(m is None or not m.any() for m in outlines):
            continue
        columns = np.flatnonzero((outlines[0] | outlines[1]).any(0))
        for side, outline in zip(("left", "right"), outlines, strict=True):
            bone = masks.get(f"clavicula_{side}")
            if bone is None or not bone.any() or f"clavicula_{side}" in case.cut_off:
                continue
            away = np.abs(np.flatnonzero(bone.any(0)) - columns.mean())
            order = np.flatnonzero(bone.any(0))[np.argsort(away)]
            tenth = max(1, len(order) // 10)
            rows = [np.nonzero(bone[:, part])[0].mean() for part in (order[:tenth], order[-tenth:])]
            below = (np.array(rows) - np.flatnonzero(outline.any(1))[0]) * LUNGS / np.ptp(columns)
            yield below[0], -below[1]


def places(name: str, ends: Iterable[tuple[float, float]]) -> str:
    """A row of depths and heights."""
    both = np.array(list(ends))
    cells = [
        f"{np.median(values):.0f} mm ({np.quantile(values, 0.05):.0f} to {np.quantile(values, 0.95):.0f})" for values in both.T
    ]
    return f"| {name} | {len(both)} | {cells[0]} | {cells[1]} |"


if __name__ == "__main__":
    main()
