"""Drawing a pose and a film for one view of one body."""

from __future__ import annotations

import numpy as np

from training.drr import Geometry, Presentation
from training.images.types import CT, LabelMap
from training.synthesis.config import Film, Views
from training.synthesis.deform import bounds

PRESETS = {"PA": 0.0, "AP": 180.0, "LATERAL": 90.0}


def draw_geometry(ct: CT, labels: LabelMap, views: Views, size: int, rng: np.random.Generator) -> Geometry:
    """A chest pose around the lungs; the field stays within the length of the volume, so that its ends do not show."""
    weights = np.array([views.pa, views.ap, views.lateral])
    primary = list(PRESETS.values())[rng.choice(3, p=weights / weights.sum())]
    sdd, gap = views.sdd.draw(rng), views.gap.draw(rng)
    middle = np.asarray(ct.centre)
    lungs = bounds(labels, "lungs")
    if lungs is not None:
        middle = (lungs[0] + lungs[1]) / 2
    middle = middle + [views.shift.draw(rng) for _ in range(3)]
    magnification = sdd / (sdd - gap)
    field = views.field.draw(rng)
    aspect = views.aspect.draw(rng)
    height = min(field, ct.size[2] * magnification)
    reach = height / magnification / 2
    low, high = ct.centre[2] - ct.size[2] / 2 + reach, ct.centre[2] + ct.size[2] / 2 - reach
    middle[2] = float(np.clip(middle[2], min(low, high), max(low, high)))
    width = field * aspect
    rows, columns = _pixels(height, width, size)
    return Geometry(
        sdd=sdd,
        sid=sdd - gap,
        primary=primary + views.primary.draw(rng),
        secondary=views.secondary.draw(rng),
        roll=views.roll.draw(rng),
        isocentre=(float(middle[0]), float(middle[1]), float(middle[2])),
        rows=rows,
        columns=columns,
        spacing=(height / rows, width / columns),
    )


def _pixels(height: float, width: float, size: int) -> tuple[int, int]:
    longer = max(height, width)
    return max(2, round(size * height / longer)), max(2, round(size * width / longer))


def draw_presentation(film: Film, rng: np.random.Generator) -> Presentation:
    """A presentation of the radiograph."""
    return Presentation(
        equalisation=film.equalisation.draw(rng),
        darkest=film.darkest.draw(rng),
        brightest=film.brightest.draw(rng),
        contrast=film.contrast.draw(rng),
    )
