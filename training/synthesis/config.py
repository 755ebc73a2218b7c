"""What a synthesis run draws from, by name: people, bodies, findings, views, exposure, look, marks. Kept as synthesis.json."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from training.anatomy import find, vocabulary
from training.drr import Geometry, Physics, Presentation
from training.drr.labels import LUNG_OF
from training.errors import ChexanatomyError, in_words
from training.phantom.findings import Odds

LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Range:
    """Distribution between low and high, even on a linear or a logarithmic scale; low = high switches it off."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        if not -LARGEST <= self.low <= self.high <= LARGEST or self.high - self.low > LARGEST:
            raise ChexanatomyError("A range runs from a low number to a high one that is not below it.")
        if self.scale == "log" and self.low <= 0:
            raise ChexanatomyError("A logarithmic range begins above 0.")

    def draw(self, rng: np.random.Generator) -> float:
        """One value."""
        if self.scale == "log":
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))


def _check_ranges(part: object, above: float, most: float, *names: str) -> None:
    """Refuse a range that reaches down to `above` or beyond `most`."""
    for name in names:
        drawn: Range = getattr(part, name)
        if drawn.low <= above or drawn.high > most:
            raise ChexanatomyError(f"{name} lies above {above:g}{f' and up to {most:g}' if most < LARGEST else ''}.")


