"""Sets synthetic radiographs beside real ones: grey levels, local contrast, power spectra, as a table and as curves.

    python benchmarks/compare_with_real.py REAL --subjects SUBJECTS.csv --phantoms 4 --out docs/images

REAL holds images/NAME.png (bone bright) and lungs/NAME.png (mask) under the same names, and index.csv (file,view); SUBJECTS.csv
is the table that `chexanatomy synthesize` takes. All pictures are brought to one scale: the lungs are 320 pixels wide.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.morphology import convex_hull_image
from skimage.transform import resize

from training.anatomy import resolve
from training.drr import Geometry, Physics, Presentation, expose, present, project_labels, tissue_paths
from training.images import read_ct, read_labels, read_mask_png, read_radiograph
from training.images.types import CT, LabelMap
from training.phantom import thorax
from training.synthesis.config import read_subjects
from training.synthesis.paint import paint

LUNGS_WIDE = 320
"""Pixels between the outer edges of the lungs; one is about 0.85 mm in an adult."""
MARGIN = 0.16
"""Shown around the lungs, of their width."""
BANDS = ((1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (8.0, 16.0))
"""Widths of two Gaussians whose difference is a band [pixels]."""
PIXELS = 700
COLOURS = ("black", "tab:orange", "tab:green", "tab:blue", "tab:red", "tab:purple", "tab:brown", "tab:pink")
VIEWS = {"PA": 0.0, "AP": 180.0}


@dataclass(frozen=True, eq=False)
class Picture:
    """One radiograph around the lungs: pixels [row, column] in 0..1, lungs bool, inside = their convex hull, bool."""

    name: str
    pixels: np.ndarray
    lungs: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True, eq=False)
class Shot:
    """A projected body, ready to be exposed: tissue paths, pose, lungs."""

    name: str
    paths: np.ndarray
    geometry: Geometry
    lungs: np.ndarray

    def picture(self, physics: Physics, look: Presentation) -> Picture:
        """The radiograph with a physics and a look."""
        shot = expose(self.paths, self.geometry, physics)
        return framed(self.name, present(shot.attenuation, self.geometry.spacing, look), self.lungs)


def framed(name: str, pixels: np.ndarray, lungs: np.ndarray) -> Picture:
    """Crop to the lungs and a margin, and bring to the common scale."""
    rows, columns = (np.flatnonzero(lungs.any(axis=a)) for a in (1, 0))
    margin = round(MARGIN * (columns[-1] - columns[0]))
    cut = tuple(slice(max(0, r[0] - margin), r[-1] + margin) for r in (rows, columns))
    scale = LUNGS_WIDE / (columns[-1] - columns[0] + 1)
    size = tuple(round(n * scale) for n in pixels[cut].shape)
    small = resize(pixels[cut].astype(np.float32), size, order=1, anti_aliasing=scale < 1)
    mask = resize(lungs[cut].astype(np.float32), size, order=1) > 0.5
    return Picture(name, small, mask, convex_hull_image(mask))


def real_pictures(folder: Path) -> Iterator[Picture]:
    """Real radiographs by the order of their index."""
    with (folder / "index.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            pixels = read_radiograph(folder / "images" / row["file"]).pixels
            yield framed(row["view"], pixels, read_mask_png(folder / "lungs" / row["file"]))


def shots(subjects: Path, phantoms: int) -> Iterator[Shot]:
    """Every body from PA and AP, the tube aimed at the middle of the lungs."""
    for subject in read_subjects(subjects):
        ct = read_ct(subject.ct) if subject.ct else None
        labels = read_labels(subject.labels, ct, subject.label_names or None)
        yield from _views(subject.name, ct or paint(labels, 0), labels)
    for seed in range(phantoms):
        yield from _views(f"phantom {seed}", *thorax(seed=seed))


def _views(name: str, ct: CT, labels: LabelMap) -> Iterator[Shot]:
    found = np.argwhere(labels.mask(*resolve(labels.structures)["lungs"]))
    middle = (found.min(axis=0) + found.max(axis=0))[::-1] / 2 * labels.spacing + labels.origin
    for view, primary in VIEWS.items():
        pose = Geometry.view(ct, primary, rows=PIXELS, columns=PIXELS, isocentre=tuple(map(float, middle)))
        outlines = project_labels(labels, pose, ["lung_outline_left", "lung_outline_right"])
        yield Shot(f"{name} {view}", tissue_paths(ct, pose), pose, np.logical_or(*outlines.values()))


def levels(picture: Picture) -> dict[str, float]:
    """Grey levels: lungs, what lies between them, their distance, darkest and brightest in the hull, share burnt out."""
    between = picture.inside & ~picture.lungs
    lung, middle = np.median(picture.pixels[picture.lungs]), np.median(picture.pixels[between])
    low, high = np.percentile(picture.pixels[picture.inside], (1, 99))
    return {
        "lungs": lung,
        "between": middle,
        "contrast": middle - lung,
        "spread in lungs": np.subtract(*np.percentile(picture.pixels[picture.lungs], (90, 10))),
        "1 %": low,
        "99 %": high,
        "white": np.mean(picture.pixels[picture.inside] > 0.98),
        "black": np.mean(picture.pixels[picture.inside] < 0.02),
    }


def local_contrast(picture: Picture) -> np.ndarray:
    """RMS of each band in the lungs, over the range from 1 % to 99 % in the hull, float [band]."""
    low, high = np.percentile(picture.pixels[picture.inside], (1, 99))
    blurred = {s: ndimage.gaussian_filter(picture.pixels, s) for s in {s for band in BANDS for s in band}}
    core = ndimage.binary_erosion(picture.lungs, iterations=6)
    return np.array([np.sqrt(np.mean((blurred[a] - blurred[b])[core] ** 2)) for a, b in BANDS]) / max(high - low, 1e-6)


def spectrum(picture: Picture) -> np.ndarray:
    """Radial power spectrum of the middle 256 x 256 pixels over the squared range, float [128], frequency k / 256 per pixel."""
    low, high = np.percentile(picture.pixels[picture.inside], (1, 99))
    centre = np.argwhere(picture.inside).mean(axis=0).astype(int)
    padded = np.pad(picture.pixels, 128, mode="reflect")
    tile = padded[centre[0] : centre[0] + 256, centre[1] : centre[1] + 256]
    window = np.outer(np.hanning(256), np.hanning(256))
    power = np.abs(np.fft.fft2((tile - np.average(tile, weights=window)) * window / max(high - low, 1e-6))) ** 2 / np.sum(
        window**2
    )
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256) * 256, np.fft.fftfreq(256) * 256))
    return ndimage.mean(power, frequency.round().astype(int), np.arange(128))


def histogram(pictures: list[Picture], region: str) -> np.ndarray:
    """Mean share of the pixels of a region ("lungs" or "inside") per grey level, float [50]."""
    return np.mean(
        [np.histogram(p.pixels[getattr(p, region)], 50, (0, 1))[0] / getattr(p, region).sum() for p in pictures], axis=0
    )


def table(groups: dict[str, list[Picture]]) -> str:
    """Medians, with the 5th and 95th percentile, of every measure per group, as Markdown."""
    measured = {name: [{**levels(p), **_named_bands(p)} for p in pictures] for name, pictures in groups.items()}
    lines = [
        "| | " + " | ".join(f"{name} ({len(values)})" for name, values in measured.items()) + " |",
        "|---|" + "---|" * len(groups),
    ]
    for key in next(iter(measured.values()))[0]:
        cells = (np.percentile([value[key] for value in values], (50, 5, 95)) for values in measured.values())
        lines.append(f"| {key} | " + " | ".join(f"{m:.3f} ({low:.3f} to {high:.3f})" for m, low, high in cells) + " |")
    return "\n".join(lines)


def _named_bands(picture: Picture) -> dict[str, float]:
    return {f"RMS {a:g}-{b:g} px": v for (a, b), v in zip(BANDS, local_contrast(picture), strict=True)}


def draw_curves(groups: dict[str, list[Picture]], path: Path) -> None:
    """Histograms, local contrast and power spectra of the groups."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.4), layout="constrained")
    lungs, inside, bands, power = figure.subplots(1, 4)
    for i, (name, pictures) in enumerate(groups.items()):
        style = {"color": COLOURS[i], "label": name, "linewidth": 2.2 if i == 0 else 1.3}
        for axis, region in ((lungs, "lungs"), (inside, "inside")):
            axis.plot(np.linspace(0.01, 0.99, 50), histogram(pictures, region), **style)
        low, middle, high = np.percentile([local_contrast(p) for p in pictures], (5, 50, 95), axis=0) * 100
        bands.plot(middle, marker="o", **style)
        spectra = np.array([spectrum(p) for p in pictures])[:, 2:]
        power.loglog(np.arange(2, 128) / 256, np.median(spectra, axis=0), **style)
        if i == 0:
            bands.fill_between(range(len(BANDS)), low, high, color=COLOURS[0], alpha=0.15)
            power.fill_between(np.arange(2, 128) / 256, *np.percentile(spectra, (5, 95), axis=0), color=COLOURS[0], alpha=0.15)
    lungs.set(title="lungs", xlabel="grey level", ylabel="share of pixels")
    inside.set(title="lungs and what lies between", xlabel="grey level")
    bands.set(title="local contrast in the lungs", ylabel="RMS, % of the range", xlabel="band [pixels]")
    bands.set_xticks(range(len(BANDS)), [f"{a:g}-{b:g}" for a, b in BANDS])
    power.set(title="power spectrum", xlabel="frequency [1/pixel]")
    lungs.legend(fontsize=8)
    figure.savefig(path, dpi=90)


