"""Drawing a pose, an exposure and a look for one view of one body."""

from __future__ import annotations

import numpy as np

from training.drr import Geometry, Physics, Presentation
from training.images.radiograph import FEWEST_PIXELS
from training.images.types import CT
from training.synthesis.config import Exposure, Film, Views

PRESETS = {"PA": 0.0, "AP": 180.0, "LATERAL": 90.0}


def draw_preset(views: Views, rng: np.random.Generator) -> str:
    """PA, AP or LATERAL, by their weights."""
    weights = np.array([views.pa, views.ap, views.lateral])
    return str(list(PRESETS)[rng.choice(3, p=weights / weights.sum())])


def draw_geometry(
    ct: CT, chest: tuple[np.ndarray, np.ndarray] | None, preset: str, views: Views, size: int, rng: np.random.Generator
) -> Geometry:
    """A pose around the chest; the field stays within the length of the volume, so that its ends do not show.

    chest: corners (x, y, z) of its box [mm], None where it is not labelled.
    """
    sdd, gap = views.sdd.draw(rng), views.gap.draw(rng)
    middle = np.asarray(ct.centre) if chest is None else (chest[0] + chest[1]) / 2
    middle = middle + [views.shift.draw(rng) for _ in range(3)]
    magnification = sdd / (sdd - gap)
    field = views.field.draw(rng)
    aspect = views.aspect.draw(rng)
    cropped, off = views.cropped.draw(rng), rng.uniform(-0.5, 0.5, 3)
    height = min(field, ct.size[2] * magnification)
    width = field * aspect
    if rng.random() < views.crop:
        middle = middle + off * (1 - cropped) * np.array([width, width, height]) / magnification
        height, width = height * cropped, width * cropped
    reach = height / magnification / 2
    low, high = ct.centre[2] - ct.size[2] / 2 + reach, ct.centre[2] + ct.size[2] / 2 - reach
    middle[2] = float(np.clip(middle[2], min(low, high), max(low, high)))
    rows, columns = _pixels(height, width, size)
    return Geometry(
        sdd=sdd,
        sid=sdd - gap,
        primary=PRESETS[preset] + views.primary.draw(rng),
        secondary=views.secondary.draw(rng),
        roll=views.roll.draw(rng),
        isocentre=(float(middle[0]), float(middle[1]), float(middle[2])),
        rows=rows,
        columns=columns,
        spacing=(height / rows, width / columns),
    )


def _pixels(height: float, width: float, size: int) -> tuple[int, int]:
    """Rows and columns; the shorter edge of a small picture of a flat field still has what a radiograph needs at least."""
    longer = max(height, width)
    return max(FEWEST_PIXELS, round(size * height / longer)), max(FEWEST_PIXELS, round(size * width / longer))


def draw_physics(exposure: Exposure, rng: np.random.Generator) -> Physics:
    """An exposure with noise of its own."""
    return Physics(
        kvp=exposure.kvp.draw(rng),
        aluminium=exposure.aluminium.draw(rng),
        copper=exposure.copper.draw(rng),
        exposure_index=exposure.exposure_index.draw(rng),
        grid=bool(rng.random() < exposure.grid),
        scatter=bool(rng.random() < exposure.scatter),
        detector="Gd2O2S" if rng.random() < exposure.powder else "CsI",
        seed=int(rng.integers(2**31)),
    )


def draw_presentation(film: Film, rng: np.random.Generator) -> Presentation:
    """A look of the radiograph."""
    return Presentation(
        equalisation=film.equalisation.draw(rng),
        detail=film.detail.draw(rng),
        darkest=film.darkest.draw(rng),
        brightest=film.brightest.draw(rng),
        contrast=film.contrast.draw(rng),
    )