def _check_odds(part: object, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(part, name) <= 1:
            raise ChexanatomyError(f"{name} is a probability, between 0 and 1.")


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
    inflation: the diaphragm moved, down positive [mm]; heart: linear size factor; fat: added under the skin, negative taken
    away [mm]; untouched: share of bodies left as they are; stoop: how much lower the front of the upper chest hangs than in one
    who lies on a table, with the sternum and what is fixed to it [mm]; shrug: the shoulders moved up [mm]; clavicles: each end of
    each clavicle of a phantom moved up on its own, so that neither lungs nor shoulders tell where it lies [mm]; others_clavicles:
    share of the bodies from files whose clavicles are exchanged for those of one who stands with hanging arms, moved as well;
    descent: how much lower the domes of the diaphragm stand, and what lies on them, while its rim stays [mm].
    """

    scale: Range = Range(0.85, 1.2)
    shear: Range = Range(-0.06, 0.06)
    bend: Range = Range(0.0, 20.0)
    reach: Range = Range(40.0, 90.0)
    inflation: Range = Range(-35.0, 20.0)
    heart: Range = Range(0.85, 1.3)
    fat: Range = Range(-5.0, 22.0)
    untouched: float = 0.05
    stoop: Range = Range(-5.0, 45.0)
    shrug: Range = Range(-20.0, 25.0)
    clavicles: Range = Range(0.0, 0.0)
    others_clavicles: float = 0.0
    descent: Range = Range(0.0, 0.0)

    def __post_init__(self) -> None:
        _check_ranges(self, 0, LARGEST, "scale", "reach", "heart")
        _check_odds(self, "untouched", "others_clavicles")


@dataclass(frozen=True)
class Views:
    """Poses: weights of the presets, and deviations from them.

    primary, secondary, roll [degrees]; sdd [mm]; gap: isocentre to detector [mm]; field: height of the detector [mm]; aspect: its
    width over its height [1]; shift: of the isocentre from the middle of the lungs, or of the volume where there are none [mm];
    crop: probability that only a part of the field is shown, cropped: how much of its edges. Magnification follows from sdd and
    gap.
    """

    pa: float = 0.55
    ap: float = 0.25
    lateral: float = 0.2
    primary: Range = Range(-9.0, 9.0)
    secondary: Range = Range(-10.0, 10.0)
    roll: Range = Range(-6.0, 6.0)
    sdd: Range = Range(1000.0, 2000.0)
    gap: Range = Range(120.0, 250.0)
    field: Range = Range(310.0, 450.0)
    aspect: Range = Range(0.8, 1.15)
    shift: Range = Range(-25.0, 25.0)
    crop: float = 0.1
    cropped: Range = Range(0.55, 0.85)

    def __post_init__(self) -> None:
        weights = (self.pa, self.ap, self.lateral)
        if not all(0 <= weight <= LARGEST for weight in weights) or not 0 < sum(weights) <= LARGEST:
            raise ChexanatomyError("The weights of PA, AP and lateral views are not negative, and one of them is above 0.")
        _check_ranges(self, 0, LARGEST, "gap", "field", "aspect")
        Geometry(self.sdd.low, self.sdd.low - self.gap.high, secondary=self.secondary.low)
        Geometry(self.sdd.high, self.sdd.high - self.gap.low, secondary=self.secondary.high)
        _check_ranges(self, 0, 1, "cropped")
        _check_odds(self, "crop")


@dataclass(frozen=True)
class Exposure:
    """Tube and detector, see training.drr.Physics. kvp [kV]; aluminium, copper [mm]; exposure_index: 100 is 1 uGy.

    grid, scatter, powder: probabilities of an anti-scatter grid, of scatter being reckoned with, of Gd2O2S instead of CsI.
    """

    kvp: Range = Range(70.0, 130.0)
    aluminium: Range = Range(2.5, 4.0)
    copper: Range = Range(0.0, 0.2)
    exposure_index: Range = Range(100.0, 600.0, "log")
    grid: float = 0.95
    scatter: float = 0.9
    powder: float = 0.25

    def __post_init__(self) -> None:
        parts = (self.kvp, self.aluminium, self.copper, self.exposure_index)
        for kvp, aluminium, copper, index in ([r.low for r in parts], [r.high for r in parts]):
            Physics(kvp=kvp, aluminium=aluminium, copper=copper, exposure_index=index)
        _check_odds(self, "grid", "scatter", "powder")


@dataclass(frozen=True)
class Film:
    """Look, see training.drr.Presentation: large-scale brightness taken out, local contrast, ends of the window, slope."""

    equalisation: Range = Range(0.45, 0.85)
    detail: Range = Range(0.5, 3.0)
    darkest: Range = Range(0.0, 3.0)
    brightest: Range = Range(97.0, 100.0)
    contrast: Range = Range(0.8, 1.6)

    def __post_init__(self) -> None:
        Presentation(equalisation=self.equalisation.low, detail=self.detail.low, contrast=self.contrast.low)
        Presentation(equalisation=self.equalisation.high, detail=self.detail.high, contrast=self.contrast.high)
        Presentation(darkest=self.darkest.low, brightest=self.brightest.high)
        Presentation(darkest=self.darkest.high, brightest=self.brightest.low)


@dataclass(frozen=True)
class Marks:
    """What is put over the picture: probabilities of collimator edges, a side marker, and lines of text.

    margin: what a collimator's blade covers, as share of the picture's edge; what it covers is in no mask.
    """

    collimation: float = 0.35
    margin: Range = Range(0.01, 0.12)
    marker: float = 0.5
    text: float = 0.15

    def __post_init__(self) -> None:
        _check_odds(self, "collimation", "marker", "text")
        if self.margin.low < 0 or self.margin.high >= 0.5:
            raise ChexanatomyError("margin lies between 0 and less than half of the picture's edge.")


@dataclass(frozen=True)
class SynthesisConfig:
    """One synthesis run; the same configuration gives the same data set for any number of workers.

    subjects: people from files; phantoms: how many procedural bodies besides; views_per_subject: cases each; views_per_body:
    how many share one deformed body; size: pixels along the longer edge; grid: voxel edge of bodies [mm]; out: data set
    folder; leave_out: structures, by any name, whose masks are not kept, nor those of their parts, and of which nothing is said,
    such as clavicles of CTs with raised arms, or what a label map has wrong; great_vessels: width [mm], seen from the front, up
    to which what belongs to a labelled heart is a vessel and no heart: 44 takes the pulmonary arteries out of TotalSegmentator's,
    0 leaves hearts as they are.
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
    leave_out: tuple[str, ...] = ()
    great_vessels: float = 0.0
    variation: Variation = field(default_factory=Variation)
    findings: Odds = field(default_factory=Odds)
    views: Views = field(default_factory=Views)
    exposure: Exposure = field(default_factory=Exposure)
    film: Film = field(default_factory=Film)
    marks: Marks = field(default_factory=Marks)
    workers: int = 1
    dask: str = ""

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) < len(names):
            raise ChexanatomyError(
                f"Two subjects have the same name: give each person one name of its own; phantoms are {phantom_name(0)} and on."
            )
        if any(not n or n in (".", "..") or set(n) & set('/\\:*?"<>|\0') for n in names):
            raise ChexanatomyError("A subject's name is used in file names: leave it free of / \\ : * ? \" < > |.")
        if not names and self.phantoms < 1:
            raise ChexanatomyError("There is nothing to synthesize from: name a CT with labels, or ask for phantoms.")
        if min(self.views_per_subject, self.views_per_body, self.workers) < 1 or self.phantoms < 0:
            raise ChexanatomyError("Views, bodies and workers are at least 1.")
        if not 32 <= self.size <= 8192:
            raise ChexanatomyError(f"The longer edge of a picture has 32 to 8192 pixels; got {self.size}.")
        if self.seed < 0:
            raise ChexanatomyError(f"The seed is a whole number from 0 on; got {self.seed}.")
        if not 0.5 <= self.grid <= 8:
            raise ChexanatomyError(f"The voxels of bodies are 0.5 to 8 mm; {self.grid:g} mm were asked for.")
        if not 0 <= self.great_vessels <= LARGEST:
            raise ChexanatomyError(f"great_vessels is a width, from 0 mm on; got {self.great_vessels:g}.")
        _check_odds(self.findings, *(f.name for f in fields(Odds)))
        object.__setattr__(self, "leave_out", tuple(sorted({find(name).key for name in self.leave_out})))

    @property
    def names(self) -> list[str]:
        """Everybody's, in the order of the data set: people from files, then phantoms."""
        return [s.name for s in self.subjects] + [phantom_name(i) for i in range(self.phantoms)]

    def keeps(self, structure: str) -> bool:
        """Whether neither a structure nor a whole of which it is a part, nor the lung of a lung field or outline, is left out."""
        known = vocabulary()
        left = {label for key in self.leave_out for label in known[key].labels}
        source = LUNG_OF.get(structure, structure)
        labels = known[source].labels if source in known else ()
        return structure not in self.leave_out and not (labels and left.issuperset(labels))

    def to_json(self) -> str:
        """What determines the data: everything but where the work is done."""
        values, usual = asdict(self), asdict(SynthesisConfig(out="", phantoms=1))
        for *way, name in LATER:
            part, off = reduce(getitem, way, values), reduce(getitem, way, usual)
            if part[name] == off[name]:
                del part[name]
        for name in ELSEWHERE:
            del values[name]
        return json.dumps(values, indent=1)


