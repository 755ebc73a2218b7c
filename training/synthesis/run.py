"""The synthesis run: bodies x views to cases on disk, on several processes or a Dask cluster, resumable after a kill."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training import __version__
from training.dataset import Case, Dataset
from training.drr import project_labels, render
from training.errors import BrokenDataset
from training.images.identity import neutral_texts
from training.images.types import CT, LabelMap
from training.progress import ProgressCallback, report
from training.synthesis.bodies import arms_hang, body, generator
from training.synthesis.config import Subject, SynthesisConfig
from training.synthesis.deform import Box, extents
from training.synthesis.marks import draw_overlay
from training.synthesis.poses import draw_geometry, draw_physics, draw_presentation, draw_preset
from training.synthesis.workers import in_order

SMALLEST_MASK = 12
"""Masks of fewer pixels are too small to say whether the structure is in the picture: neither present nor absent."""


@dataclass(frozen=True)
class Unit:
    """One body and the views still to be taken of it."""

    subject: str
    number: int
    views: tuple[int, ...]


def synthesize(config: SynthesisConfig, progress: ProgressCallback | None = None) -> Dataset:
    """Make the data set, or what is missing of it. Cases come in the same order and alike for any number of workers.

    progress: values "views_per_minute" and "seconds_left" once something is made. Raises BrokenDataset when the folder holds data
    of another configuration or another run adds to it, and what reading the subjects raises.
    """
    with Dataset.adding(config.out) as dataset:
        _keep_plan(dataset, config)
        units = _missing(config, {c.id for c in dataset.cases})
        total = (len(config.subjects) + config.phantoms) * config.views_per_subject
        report(progress, len(dataset.cases), total, "Synthesizing")
        before, start = len(dataset.cases), time.monotonic()
        for cases in in_order(partial(make_unit, config), units, config.workers, config.dask):
            for case in cases:
                dataset.commit(case)
            done = len(dataset.cases)
            rate = (done - before) / max(1e-3, time.monotonic() - start)
            left = (total - done) / rate
            text = f"Synthesizing: {60 * rate:.0f} views a minute, {_duration(left)} left"
            report(progress, done, total, text, views_per_minute=60 * rate, seconds_left=left)
    return dataset


def make_unit(config: SynthesisConfig, unit: Unit) -> list[Case]:
    """Write image and masks of a unit's views; the cases are returned for the one writer of cases.jsonl to commit."""
    presets = {view: draw_preset(config.views, _of_view(config, unit.subject, view, "preset")) for view in unit.views}
    twice = "LATERAL" in presets.values() and arms_hang(config, unit.subject)
    cases = {}
    for lateral in (False, True) if twice else (False,):
        views = [v for v in unit.views if not twice or (presets[v] == "LATERAL") == lateral]
        if not views:
            continue
        ct, labels, provenance = body(config, unit.subject, unit.number, lateral)
        person = (ct, labels, _chest(labels))
        for view in views:
            cases[view] = _make_case(config, unit.subject, view, presets[view], person, provenance)
    return [cases[view] for view in unit.views]


def _make_case(
    config: SynthesisConfig, subject: str, view: int, preset: str, person: tuple[CT, LabelMap, Box | None], provenance: str
) -> Case:
    ct, labels, chest = person
    geometry = draw_geometry(ct, chest, preset, config.views, config.size, _of_view(config, subject, view, "pose"))
    rng = _of_view(config, subject, view, "film")
    radiograph = render(ct, geometry, draw_physics(config.exposure, rng), draw_presentation(config.film, rng))
    shape = (geometry.rows, geometry.columns)
    overlay = draw_overlay(config.marks, shape, preset, _of_view(config, subject, view, "marks"))
    masks = {s: m for s, m in project_labels(labels, geometry).items() if config.keeps(s)}
    if not overlay.open_field.all():
        masks = {s: m & overlay.open_field for s, m in masks.items()}
    areas = {s: int(np.count_nonzero(m)) for s, m in masks.items()}
    kept = {s: m for s, m in masks.items() if areas[s] >= SMALLEST_MASK}
    edge = _edge(overlay.open_field)
    name = case_id(subject, view)
    case = Case(
        id=name,
        subject=subject,
        view=geometry.view_name,
        geometry=geometry.to_dict(),
        image=f"images/{name}.png",
        present=tuple(kept),
        absent=tuple(s for s, area in areas.items() if area == 0),
        cut_off=tuple(s for s, m in kept.items() if m[edge].any()),
        provenance=provenance,
        seed=config.seed,
        version=__version__,
    )
    picture = type(radiograph)(overlay.over(radiograph.pixels), radiograph.spacing, radiograph.view, radiograph.name)
    Dataset(Path(config.out), []).write_files(case, picture, kept)
    return case


