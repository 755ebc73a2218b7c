"""Asking a model about many radiographs: what is finished is on disk, a file that cannot be read does not stop the rest."""

from __future__ import annotations

import contextlib
import csv
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from training.errors import BrokenModel, Cancelled, ChexanatomyError, UnknownStructure, in_words
from training.evaluate.agreement import Agreement, agree, matching, overlap_map, read_references
from training.evaluate.measurements import Cardiothoracic, LungAreas, area, cardiothoracic, lung_areas
from training.evaluate.sources import IMAGE_SUFFIXES, images_in
from training.filenames import file_stem, image_stem
from training.model.convention import AsDrawn
from training.plain import writable
from training.progress import ProgressCallback, report
from training.results import as_stored, earlier_records, write_findings, write_json

if TYPE_CHECKING:
    from training.images import Radiograph
    from training.images.turning import Turn
    from training.model import Finding, Predictor

PREDICTIONS, FINDINGS, MEASUREMENTS, AGREEMENT = "predictions.json", "findings.csv", "measurements.csv", "agreement.csv"
SAVE_SECONDS = 5.0
"""predictions.json is written whole, so at most this often while images follow each other [s]."""
FINDING_COLUMNS = (
    *("image", "structure", "present", "confidence", "doubtful", "area", "area_unit"),
    *("top", "left", "bottom", "right", "file"),
)
MEASUREMENT_COLUMNS = (
    *("image", "view", "cardiothoracic_ratio", "heart_width", "chest_width", "width_unit"),
    *("right_lung", "left_lung", "area_unit", "lungs", "note"),
)
AGREEMENT_COLUMNS = ("image", "structure", "dice", "iou", "hd95", "hd95_unit", "note")


@dataclass(frozen=True)
class Source:
    """One radiograph to ask about. name: what the tables call it; folder: where its masks go; read: opens it; path: its file,
    where it is one; own: the folder by the file's own name, where `name` stands in for it."""

    name: str
    folder: str
    read: Callable[[], Radiograph]
    path: Path | None = None
    own: str = ""


@dataclass(frozen=True)
class Measured:
    """What was measured in one image; problem: the sentence that says what could not be."""

    view: str = ""
    cardiothoracic: Cardiothoracic | None = None
    lungs: LungAreas | None = None
    problem: str = ""