def phantom_name(number: int) -> str:
    """Subject name of a procedural body."""
    return f"phantom-{number:05d}"


ELSEWHERE = ("out", "workers", "dask")
"""Fields that say where the work is done and determine nothing of the data."""
LATER = (
    ("leave_out",),
    ("great_vessels",),
    ("variation", "clavicles"),
    ("variation", "others_clavicles"),
    ("variation", "descent"),
)
"""Entries that older data sets lack: what is off is not written, so that these are found to be what they were."""


def read_distributions(path: str | Path) -> dict[str, Any]:
    """Read a synthesis.json, whole or in part, as arguments of SynthesisConfig: what it leaves out keeps its default.

    Raises ChexanatomyError for what is no such file, naming the entry.
    """
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ChexanatomyError(f"The configuration {path.name} cannot be read: {in_words(error)}.") from error
    return _arguments(SynthesisConfig, values, path.name)


def _arguments(kind: type, values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ChexanatomyError(f"{where} is an object with named entries.")
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind)} - set(ELSEWHERE)
    unknown = sorted(set(values) - known)
    if unknown:
        raise ChexanatomyError(f"{where} has no entry {unknown[0]!r}; it takes {', '.join(sorted(known))}.")
    return {name: _value(hints[name], value, f"{where}, {name}") for name, value in values.items()}


def _value(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and is_dataclass(kind):
        arguments = _arguments(kind, value, where)
        try:
            return kind(**arguments)
        except TypeError as error:
            raise ChexanatomyError(f"{where} is incomplete: {error}.") from error
        except ChexanatomyError as error:
            raise ChexanatomyError(f"{where} cannot be: {error}") from error
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ChexanatomyError(f"{where} is a list.")
        return tuple(_value(get_args(kind)[0], v, where) for v in value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ChexanatomyError(f"{where} is one of {', '.join(map(str, get_args(kind)))}.")
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise ChexanatomyError(f"{where} is a {'number' if kind is float else kind.__name__}, not {value!r}.")
    return value


def read_subjects(path: str | Path) -> tuple[Subject, ...]:
    """Read a table subject,ct,labels,label_names; relative paths start at the table's folder. Raises ChexanatomyError."""
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = [row | {"line": reader.line_num} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ChexanatomyError(f"The table of subjects {path.name} cannot be read: {in_words(error)}.") from error
    if not rows or not {"subject", "labels"} <= set(rows[0]):
        raise ChexanatomyError(f"{path.name} needs a first line subject,ct,labels,label_names and a line per person.")
    for row in rows:
        if not row["labels"]:
            raise ChexanatomyError(f"{path.name}, line {row['line']}, names no labels.")

    def place(cell: str | None) -> str:
        return str(path.parent / cell) if cell else ""

    return tuple(Subject(r["subject"], place(r.get("ct")), place(r["labels"]), place(r.get("label_names"))) for r in rows)
