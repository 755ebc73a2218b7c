"""The bodies of a run: people from files, painted where they have no CT, and procedural ones; each deformed into others."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from training.images import read_ct, read_labels
from training.images.types import CT, LabelMap
from training.synthesis.config import Subject, SynthesisConfig
from training.synthesis.deform import bounds, deform
from training.synthesis.paint import paint

ABOVE_LUNGS, BELOW_LUNGS = 130.0, 150.0
"""What is kept of a long volume beyond the lungs [mm]: more than the tallest chest field shows."""


def phantom_name(number: int) -> str:
    """Subject name of a procedural body."""
    return f"phantom-{number:05d}"


def body(config: SynthesisConfig, name: str, number: int) -> tuple[CT, LabelMap, str]:
    """Return CT, labels and provenance of body number of a subject, the same for the same configuration on every machine."""
    subjects = {s.name: s for s in config.subjects}
    rng = generator(config.seed, name, number)
    if name in subjects:
        ct, labels, provenance = _from_files(subjects[name], config.seed)
        moved = deform(ct, labels, rng, config.variation, config.grid)
        return *moved, f"{provenance}, deformed"
    from training.phantom import thorax

    ct, labels = thorax(seed=int(generator(config.seed, name, -1).integers(2**31)), spacing=config.grid)
    if number == 0:
        return ct, labels, "procedural"
    return *deform(ct, labels, rng, config.variation, config.grid), "procedural, deformed"


def generator(seed: int, name: str, number: int) -> np.random.Generator:
    """Random numbers of their own for a subject and a number, whatever else the run draws."""
    digest = hashlib.sha256(f"{seed}/{name}/{number}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


@lru_cache(maxsize=2)
def _from_files(subject: Subject, seed: int) -> tuple[CT, LabelMap, str]:
    if subject.ct:
        ct = read_ct(subject.ct)
        return ct, read_labels(subject.labels, ct, subject.label_names or None), "CT"
    labels = _thorax_of(read_labels(subject.labels, None, subject.label_names or None))
    return paint(labels, seed), labels, "painted from labels"


def _thorax_of(labels: LabelMap) -> LabelMap:
    """The slices around the lungs; all of them where no lungs are labelled."""
    lungs = bounds(labels, "lungs")
    if lungs is None:
        return labels
    z0, dz = labels.origin[2], labels.spacing[2]
    first = max(0, int((lungs[0][2] - BELOW_LUNGS - z0) / dz))
    last = min(labels.ids.shape[0], int((lungs[1][2] + ABOVE_LUNGS - z0) / dz) + 1)
    origin = (labels.origin[0], labels.origin[1], z0 + first * dz)
    return LabelMap(np.ascontiguousarray(labels.ids[first:last]), labels.members, labels.spacing, origin, labels.name)
