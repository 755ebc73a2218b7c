"""The bodies of a run: people from files, painted where they have no CT, and procedural ones; each deformed into others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from training.images import read_ct, read_labels, without_couch
from training.images.types import CT, LabelMap
from training.synthesis.config import Range, Subject, SynthesisConfig
from training.synthesis.deform import deform, extents
from training.synthesis.hearts import without_vessels
from training.synthesis.paint import paint

if TYPE_CHECKING:
    from training.phantom.parameters import Strays

ABOVE_LUNGS, BELOW_LUNGS = 130.0, 150.0
"""What is kept of a long volume beyond the lungs [mm]: more than the tallest chest field shows."""
BODIES_PER_PAINTING = 16
"""How many bodies in a row are made of one CT painted from labels; the next ones get other tissues and textures."""


def body(config: SynthesisConfig, name: str, number: int, lateral: bool = False) -> tuple[CT, LabelMap, str]:
    """Return CT, labels and provenance of body number of a subject, the same for the same configuration on every machine.

    lateral: the body is made for lateral views; a procedural person then raises the arms.
    """
    subjects = {s.name: s for s in config.subjects}
    rng = generator(config.seed, name, number)
    if name not in subjects:
        return _procedural(config, name, number, lateral, rng)
    from training.phantom.attach import add_findings
    from training.phantom.collar import with_other_clavicles, with_room_above
    from training.phantom.findings import draw_findings

    ct, labels, provenance = _from_files(subjects[name], config, number // BODIES_PER_PAINTING)
    places = generator(config.seed, f"{name}/clavicles", number)
    exchanged = places.random() < config.variation.others_clavicles
    if exchanged:
        ct, labels = with_room_above(ct, labels)
    ct, labels = deform(ct, labels, rng, config.variation, config.grid)
    if exchanged:
        ct, labels = with_other_clavicles(ct, labels, places, _strays(config, places))
        provenance += ", clavicles exchanged"
    findings = generator(config.seed, f"{name}/findings", number)
    return *add_findings(ct, labels, draw_findings(findings, config.findings), findings), f"{provenance}, deformed"


def arms_hang(config: SynthesisConfig, name: str) -> bool:
    """Return whether a subject's arms would cover the chest in a lateral view: never for people from files."""
    from training.phantom.parameters import draw

    return all(s.name != name for s in config.subjects) and draw(_seed(config, name)).arm_elevation < 0


def generator(seed: int, name: str, number: int) -> np.random.Generator:
    """Random numbers of their own for a subject and a number, whatever else the run draws."""
    digest = hashlib.sha256(f"{seed}/{name}/{number}".encode()).digest()
    return np.random.default_rng(np.frombuffer(digest, np.uint32))


def _seed(config: SynthesisConfig, name: str) -> int:
    return int(generator(config.seed, name, -1).integers(2**31))


def _procedural(
    config: SynthesisConfig, name: str, number: int, lateral: bool, rng: np.random.Generator
) -> tuple[CT, LabelMap, str]:
    from training.phantom import thorax
    from training.phantom.parameters import draw, with_raised_arms

    seed = _seed(config, name)
    person = draw(seed, config.findings)
    if lateral and person.arm_elevation < 0:
        person = with_raised_arms(person, np.random.default_rng([seed, 0xA2]))
    if config.variation.clavicles != Range(0.0, 0.0):
        ends = generator(config.seed, f"{name}/clavicles", number)
        left, right = _strays(config, ends)
        person = replace(person, clavicle_stray=(left, right))
    ct, labels = thorax(seed, config.grid, person)
    return *deform(ct, labels, rng, config.variation, config.grid), "procedural, deformed"


def _strays(config: SynthesisConfig, rng: np.random.Generator) -> Strays:
    """By how much the medial and the lateral end of the left and of the right clavicle are moved up [mm]."""
    up = config.variation.clavicles
    left, right = ((up.draw(rng), up.draw(rng)) for _ in range(2))
    return left, right


def _from_files(subject: Subject, config: SynthesisConfig, painting: int) -> tuple[CT, LabelMap, str]:
    ct, labels = _read(subject)
    if config.great_vessels:
        labels = _bare(subject, config.great_vessels)
    if subject.ct:
        return ct, labels, "CT"
    tissues = int(generator(config.seed, f"{subject.name}/painting", painting).integers(2**31))
    return _painted(subject, tissues), labels, "painted from labels"


@lru_cache(maxsize=2)
def _bare(subject: Subject, width: float) -> LabelMap:
    return without_vessels(_read(subject)[1], width)


@lru_cache(maxsize=1)
def _painted(subject: Subject, seed: int) -> CT:
    return paint(_read(subject)[1], seed)


@lru_cache(maxsize=2)
def _read(subject: Subject) -> tuple[CT, LabelMap]:
    """Read a subject's files, the CT without its couch; where there is no CT it is empty."""
    if subject.ct:
        ct = read_ct(subject.ct)
        return without_couch(ct), read_labels(subject.labels, ct, subject.label_names or None)
    labels = _thorax_of(read_labels(subject.labels, None, subject.label_names or None))
    return CT(np.empty((0, 0, 0), np.int16), labels.spacing, labels.origin), labels


def _thorax_of(labels: LabelMap) -> LabelMap:
    """The slices around the lungs; all of them where no lungs are labelled."""
    lungs = extents(labels, ("lungs",)).get("lungs")
    if lungs is None:
        return labels
    z0, dz = labels.origin[2], labels.spacing[2]
    first = max(0, int((lungs[0][2] - BELOW_LUNGS - z0) / dz))
    last = min(labels.ids.shape[0], int((lungs[1][2] + ABOVE_LUNGS - z0) / dz) + 1)
    origin = (labels.origin[0], labels.origin[1], z0 + first * dz)
    return LabelMap(np.ascontiguousarray(labels.ids[first:last]), labels.members, labels.spacing, origin, labels.name)