def _chest(labels: LabelMap) -> Box | None:
    """Corners (x, y, z) of what a chest radiograph is centred on [mm]: as wide as the ribs, where one lung may be missing."""
    boxes = extents(labels, ("lungs", "ribs"))
    if "lungs" not in boxes:
        return None
    (low, high), wide = boxes["lungs"], boxes.get("ribs", boxes["lungs"])
    return np.array([*wide[0][:2], low[2]]), np.array([*wide[1][:2], high[2]])


def case_id(subject: str, view: int) -> str:
    """Id of a subject's case, unique in its data set."""
    return f"{subject}-{view:05d}"


def _of_view(config: SynthesisConfig, subject: str, view: int, what: str) -> np.random.Generator:
    """Random numbers of their own for one part of a view: another distribution of one part leaves the others as they are."""
    return generator(config.seed, f"{subject}/{what}", view)


def _edge(field: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of the outermost pixels [row, column] of what the picture shows."""
    inner = np.zeros_like(field)
    inner[1:-1, 1:-1] = field[:-2, 1:-1] & field[2:, 1:-1] & field[1:-1, :-2] & field[1:-1, 2:]
    return np.nonzero(field & ~inner)


def _duration(seconds: float) -> str:
    """A time to wait, in the unit a person would use."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _keep_plan(dataset: Dataset, config: SynthesisConfig) -> None:
    """Store what the data are drawn from, or check that it is what they were drawn from before."""
    plan = dataset.folder / "synthesis.json"
    text = replace(config, subjects=tuple(map(_without_patient, config.subjects))).to_json()
    if dataset.cases:
        if not plan.exists():
            raise BrokenDataset(f"{dataset.folder.name} holds cases that were not synthesized: name a new folder.")
        if _in_place(plan.read_text(encoding="utf-8")) != _in_place(text):
            raise BrokenDataset(
                f"{dataset.folder.name} was made with another configuration: name a new folder, or repeat that one."
            )
    part = plan.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, plan)


def _in_place(plan: str) -> Any:
    """A plan to compare, the same whether its paths are relative or not; None for what is none."""
    try:
        values = json.loads(plan)
        for subject in values["subjects"]:
            subject.update({k: os.path.abspath(subject[k]) for k in ("ct", "labels", "label_names") if subject[k]})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return values


def _without_patient(subject: Subject) -> Subject:
    """Paths as a data set may keep them: stand-ins for those that name the patient of a DICOM series."""
    ct, labels, names = neutral_texts((subject.ct, subject.labels, subject.label_names), Path(subject.ct or subject.labels))
    return replace(subject, ct=ct, labels=labels, label_names=names)


def _missing(config: SynthesisConfig, done: set[str]) -> list[Unit]:
    """Units in the order of the data set, without the views that are there."""
    units = []
    for name in config.names:
        for number, first in enumerate(range(0, config.views_per_subject, config.views_per_body)):
            views = range(first, min(first + config.views_per_body, config.views_per_subject))
            left = tuple(v for v in views if case_id(name, v) not in done)
            if left:
                units.append(Unit(name, number, left))
    return units
