"""The synthesis run: bodies x views to cases on disk, on several processes or a Dask cluster, resumable after a kill."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from training import __version__
from training.dataset import Case, Dataset
from training.drr import project_labels
from training.drr.render import render
from training.errors import BrokenDataset, ChexanatomyError
from training.progress import ProgressCallback, report
from training.synthesis.bodies import body, generator, phantom_name
from training.synthesis.config import SynthesisConfig
from training.synthesis.poses import draw_geometry, draw_presentation

SMALLEST_MASK = 12
"""Masks of fewer pixels are too small to say whether the structure is in the picture: neither present nor absent."""
AHEAD = 4
"""Bodies per worker handed out before the oldest is awaited."""


@dataclass(frozen=True)
class Unit:
    """One body and the views still to be taken of it."""

    subject: str
    number: int
    views: tuple[int, ...]


def synthesize(config: SynthesisConfig, progress: ProgressCallback | None = None) -> Dataset:
    """Make the data set, or what is missing of it. Cases come in the same order and alike for any number of workers.

    Raises BrokenDataset when the folder holds data of another configuration, and what reading the subjects raises.
    """
    dataset = Dataset.create(config.out)
    plan = dataset.folder / "synthesis.json"
    if plan.exists() and plan.read_text(encoding="utf-8") != config.to_json():
        raise BrokenDataset(f"{dataset.folder.name} was made with another configuration: name a new folder, or repeat that one.")
    if not plan.exists() and dataset.cases:
        raise BrokenDataset(f"{dataset.folder.name} holds cases that were not synthesized: name a new folder.")
    part = plan.with_suffix(".part")
    part.write_text(config.to_json(), encoding="utf-8")
    os.replace(part, plan)
    units = _missing(config, {c.id for c in dataset.cases})
    total = (len(config.subjects) + config.phantoms) * config.views_per_subject
    report(progress, len(dataset.cases), total, "Synthesizing")
    with _executor(config) as submit:
        for cases in _in_order(config, units, submit):
            for case in cases:
                dataset.commit(case)
            report(progress, len(dataset.cases), total, "Synthesizing")
    return dataset


def make_unit(config: SynthesisConfig, unit: Unit) -> list[Case]:
    """Write image and masks of a unit's views; the cases are returned for the one writer of cases.jsonl to commit."""
    ct, labels, provenance = body(config, unit.subject, unit.number)
    dataset = Dataset(Path(config.out), [])
    cases = []
    for view in unit.views:
        rng = generator(config.seed, f"{unit.subject}/view", view)
        geometry = draw_geometry(ct, labels, config.views, config.size, rng)
        radiograph = render(ct, geometry, presentation=draw_presentation(config.film, rng))
        masks = project_labels(labels, geometry)
        areas = {s: int(m.sum()) for s, m in masks.items()}
        kept = {s: m for s, m in masks.items() if areas[s] >= SMALLEST_MASK}
        name = case_id(unit.subject, view)
        case = Case(
            id=name,
            subject=unit.subject,
            view=geometry.view_name,
            geometry=geometry.to_dict(),
            image=f"images/{name}.png",
            present=tuple(kept),
            absent=tuple(s for s, area in areas.items() if area == 0),
            cut_off=tuple(s for s, m in kept.items() if _at_border(m)),
            provenance=provenance,
            seed=config.seed,
            version=__version__,
        )
        dataset.write_files(case, radiograph, kept)
        cases.append(case)
    return cases


def case_id(subject: str, view: int) -> str:
    """Id of a subject's case, unique in its data set."""
    return f"{subject}-{view:05d}"


def _at_border(mask: np.ndarray) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _missing(config: SynthesisConfig, done: set[str]) -> list[Unit]:
    """Units in the order of the data set, without the views that are there."""
    names = [s.name for s in config.subjects] + [phantom_name(i) for i in range(config.phantoms)]
    units = []
    for name in names:
        for number, first in enumerate(range(0, config.views_per_subject, config.views_per_body)):
            views = range(first, min(first + config.views_per_body, config.views_per_subject))
            left = tuple(v for v in views if case_id(name, v) not in done)
            if left:
                units.append(Unit(name, number, left))
    return units


Submit = Callable[[Unit], Callable[[], list[Case]]]
"""Start a unit and return what waits for its cases."""


def _in_order(config: SynthesisConfig, units: list[Unit], submit: Submit) -> Iterator[list[Case]]:
    """Cases of each unit, in order, with no more than AHEAD units per worker under way."""
    waiting: list[Callable[[], list[Case]]] = []
    for unit in units:
        waiting.append(submit(unit))
        if len(waiting) >= AHEAD * config.workers:
            yield waiting.pop(0)()
    while waiting:
        yield waiting.pop(0)()


@contextmanager
def _executor(config: SynthesisConfig) -> Iterator[Submit]:
    if config.dask:
        with _dask(config) as submit:
            yield submit
    elif config.workers == 1:
        yield lambda unit: lambda: make_unit(config, unit)
    else:
        pool = ProcessPoolExecutor(config.workers, get_context("spawn"), _single_threaded)
        try:

            def submit_to_pool(unit: Unit) -> Callable[[], list[Case]]:
                future: Future[list[Case]] = pool.submit(make_unit, config, unit)
                return future.result

            yield submit_to_pool
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _dask(config: SynthesisConfig) -> Iterator[Submit]:
    from distributed import Client

    try:
        client = Client(config.dask, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise ChexanatomyError(f"No Dask scheduler answers at {config.dask}: {error}.") from error
    try:
        yield lambda unit: client.submit(make_unit, config, unit, pure=False, retries=3).result
    finally:
        client.close()


def _single_threaded() -> None:
    import numba

    numba.set_num_threads(1)
