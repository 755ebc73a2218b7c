"""Clavicles of real radiographs, whose middle lines were seen by eye (`clavicles.csv`): whether a model finds them, and whether
synthetic ones lie where they do.

python benchmarks/clavicles.py RADIOGRAPHS [--model embedded] [--accurate] [--run RUN ...] [--unet UNET ...]
    [--dataset FOLDER ...]

RADIOGRAPHS holds images/ and lungs/ (masks) of the names in the table. A line's points are x:y, both as shares of the
picture's width. A clavicle is taken to be a tube of 13 mm around it, where the picture is 380 mm wide; the lines were placed
to about 4 mm, on pictures of 384 pixels. So the Dice is rough: it tells a mask that lies on the bone from one that lies
beside it. No model was trained on them. RUN is the folder of a training run; what the head of its auxiliary loss draws, which
only a model that reads keeps, tells how much of a clavicle the vision tower sees, and, in codes and in the boxes of the
answers, how much of it the decoder could write; UNET is the checkpoint of a run with `train --unet`. Prints two tables in
Markdown: mean Dice with its 95 % interval (over radiographs), the worst tenth, and how far from the line the masks' pixels
lie; and, in frontal views, lungs taken to be 280 mm wide, how far below the top of its lung the medial end of a clavicle is,
how far above it the lateral one (whole clavicles alone), by how much its medial 60 mm rise, by how much it is brighter than
what lies 2.5 to 10 mm beside it, in standard deviations of the picture, and how wide both lungs are together 20, 40 and 60 mm
below their top, as shares of their greatest width: medians, and from which to which nine of ten lie.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

from training.dataset import Case, Dataset
from training.evaluate.metrics import dice
from training.evaluate.tables import Row, estimate
from training.fit.dense import DenseHead
from training.fit.pupils import reading_of
from training.fit.state import averaged
from training.images import Radiograph, read_mask_png, read_radiograph
from training.model import Predictor, load
from training.model.packing import see
from training.model.preprocess import stretch
from training.model.unet import load_unet
from training.tokens.codebook import crop_mask, paste_mask

WIDTH, LUNGS = 380.0, 280.0
"""Of the pictures and of both lungs, assumed [mm]."""
THICKNESS = 13.0
"""Of a clavicle [mm]."""
MIDDLE = 8.0
"""Width of the part around a line that is bone for certain [mm]."""
BESIDE = (2.5, 10.0)
"""How far from the bone its surroundings are [mm]."""
DEPTHS = (20, 40, 60)
"""Below the top of the lungs [mm]."""
MEDIAL = 60.0
"""Length of the part of a clavicle whose rise is measured [mm]."""
SEEN = 50
"""Pixels of a clavicle from which on it is measured."""
OUTLINES = ("lung_outline_left", "lung_outline_right")
Lines = dict[str, list[tuple[str, np.ndarray]]]
Segment = Callable[[Radiograph, list[str]], Sequence[Any]]
"""What returns a `structure` and a `mask` for each name: a Finding or a Drawn."""


def main() -> None:
    """Ask, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("radiographs", type=Path)
    parser.add_argument("--model", nargs="*", default=["embedded"])
    parser.add_argument("--accurate", action="store_true")
    parser.add_argument("--run", type=Path, nargs="*", default=[])
    parser.add_argument("--unet", type=Path, nargs="*", default=[])
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
        print(found(spec, partial(load(spec).segment, accurate=options.accurate), options.radiographs / "images", lines))
    for run in options.run:
        head = Head.of(run)
        print(found(f"{run.name}, its answers", head.predictor.segment, options.radiographs / "images", lines))
        print(found(f"{run.name}, its head", head.segment, options.radiographs / "images", lines))
        print(found(f"{run.name}, the head's masks in the answers' boxes", head.reframed, options.radiographs / "images", lines))
    for unet in options.unet:
        print(found(f"{unet.parent.name}, a U-Net", load_unet(unet).segment, options.radiographs / "images", lines))
    print(
        "\n| frontal views | clavicles | medial end below the top of the lung | lateral end above it | rise "
        "| brighter by | lungs | "
        + " | ".join(f"width {depth} mm below" for depth in DEPTHS)
        + f" |\n{'|---' * (7 + len(DEPTHS))}|"
    )
    print(shape_row("real radiographs", real(options.radiographs, lines), real_lungs(options.radiographs / "lungs")))
    for folder in options.dataset:
        print(shape_row(folder.name, synthetic(folder, options.cases), synthetic_lungs(folder, options.cases)))


@dataclass(frozen=True)
class Drawn:
    """A structure's mask, bool [row, column]."""

    structure: str
    mask: np.ndarray