@dataclass(frozen=True)
class Answered:
    """What came of one source: findings, or the reason why there are none. untaught: what the model was not taught of what was
    asked; record: its part of predictions.json, if written."""

    source: Source
    shape: tuple[int, int] = (0, 0)
    spacing: tuple[float, float] | None = None
    findings: tuple[Finding, ...] = ()
    measured: Measured | None = None
    agreements: tuple[Agreement, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()
    untaught: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Wishes:
    """What to do with every image. structures: names to ask for; batch: of them at once; accurate: average altered looks;
    measure: cardiothoracic ratio and lung areas as well; references: a folder of mask folders, one per image, or of masks for the
    only image; projected: take "left lung" to the letter on every image, see `training.model.convention`."""

    structures: Sequence[str]
    batch: int = 32
    accurate: bool = False
    measure: bool = False
    references: Path | None = None
    projected: bool = False


@dataclass
class _Writer:
    """The files of a run. Tables grow line by line. earlier: what predictions.json said of each folder before it."""

    out: Path
    model: str
    earlier: Mapping[str, Mapping[str, Any]]
    records: list[dict[str, Any]] = field(default_factory=list)
    _last: float = 0.0
    _tables: dict[str, IO[str]] = field(default_factory=dict)

    def add(self, record: Mapping[str, Any]) -> None:
        self.records.append(dict(record))
        if time.monotonic() - self._last > SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        write_json(self.out / PREDICTIONS, self.records)
        self._last = time.monotonic()

    def rows(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if table not in self._tables:
            self.out.mkdir(parents=True, exist_ok=True)
            self._tables[table] = (self.out / table).open("w", newline="", encoding="utf-8")
            csv.writer(self._tables[table]).writerow(columns)
        csv.writer(self._tables[table]).writerows(rows)
        self._tables[table].flush()

    def close(self) -> None:
        if self.records:
            self.save()
        for file in self._tables.values():
            file.close()


def answer_all(
    predictor: Predictor,
    sources: Sequence[Source],
    wishes: Wishes,
    out: Path | None,
    model: str,
    progress: ProgressCallback | None = None,
) -> Generator[Answered, None, None]:
    """Ask about one image after another and give what came of each.

    out: folder that gets a folder of masks per image, predictions.json, findings.csv and, where asked for, measurements.csv and
    agreement.csv, or None to write nothing; model: how predictions.json names the model. A file that cannot be read is an
    Answered with a problem. Raises UnknownStructure and BrokenModel, which concern every image, and whatever `progress` raises.
    """
    if out is not None and (out / PREDICTIONS).is_dir():
        raise ChexanatomyError(f"{out / PREDICTIONS} is a folder: choose another one for the results.")
    writer = _Writer(out, model, earlier_records(out / PREDICTIONS)) if out is not None else None
    with contextlib.closing(writer) if writer is not None else contextlib.nullcontext():
        for number, source in enumerate(sources):
            report(progress, number, len(sources), source.name)
            try:
                answered = _answer(predictor, source, wishes, writer, single=len(sources) == 1)
            except (Cancelled, UnknownStructure, BrokenModel):
                raise
            except (ChexanatomyError, OSError) as problem:
                answered = Answered(source, problem=in_words(problem))
            yield answered
        report(progress, len(sources), len(sources), "done")


def _answer(predictor: Predictor, source: Source, wishes: Wishes, writer: _Writer | None, single: bool) -> Answered:
    radiograph = source.read()
    shape = (radiograph.pixels.shape[0], radiograph.pixels.shape[1])
    turn = radiograph.turn
    references = _references(wishes.references, source, shape, turn, single) if wishes.references is not None else None
    asked = predictor if wishes.projected else AsDrawn(predictor)
    findings = asked.segment(radiograph, wishes.structures, batch=wishes.batch, accurate=wishes.accurate)
    found = {f.structure: f.mask if f.present else None for f in findings}
    measured = measure(predictor, radiograph, found) if wishes.measure else None
    names = matching(found, references) if references is not None else []
    agreements = tuple(agree(name, found[name], references[name], radiograph.spacing) for name in names) if references else ()
    untaught = tuple(predictor.untaught(wishes.structures))
    answered = Answered(
        source, shape, radiograph.spacing, tuple(findings), measured, agreements, notes=radiograph.notes, untaught=untaught
    )
    if writer is not None:
        answered = replace(answered, record=_write(writer, answered, radiograph, wishes))
        for name in names:
            assert references is not None
            _write_overlap(writer.out / source.folder, name, turn.back(overlap_map(found[name], references[name])))
    return answered


def measure(predictor: Predictor, radiograph: Radiograph, masks: Mapping[str, np.ndarray | None]) -> Measured:
    """Cardiothoracic ratio and lung areas of found masks; the view is the radiograph's own, else what the model takes it for."""
    from training.model.predictor import view_of

    view = view_of(predictor, radiograph)
    there = {name: mask for name, mask in masks.items() if mask is not None}
    problems: list[str] = []
    ratio, lungs = None, None
    try:
        lungs = lung_areas(there, radiograph.spacing)
        ratio = cardiothoracic(there, radiograph.spacing, view)
    except ChexanatomyError as problem:
        problems.append(str(problem))
    return Measured(view, ratio, lungs, " ".join(problems))


def _references(folder: Path, source: Source, shape: tuple[int, int], turn: Turn, single: bool) -> dict[str, np.ndarray]:
    place = next((folder / name for name in (source.folder, source.own) if name and (folder / name).is_dir()), None)
    if place is None and not single:
        other = ", nor one by its file's own name," if source.own else ""
        raise ChexanatomyError(f"{folder.name} has no folder {source.folder}{other} with the reference masks of this image.")
    return read_references(place or folder, None, shape, turn)


def _write(writer: _Writer, answered: Answered, radiograph: Radiograph, wishes: Wishes) -> dict[str, Any]:
    source, spacing = answered.source, answered.spacing
    record = write_findings(
        writer.out, source.folder, source.name, radiograph, answered.findings, writer.model, writer.earlier, answered.untaught
    )
    writer.add(record)
    stored = as_stored(radiograph, answered.findings)
    writer.rows(FINDINGS, FINDING_COLUMNS, [finding_row(source, finding, spacing) for finding in stored])
    if answered.measured is not None:
        writer.rows(MEASUREMENTS, MEASUREMENT_COLUMNS, [measurement_row(source.name, answered.measured)])
    if answered.agreements:
        writer.rows(AGREEMENT, AGREEMENT_COLUMNS, [agreement_row(source.name, one) for one in answered.agreements])
    return record


def finding_row(source: Source, finding: Finding, spacing: tuple[float, float] | None) -> list[Any]:
    """One line of findings.csv. Area in cm2 where the spacing is known, else in pixels; the box in pixels, empty where absent."""
    shown = finding.mask is not None
    size = round(area(finding.mask, spacing), 2 if spacing else None) if finding.mask is not None else ""
    box = [round(float(edge), 1) for edge in finding.box] if finding.box is not None else [""] * 4
    return [
        *(source.name, finding.structure, int(finding.present), round(float(finding.confidence), 4), int(finding.doubtful), size),
        *(("cm2" if spacing else "px") if shown else "", *box, f"{source.folder}/{file_stem(finding.structure)}.png"),
    ]


def measurement_row(image: str, measured: Measured) -> list[Any]:
    """One line of measurements.csv; what could not be measured is empty and its reason in the note."""
    ratio, lungs = measured.cardiothoracic, measured.lungs
    widths = ("", "", "", "")
    if ratio is not None:
        widths = (f"{ratio.ratio:.4f}", f"{ratio.heart_width:.1f}", f"{ratio.chest_width:.1f}", ratio.unit)
    areas = ("", "", "", "")
    if lungs is not None:
        areas = (f"{lungs.right:.1f}", f"{lungs.left:.1f}", lungs.unit.replace("²", "2"), lungs.lungs)
    note = " ".join(part for part in (measured.problem, ratio.note if ratio is not None else "") if part)
    return [image, measured.view, *widths, *areas, note]


def agreement_row(image: str, one: Agreement) -> list[Any]:
    """One line of agreement.csv; the distance is empty when a mask is."""
    distance = "" if np.isnan(one.hd95) else f"{one.hd95:.2f}"
    return [image, one.structure, f"{one.dice:.4f}", f"{one.iou:.4f}", distance, one.unit, one.verdict]


OVERLAP_COLOURS = ((0, 0, 0), (255, 255, 255), (230, 120, 20), (50, 120, 240))
"""Of an overlap map's values 0 to 3: neither, both (white), prediction only (orange), reference only (blue); nobody has to tell
red from green."""


def _write_overlap(folder: Path, structure: str, chosen: np.ndarray) -> None:
    from PIL import Image

    picture = Image.fromarray(chosen)
    picture.putpalette([value for colour in OVERLAP_COLOURS for value in colour])
    picture.save(folder / f"{file_stem(structure)}.overlap.png")


def sources_of(files: Sequence[Path]) -> list[Source]:
    """Files as sources: each with its own folder name. A DICOM file that is named after its patient goes by a pseudonym."""
    from training.images import read_radiograph
    from training.images.identity import neutral

    def reader(path: Path) -> Callable[[], Radiograph]:
        return lambda: read_radiograph(path)

    names = [neutral(path) for path in files]
    each = zip(files, names, distinct_stems(names), distinct_stems(files), strict=True)
    return [
        Source(writable(str(name)), folder, reader(path), path, own if name != path else "") for path, name, folder, own in each
    ]


def image_files(given: Sequence[Path], say: Callable[[str], None] | None = None) -> list[Path]:
    """Return the files to read, each once, folders opened. say: told what of a folder is no image and was passed over.

    Raises ChexanatomyError when there is none.
    """
    files: list[Path] = []
    for path in given:
        if not path.is_dir():
            files.append(path)
            continue
        images, others = images_in(path)
        files += images
        if others and say is not None:
            more = f" and {len(others) - 3} others" if len(others) > 3 else ""
            say(f"{path}: passed over what is no radiograph: {', '.join(other.name for other in others[:3])}{more}")
    unique = list({os.path.realpath(path): path for path in files}.values())
    if not unique:
        raise ChexanatomyError(f"There is no radiograph to read; give files or folders of {', '.join(IMAGE_SUFFIXES)}.")
    return unique


def distinct_stems(files: Sequence[Path]) -> list[str]:
    """Return one folder name per file: its stem, with -2, -3, ... added where another file has it already.

    Whatever the files are called, none of these names leads out of the folder that they stand in.
    """
    stems = [image_stem(path) for path in files]
    taken: set[str] = set()
    names = []
    for stem in stems:
        name, number = stem, 2
        while name.casefold() in taken or (name != stem and name in stems):
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names
