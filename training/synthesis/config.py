"""What a synthesis run draws from: subjects, body variation and views. Stored with the data set as synthesis.json."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from training.errors import ChexanatomyError


@dataclass(frozen=True)
class Range:
    """Uniform distribution between low and high."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        return float(rng.uniform(self.low, self.high))


@dataclass(frozen=True)
class Subject:
    """One person: ct and labels are paths; without a ct it is painted from the labels; label_names: table id,name."""

    name: str
    ct: str = ""
    labels: str = ""
    label_names: str = ""


@dataclass(frozen=True)
class Variation:
    """How a body differs from the one it was made from.

    scale: of each axis on its own; shear: [1]; bend: largest smooth random displacement [mm], its features about reach wide [mm];
    inflation: the diaphragm moved, down positive [mm]; heart: linear size factor; untouched: share of bodies left as they are.
    """

    scale: Range = Range(0.85, 1.2)
    shear: Range = Range(-0.06, 0.06)
    bend: Range = Range(0.0, 14.0)
    reach: Range = Range(40.0, 90.0)
    inflation: Range = Range(-35.0, 20.0)
    heart: Range = Range(0.88, 1.3)
    untouched: float = 0.05


@dataclass(frozen=True)
class Views:
    """Poses: weights of the presets, and deviations from them.

    primary, secondary, roll [degrees]; sdd [mm]; gap: isocentre to detector [mm]; field: height of the detector [mm]; aspect: its
    width over its height [1]; shift: of the from the middle of the lungs, or the volume where there are none [mm].
    """

    pa: float = 0.55
    ap: float = 0.25
    lateral: float = 0.2
    primary: Range = Range(-9.0, 9.0)
    secondary: Range = Range(-10.0, 10.0)
    roll: Range = Range(-6.0, 6.0)
    sdd: Range = Range(1000.0, 2000.0)
    gap: Range = Range(120.0, 250.0)
    field: Range = Range(320.0, 480.0)
    aspect: Range = Range(0.8, 1.25)
    shift: Range = Range(-25.0, 25.0)


@dataclass(frozen=True)
class Film:
    """The look, see training.drr.Presentation: large-scale brightness taken out, percentiles for black and white, contrast."""

    equalisation: Range = Range(0.1, 0.6)
    darkest: Range = Range(0.0, 2.0)
    brightest: Range = Range(97.0, 100.0)
    contrast: Range = Range(1.0, 1.9)


@dataclass(frozen=True)
class SynthesisConfig:
    """One synthesis run; the same configuration gives the same data set for any number of workers.

    subjects: people from files; phantoms: how many procedural bodies besides; views_per_subject: cases each; views_per_body:
    how many share one deformed body; size: pixels along the longer edge; grid: voxel edge of deformed bodies [mm]; out: data set
    folder.
    workers and dask (scheduler address) say only where the work is done.
    """

    out: str
    subjects: tuple[Subject, ...] = ()
    phantoms: int = 0
    views_per_subject: int = 4
    views_per_body: int = 4
    size: int = 512
    grid: float = 2.0
    seed: int = 0
    variation: Variation = field(default_factory=Variation)
    views: Views = field(default_factory=Views)
    film: Film = field(default_factory=Film)
    workers: int = 1
    dask: str = ""

    def __post_init__(self) -> None:
        names = [s.name for s in self.subjects]
        if len(set(names)) < len(names):
            raise ChexanatomyError("Two subjects have the same name: give each person one name of its own.")
        if any(not n or n in (".", "..") or set(n) & set('/\\:*?"<>|\0') for n in names):
            raise ChexanatomyError("A subject's name is used in file names: leave it free of / \\ : * ? \" < > |.")
        if not names and self.phantoms < 1:
            raise ChexanatomyError("There is nothing to synthesize from: name a CT with labels, or ask for phantoms.")
        if min(self.views_per_subject, self.views_per_body, self.workers) < 1 or self.size < 32 or self.phantoms < 0:
            raise ChexanatomyError("Views, bodies and workers are at least 1, and the picture at least 32 pixels wide.")

    def to_json(self) -> str:
        """What determines the data: everything but where the work is done."""
        values = asdict(self)
        for name in ("out", "workers", "dask"):
            del values[name]
        return json.dumps(values, indent=1)


def read_subjects(path: str | Path) -> tuple[Subject, ...]:
    """Read a table subject,ct,labels,label_names; relative paths start at the table's folder. Raises ChexanatomyError."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ChexanatomyError(f"The table of subjects {path.name} cannot be read: {error}.") from error
    if not rows or not {"subject", "labels"} <= set(rows[0]):
        raise ChexanatomyError(f"{path.name} needs a first line subject,ct,labels,label_names and a line per person.")

    def place(cell: str | None) -> str:
        return str(path.parent / cell) if cell else ""

    return tuple(Subject(r["subject"], place(r.get("ct")), place(r["labels"]), place(r.get("label_names"))) for r in rows)