def draw_pictures(rows: list[list[Picture]], path: Path, height: int = 300) -> None:
    """Rows of pictures, square."""
    from PIL import Image

    tiles = []
    for pictures in rows:
        for picture in pictures:
            grey = Image.fromarray((np.clip(picture.pixels, 0, 1) * 255).astype(np.uint8))
            edge = max(grey.size)
            square = Image.new("L", (edge, edge))
            square.paste(grey, ((edge - grey.width) // 2, (edge - grey.height) // 2))
            tiles.append(np.asarray(square.resize((height, height), Image.Resampling.LANCZOS)))
    wide = len(rows[0])
    Image.fromarray(np.vstack([np.hstack(tiles[i : i + wide]) for i in range(0, len(tiles), wide)])).save(path, optimize=True)


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path)
    parser.add_argument("--subjects", type=Path, required=True)
    parser.add_argument("--phantoms", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder for physics_curves.png")
    parser.add_argument("--pictures", type=Path, help="a PNG of synthetic pictures above real ones, to look at")
    arguments = parser.parse_args()
    real = list(real_pictures(arguments.real))
    made = [
        (shot.name, shot.picture(Physics(seed=i), Presentation()))
        for i, shot in enumerate(shots(arguments.subjects, arguments.phantoms))
    ]
    groups = {"real": real}
    for name, picture in made:
        groups.setdefault("phantoms" if name.startswith("phantom") else name.rsplit(" ", 1)[0], []).append(picture)
    print(table({"real": real, "synthetic": [picture for _, picture in made], **groups}))
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw_curves(groups, arguments.out / "physics_curves.png")
    if arguments.pictures:
        flat_to_hard = sorted(real, key=lambda p: levels(p)["contrast"])
        chosen = [flat_to_hard[round(q * (len(real) - 1))] for q in (0.15, 0.4, 0.6, 0.8, 0.95)]
        draw_pictures([[picture for name, picture in made if name.endswith("PA")][:5], chosen], arguments.pictures)


if __name__ == "__main__":
    main()