@dataclass(frozen=True)
class Head:
    """What a training run's tower and the head of its auxiliary loss draw. keys: the structures that the head knows, in order."""

    predictor: Predictor
    head: DenseHead
    keys: Sequence[str]

    @classmethod
    def of(cls, run: Path) -> Head:
        """Those of a run's last state: the average of its weights."""
        predictor = load(run / "checkpoint")
        keys, factor = predictor.card["structures"], predictor.card["training"]["settings"]["dense_factor"]
        reader = reading_of(predictor.model)
        weights = averaged(run, "head") if reader is None else {f"linear.{n}": w for n, w in reader.read.state_dict().items()}
        values, width = weights["linear.weight"].shape
        head = DenseHead(width, values // factor**2, factor)
        head.load_state_dict(weights)
        return cls(predictor, head, keys)

    @torch.inference_mode()
    def segment(self, radiograph: Radiograph, structures: Sequence[str]) -> list[Drawn]:
        """Their masks, as many as there are names."""
        pixels, place = self.predictor.prepare(radiograph.pixels)
        seen = see(self.predictor.model, pixels, packed=self.predictor.checkpoint.packed).vision
        square = functional.interpolate(self.head(seen), (place.size, place.size), mode="bilinear", align_corners=False)
        rows, columns = (round(edge * place.scale) for edge in place.shape)
        part = square[:, :, place.top : place.top + rows, place.left : place.left + columns]
        masks = (functional.interpolate(part, place.shape, mode="bilinear", align_corners=False)[0] > 0).numpy()
        return [Drawn(key, masks[self.keys.index(key)]) for key in structures]

    @torch.inference_mode()
    def reframed(self, radiograph: Radiograph, structures: Sequence[str]) -> list[Drawn]:
        """The same masks in codes, framed by the boxes of the model's answers: what is lost in writing boxes, and not codes."""
        answers, codebook = self.predictor.segment(radiograph, structures), self.predictor.checkpoint.codebook
        assert codebook is not None
        drawn = self.segment(radiograph, structures)
        for number, (answer, seen) in enumerate(zip(answers, drawn, strict=True)):
            mask = np.zeros_like(seen.mask)
            if answer.box is not None:
                codes = codebook.encode(torch.from_numpy(crop_mask(seen.mask, answer.box))[None])
                mask = paste_mask(codebook.decode(codes)[0].numpy(), answer.box, seen.mask.shape)
            drawn[number] = Drawn(seen.structure, mask)
        return drawn


def found(name: str, segment: Segment, folder: Path, lines: Lines) -> str:
    """A model's row."""
    rows, distances = [], []
    for file, both in lines.items():
        radiograph = read_radiograph(folder / file)
        answers = segment(radiograph, [f"clavicula_{side}" for side, _ in both])
        for finding, (_, points) in zip(answers, both, strict=True):
            away = distance(points, radiograph.pixels.shape)
            mask = np.zeros(away.shape, bool) if finding.mask is None else finding.mask
            rows.append(Row(name, file, file, finding.structure, dice(mask, away < THICKNESS / 2), np.nan))
            distances += [np.median(away[mask])] if mask.any() else []
    mean, worst = estimate(rows), np.quantile([row.dice for row in rows], 0.1)
    return (
        f"| {name} | {len(rows)} | {mean.mean:.2f} ({mean.low:.2f} to {mean.high:.2f}) | {worst:.2f} | "
        f"{np.median(distances):.0f} mm |"
    )


def distance(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """How far each pixel [row, column] of a picture of a shape is from a line [mm]. points: float [n, 2] (x, y) as shares of the
    width."""
    picture = Image.new("1", (shape[1], shape[0]))
    ImageDraw.Draw(picture).line([(x * shape[1], y * shape[1]) for x, y in points], fill=1)
    away: np.ndarray = distance_transform_edt(~np.asarray(picture)) * WIDTH / shape[1]
    return away


def real(folder: Path, lines: Lines) -> Iterable[tuple[float, float, float, float]]:
    """Depth of the medial and height of the lateral end of each line [mm], its rise [degrees], and by how much it is brighter
    than its surroundings."""
    for name, both in lines.items():
        lungs, pixels = read_mask_png(folder / "lungs" / name), read_radiograph(folder / "images" / name).pixels
        columns = np.flatnonzero(lungs.any(0))
        for _, points in both:
            line = points * lungs.shape[1]
            ends, shown = line[[0, -1]], np.argwhere(distance(points, lungs.shape) <= WIDTH / lungs.shape[1])[:, ::-1]
            right = ends[0, 0] < columns.mean()
            half = lungs[:, : int(columns.mean())] if right else lungs[:, int(columns.mean()) :]
            scale = LUNGS / np.ptp(columns)
            below = (ends[:, 1] - np.flatnonzero(half.any(1))[0]) * scale
            bone = distance(points, pixels.shape) < MIDDLE / 2
            clear = brighter(pixels, bone, WIDTH / pixels.shape[1])
            yield below[0], -below[1], rise(shown * scale, ends[0] * scale), clear


def brighter(pixels: np.ndarray, bone: np.ndarray, pitch: float) -> float:
    """By how much a bone, bool [row, column], is brighter in the mean than its surroundings, in standard deviations of the
    picture as the model sees it. pitch: of the pixels [mm]."""
    seen, away = stretch(pixels), distance_transform_edt(~bone) * pitch
    return float((seen[bone].mean() - seen[(away > BESIDE[0]) & (away < BESIDE[1])].mean()) / seen.std())


def rise(points: np.ndarray, medial: np.ndarray) -> float:
    """By how much the first `MEDIAL` mm of a clavicle rise towards its lateral end [degrees]. points: float [n, 2] (x, y) of its
    pixels [mm]; medial: its medial end."""
    near = points[np.hypot(*(points - medial).T) < MEDIAL]
    along = np.linalg.svd(near - near.mean(0), full_matrices=False)[2][0]
    along = along if along @ (near.mean(0) - medial) > 0 else -along
    return float(np.degrees(np.arctan2(-along[1], abs(along[0]))))


def real_lungs(folder: Path) -> Iterable[list[float]]:
    """Relative widths of both lungs at DEPTHS."""
    for path in sorted(folder.glob("*.png")):
        yield from widths(read_mask_png(path))


def frontal(folder: Path, cases: int) -> Iterable[tuple[Case, dict[str, np.ndarray], np.ndarray]]:
    """Case, masks and both lungs' outlines of a data set's frontal views that show them."""
    dataset = Dataset.open(folder)
    for case in [c for c in dataset.kept() if c.view in ("PA", "AP")][:cases]:
        masks = dataset.masks(case)
        outlines = [masks[name] for name in OUTLINES if name in masks]
        if len(outlines) == len(OUTLINES):
            yield case, masks, outlines[0] | outlines[1]


def synthetic(folder: Path, cases: int) -> Iterable[tuple[float, float, float, float]]:
    """As `real`, of the clavicles in a data set's frontal views; no ends of those that the picture cuts off."""
    dataset = Dataset.open(folder)
    for case, masks, lungs in frontal(folder, cases):
        columns, pixels = np.flatnonzero(lungs.any(0)), dataset.image(case).pixels
        for name in ("clavicula_left", "clavicula_right"):
            bone = masks.get(name)
            if bone is None or bone.sum() < SEEN:
                continue
            shown = np.flatnonzero(bone.any(0))
            order = shown[np.argsort(np.abs(shown - columns.mean()))]
            tenth = max(1, len(order) // 10)
            rows = [np.nonzero(bone[:, part])[0].mean() for part in (order[:tenth], order[-tenth:])]
            top = np.flatnonzero(masks[name.replace("clavicula", "lung_outline")].any(1))[0]
            scale = LUNGS / np.ptp(columns)
            below = (np.array(rows) - top) * scale if name not in case.cut_off else np.full(2, np.nan)
            medial = np.array([order[:tenth].mean(), rows[0]])
            clear = brighter(pixels, bone, scale)
            yield below[0], -below[1], rise(np.argwhere(bone)[:, ::-1] * scale, medial * scale), clear


def synthetic_lungs(folder: Path, cases: int) -> Iterable[list[float]]:
    """As `real_lungs`, where no lung is cut off."""
    for case, _, lungs in frontal(folder, cases):
        if not set(OUTLINES) & set(case.cut_off):
            yield from widths(lungs)


def widths(lungs: np.ndarray) -> Iterable[list[float]]:
    """The widths of lungs bool [row, column] that do not begin at the picture's edge, nothing of others."""
    columns, top = np.flatnonzero(lungs.any(0)), np.flatnonzero(lungs.any(1))[0]
    at = [top + round(depth / LUNGS * np.ptp(columns)) for depth in DEPTHS]
    if top > 0 and at[-1] < len(lungs):
        yield [np.ptp(np.flatnonzero(lungs[row])) / np.ptp(columns) if lungs[row].any() else 0.0 for row in at]


def shape_row(name: str, ends: Iterable[tuple[float, float, float, float]], shares: Iterable[list[float]]) -> str:
    """Of the table of shapes."""
    both, wide = np.array(list(ends)), np.array(list(shares))
    cells = [name, str(len(both)), *(spanned(v, 0, unit) for v, unit in zip(both.T, (" mm", " mm", " degrees"), strict=False))]
    cells += [spanned(both[:, 3], 2), str(len(wide)), *(spanned(v, 2) for v in wide.T)]
    return f"| {' | '.join(cells)} |"


def spanned(values: np.ndarray, digits: int, unit: str = "") -> str:
    """Their median, and from which to which nine of ten lie."""
    median, low, high = np.nanquantile(values, (0.5, 0.05, 0.95))
    return f"{median:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
