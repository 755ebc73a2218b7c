"""Take the pictures of docs/phantom.md and docs/synthesis.md: `python docs/make_phantom_pictures.py SAMPLE docs/images`.

SAMPLE is the folder that `chexanatomy sample ct SAMPLE` writes. About five minutes on one core.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.anatomy import vocabulary
from training.dataset import Dataset
from training.drr import Geometry, render
from training.images import CT, LabelMap, read_ct, read_labels, without_couch
from training.phantom import thorax
from training.phantom.findings import NONE, Findings
from training.phantom.parameters import draw, with_raised_arms
from training.synthesis import Subject, SynthesisConfig, synthesize
from training.synthesis.deform import extents

PEOPLE = (21, 23, 24)
SICK = {
    "effusion, opacities, sternal wires": Findings(effusion=(0.4, 0.1), opacities=2, wires=6, electrodes=4),
    "pacemaker, lines and tubes": Findings(
        pacemaker="left", central_line="right", tracheal_tube=True, gastric_tube=True, chest_tube="right"
    ),
    "lower lobectomy, nodules, clips": Findings(missing=("lung_lower_lobe_right",), nodules=3, clips=8),
    "pneumonectomy": Findings(missing=("lung_upper_lobe_left", "lung_lower_lobe_left")),
}
SCALE = 1.2
"""Millimetres a pixel of the slices."""


def main(sample: Path, folder: Path) -> None:
    """Take all pictures."""
    ct = without_couch(read_ct(sample / "ct.nii.gz"))
    labels = read_labels(sample / "labels.nii.gz", ct, sample / "label_names.csv")
    bodies = {"LIDC-IDRI-0001 (real)": (ct, labels)}
    bodies |= {f"phantom {seed}": thorax(seed, 1.5, draw(seed, NONE)) for seed in PEOPLE}
    save(stack([titled(slices(*body), name) for name, body in bodies.items()]), folder / "phantom_slices.jpg")
    views = []
    for name, (ct, labels) in bodies.items():
        side = ct, labels
        if name.startswith("phantom"):
            seed = int(name.split()[1])
            side = thorax(seed, 1.5, with_raised_arms(draw(seed, NONE), np.random.default_rng(seed)))
        views.append(titled(np.vstack([radiograph(ct, labels, 0.0), radiograph(*side, 90.0)]), name))
    save(np.hstack(views), folder / "phantom_radiographs.jpg")
    sick = []
    for number, (name, findings) in enumerate(SICK.items()):
        person = replace(draw(30 + number, NONE), findings=findings)
        sick.append(titled(radiograph(*thorax(30 + number, 1.5, person), 0.0), name))
    save(np.hstack(sick), folder / "phantom_findings.jpg")
    save(random_views(sample), folder / "synthesis_views.jpg")


def slices(ct: CT, labels: LabelMap) -> np.ndarray:
    """Axial slices at T4 and through the heart, a coronal and a sagittal one: soft tissue, lung and outlined structures."""
    spacing = np.asarray(ct.spacing)[::-1]
    middle = {}
    for name, (low, high) in extents(labels, ("vertebrae_T4", "vertebrae_T6", "heart")).items():
        middle[name] = np.round((((low + high) / 2 - ct.origin) / ct.spacing)[::-1]).astype(int)
    tiles = []
    for axis, at in ((0, middle["vertebrae_T4"]), (0, middle["heart"]), (1, middle["heart"]), (2, middle["vertebrae_T6"])):
        order = slice(None) if axis == 0 else slice(None, None, -1)
        hu, ids = (np.take(values, at[axis], axis)[order] for values in (ct.hu, labels.ids))
        pitch = np.delete(spacing, axis)
        size = [round(n * p / SCALE) for n, p in zip(hu.shape, pitch, strict=True)][::-1]
        fine = np.asarray(Image.fromarray(hu.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        names = np.asarray(Image.fromarray(ids.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
        soft, lung = window(fine, -160, 260), window(fine, -1050, 150)
        tiles.append(np.vstack([grey(lung if axis else soft), outlined(soft, names, labels)]))
    height = max(t.shape[0] for t in tiles)
    return np.hstack([np.pad(t, ((0, height - t.shape[0]), (0, 6), (0, 0))) for t in tiles])


def outlined(picture: np.ndarray, ids: np.ndarray, labels: LabelMap) -> np.ndarray:
    """A grey picture with the outline of every structure in its colour."""
    from skimage.segmentation import find_boundaries

    colours = np.full((int(labels.ids.max()) + 1, 3), 90, np.uint8)
    for number, names in labels.members.items():
        known = [n for n in names if n in vocabulary() and n != "body"]
        if known and number < len(colours):
            colours[number] = vocabulary()[known[-1]].colour
    edges = find_boundaries(ids, mode="inner")
    rgb = grey(picture)
    rgb[edges] = colours[ids[edges]]
    return rgb


def window(hu: np.ndarray, low: float, high: float) -> np.ndarray:
    """Attenuation to grey, uint8."""
    return (np.clip((hu - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def grey(picture: np.ndarray) -> np.ndarray:
    """A grey picture as red, green, blue."""
    return np.repeat(picture[..., None], 3, axis=2)


def radiograph(ct: CT, labels: LabelMap, primary: float, size: int = 380) -> np.ndarray:
    """A radiograph of the chest, red, green, blue."""
    low, high = extents(labels, ("lungs",)).get("lungs", (np.asarray(ct.origin), np.asarray(ct.origin) + ct.size))
    middle = (low + high) / 2
    middle[:2] = np.asarray(ct.centre)[:2]
    field = min(400.0, ct.size[2] * 1.1)
    pose = Geometry.view(ct, primary, isocentre=tuple(middle.tolist()), rows=size, columns=size, spacing=(field / size,) * 2)
    return grey((render(ct, pose).pixels * 255).astype(np.uint8))


def random_views(sample: Path, size: int = 240, columns: int = 6) -> np.ndarray:
    """Eighteen cases of a small synthesis run."""
    files = [str(sample / name) for name in ("ct.nii.gz", "labels.nii.gz", "label_names.csv")]
    with tempfile.TemporaryDirectory() as scratch:
        config = SynthesisConfig(
            out=f"{scratch}/data",
            subjects=(Subject("LIDC", *files),),
            phantoms=5,
            views_per_subject=3,
            views_per_body=1,
            size=384,
        )
        dataset: Dataset = synthesize(config)
        tiles = []
        for case in dataset.cases:
            pixels = (dataset.image(case).pixels * 255).astype(np.uint8)
            scale = size / max(pixels.shape)
            shape = tuple(round(n * scale) for n in pixels.shape)
            tile = np.zeros((size, size), np.uint8)
            tile[: shape[0], : shape[1]] = np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BILINEAR))
            tiles.append(grey(tile))
    return np.vstack([np.hstack(tiles[i : i + columns]) for i in range(0, len(tiles), columns)])


def titled(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture under a line of text."""
    page = Image.new("RGB", (picture.shape[1], 22))
    ImageDraw.Draw(page).text((6, 3), text, fill=(220, 220, 220), font=ImageFont.load_default(14))
    return np.vstack([np.asarray(page), picture])


def stack(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures below one another."""
    width = max(p.shape[1] for p in pictures)
    return np.vstack([np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0))) for p in pictures])


def save(picture: np.ndarray, path: Path) -> None:
    """Write a JPEG no wider than a page needs."""
    image = Image.fromarray(picture)
    image.thumbnail((1500, 2400), Image.Resampling.LANCZOS)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=82, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
