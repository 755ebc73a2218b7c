"""Hearts of real radiographs, whose outlines were seen by eye (`hearts.csv`): as masks to score a model by, and beside synthetic
ones.

python benchmarks/hearts.py RADIOGRAPHS OUT [--dataset FOLDER ...]
chexanatomy evaluate --images OUT/images --masks OUT/masks --structures heart --model embedded --out REPORT

RADIOGRAPHS holds images/ of the names in the table, and lungs/ (masks, a file for each). An outline's points are x:y, both as
shares of the picture's width, in order around the heart. Of every fourth of the 83 radiographs those are in the table whose heart
has both borders to be seen. It ends where its chambers do: at the top where the left border leaves the hilum and the right one
the superior vena cava, without the pulmonary trunk; below, where nothing is to be seen, on a curve from the right border's foot
to the apex. The points were placed to about 4 mm, before any model's answer had been looked at. No model was trained on them.

Prints a table in Markdown: of hearts in frontal views, how far they reach to the right and left of the lungs' middle, where they
begin and end below the top of the lungs, width, height; of right lungs, how far below its top the dome of the diaphragm is,
and how far below the dome the lowest of the lung. All as shares of the width of both lungs together, medians, and from which to
which eight of ten lie.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from clavicles import OUTLINES, frontal
from PIL import Image, ImageDraw
from scipy import ndimage

from training.images import read_mask_png

MIDDLE = (0.25, 0.75)
"""Between which parts of a lung's width its dome is looked for."""


def main() -> None:
    """Write copies of the radiographs and a mask of each; measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("radiographs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dataset", type=Path, nargs="*", default=[])
    parser.add_argument("--cases", type=int, default=150, help="of each data set")
    options = parser.parse_args()
    write(options.radiographs, options.out)
    print("| frontal views | hearts | right | left | begin | end | width | height | lungs | dome | lung below it |")
    print("|---" * 11 + "|")
    print(row("real radiographs", real_hearts(options.radiographs, options.out), real_lungs(options.radiographs)))
    for folder in options.dataset:
        print(row(folder.name, *synthetic(folder, options.cases)))


def write(radiographs: Path, out: Path) -> None:
    """Write images/ and masks/ of the table's radiographs."""
    images, masks = out / "images", out / "masks"
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(exist_ok=True)
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            shutil.copyfile(radiographs / "images" / line["file"], images / line["file"])
            with Image.open(images / line["file"]) as picture:
                filled(line["outline"], picture.size).save(masks / line["file"])


def filled(outline: str, size: tuple[int, int]) -> Image.Image:
    """What an outline encloses, white on black, in a picture of a size (width, height)."""
    picture = Image.new("L", size)
    ImageDraw.Draw(picture).polygon([tuple(float(share) * size[0] for share in p.split(":")) for p in outline.split()], fill=255)
    return picture


def real_hearts(radiographs: Path, out: Path) -> Iterable[list[float]]:
    """Measures of the hearts that were outlined."""
    for path in sorted((out / "masks").glob("*.png")):
        heart = read_mask_png(path)
        with Image.open(radiographs / "lungs" / path.name) as picture:
            lungs = np.asarray(picture.convert("L").resize(heart.shape[::-1], Image.Resampling.NEAREST)) > 0
        yield heart_measures(heart, lungs)


def real_lungs(radiographs: Path) -> Iterable[list[float]]:
    """Measures of right lungs that end within the picture, and hang not together with the left ones."""
    for path in sorted((radiographs / "lungs").glob("*.png")):
        lungs = read_mask_png(path)
        pieces, count = ndimage.label(lungs)
        largest = np.argsort(ndimage.sum(lungs, pieces, range(1, count + 1)))[-2:] + 1
        if len(largest) == 2 and not lungs[-1].any():
            yield lung_measures(min((pieces == n for n in largest), key=lambda m: np.nonzero(m)[1].mean()), lungs)


def synthetic(folder: Path, cases: int) -> tuple[list[list[float]], list[list[float]]]:
    """Measures of hearts and of right lungs that a data set's frontal views show whole."""
    hearts, lungs = [], []
    for case, masks, both in frontal(folder, cases):
        if not set(OUTLINES) & set(case.cut_off):
            lungs.append(lung_measures(masks["lung_outline_right"], both))
            if "heart" in masks and "heart" not in case.cut_off:
                hearts.append(heart_measures(masks["heart"], both))
    return hearts, lungs


def heart_measures(heart: np.ndarray, lungs: np.ndarray) -> list[float]:
    """Right, left, begin, end, width, height of masks bool [row, column]."""
    (top, bottom), (right, left) = extent(heart, 1), extent(heart, 0)
    (apex, _), (first, last) = extent(lungs, 1), extent(lungs, 0)
    middle, unit = (first + last) / 2, last - first
    sides, ends = [(middle - right) / unit, (left - middle) / unit], [(top - apex) / unit, (bottom - apex) / unit]
    return [*sides, *ends, sum(sides), ends[1] - ends[0]]


def lung_measures(lung: np.ndarray, lungs: np.ndarray) -> list[float]:
    """Where the dome is below the top, and the lowest of the lung below it, of masks bool [row, column]."""
    (top, bottom), (first, last) = extent(lung, 1), extent(lung, 0)
    low, high = (round(first + part * (last - first)) for part in MIDDLE)
    ends = len(lung) - 1 - lung[::-1, low:high].argmax(axis=0)
    dome = ends[lung[:, low:high].any(axis=0)].min()
    unit = np.ptp(extent(lungs, 0))
    return [(dome - top) / unit, (bottom - dome) / unit]


def extent(mask: np.ndarray, across: int) -> np.ndarray:
    """First and last index along the other axis."""
    return np.flatnonzero(mask.any(axis=across))[[0, -1]]


def row(name: str, hearts: Iterable[list[float]], lungs: Iterable[list[float]]) -> str:
    """Of the table."""
    cells = [name]
    for measures in (np.array(list(hearts)), np.array(list(lungs))):
        cells.append(str(len(measures)))
        cells += ["{1:.2f} ({0:.2f} to {2:.2f})".format(*np.quantile(values, (0.1, 0.5, 0.9))) for values in measures.T]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
