"""A data set folder: cases.jsonl, images/*.png (16 bit), masks/*.json (COCO RLE per structure), reviews.sqlite."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from training.dataset.case import IMPORTED, Case
from training.dataset.reviews import WHOLE_CASE, Reviews
from training.errors import BrokenDataset, ChexanatomyError
from training.images import from_rle, is_empty, read_radiograph, shape_of, to_rle, write_radiograph_png
from training.images.types import Radiograph

CASES = "cases.jsonl"
CACHE = "cache"
"""Folder inside a data set for what can be made again: measures, thumbnails, model opinions."""
DEFAULT_REVIEWER = "reviewer"
MOST_MASK_BYTES = 100_000_000
"""The masks of a case take some hundred kilobytes; a file beyond this is none of ours."""
_REMEDY = "restore it from a copy, or synthesize the data set again"


class Dataset:
    """Cases on disk. Adding is append-only: a case's files are complete before its line is, so no crash leaves half a case."""

    def __init__(self, folder: Path, cases: list[Case]) -> None:
        self.folder = folder
        self.cases = cases

    @classmethod
    def create(cls, folder: str | Path) -> Dataset:
        """Open a data set folder for adding, made where it is missing. Raises BrokenDataset on a folder with other contents."""
        folder = Path(folder)
        _refuse_other(folder)
        if (folder / CASES).exists():
            _sweep(folder)
            return cls.open(folder, repair=True)
        for part in ("images", "masks"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / CASES).touch()
        return cls(folder, [])

    @classmethod
    @contextmanager
    def adding(cls, folder: str | Path) -> Iterator[Dataset]:
        """As `create`, for this process alone. Raises BrokenDataset while another one adds to the data set: each would take the
        other's unfinished files for a dead one's, and both would add the same cases."""
        folder = Path(folder)
        _refuse_other(folder)
        (folder / CACHE).mkdir(parents=True, exist_ok=True)
        try:
            alone = FileLock(folder / CACHE / ".adding").acquire(timeout=0)
        except Timeout as error:
            raise BrokenDataset(f"Another run is adding to {folder.name}: wait for it, or name another folder.") from error
        with alone:
            yield cls.create(folder)

    @classmethod
    def open(cls, folder: str | Path, repair: bool = False) -> Dataset:
        """Open a data set. A last line torn by a crash is passed over, and cut off with repair; any other bad line is an error.

        A last line that lacks nothing but its end counts, and gets it with repair.
        Raises BrokenDataset, naming the line, when the folder is no data set or damaged.
        """
        folder = Path(folder)
        path = folder / CASES
        if not path.is_file():
            raise BrokenDataset(f"{folder.name} is no data set: it has no {CASES}; name a folder that `synthesize` wrote.")
        content = path.read_bytes()
        whole = content if _is_case(_last(content)) else content[: content.rfind(b"\n") + 1]
        cases = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                cases.append(Case.from_json(line.decode("utf-8")))
            except (BrokenDataset, UnicodeDecodeError) as error:
                reason = str(error) if isinstance(error, BrokenDataset) else "it is no UTF-8 text"
                raise BrokenDataset(f"Line {number} of {folder.name}/{CASES} cannot be used: {reason}; {_REMEDY}.") from error
        if len({c.id for c in cases}) < len(cases):
            raise BrokenDataset(f"{folder.name}/{CASES} holds the same case id twice; {_REMEDY}.")
        if repair and len(whole) < len(content):
            with path.open("r+b") as file:
                file.truncate(len(whole))
        elif repair and whole and not whole.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")
        return cls(folder, _with_drawn(cases, Reviews(folder, DEFAULT_REVIEWER)))

    @cached_property
    def reviews(self) -> Reviews:
        """The decisions of the default reviewer, over everybody's."""
        return Reviews(self.folder, DEFAULT_REVIEWER)

    @cached_property
    def _by_id(self) -> dict[str, Case]:
        return {c.id: c for c in self.cases}

    def case(self, case_id: str) -> Case:
        """The case of that id. Raises BrokenDataset when there is none."""
        if case_id not in self._by_id:
            raise BrokenDataset(f"{self.folder.name} has no case {case_id!r}.")
        return self._by_id[case_id]

    def image_file(self, case: Case) -> Path:
        """Where a case's radiograph lies. Raises BrokenDataset when it is missing or a link leads out of the data set."""
        path = self.folder / case.image
        if not path.is_file():
            raise BrokenDataset(f"The image {case.image} of {self.folder.name} is missing; {_REMEDY}.")
        return self._inside(path)

    def _inside(self, path: Path) -> Path:
        if not path.resolve().is_relative_to(self.folder.resolve()):
            name = path.relative_to(self.folder)
            raise BrokenDataset(
                f"{name} of {self.folder.name} is a link that leads out of the data set; put the file itself there."
            )
        return path

    def image(self, case: Case) -> Radiograph:
        """Read a case's radiograph, pixel spacing from its geometry. Raises UnreadableFile or BrokenDataset.

        It counts as reconstructed, so that lungs mean the projections that its masks are. An imported one does where its file
        says so: else it was taken of a person, and readers drew the masks.
        """
        radiograph = read_radiograph(self.image_file(case))
        stated = (case.geometry or {}).get("spacing")
        spacing = (float(stated[0]), float(stated[1])) if stated else radiograph.spacing
        view = case.view if case.view != "OBLIQUE" else ""
        reconstructed = radiograph.reconstructed or case.provenance != IMPORTED
        return replace(radiograph, spacing=spacing, view=view, name=case.id, reconstructed=reconstructed)

    def encoded_masks(self, case: Case) -> dict[str, dict[str, Any]]:
        """COCO RLE by structure, corrections of reviewers in place of the originals; none where a correction left nothing."""
        stored = self.original_masks(case)
        if not (self.folder / "reviews.sqlite").exists():
            return stored
        corrected = self.reviews.corrections(case.id)
        return {s: code for s, code in (stored | corrected).items() if s not in corrected or not is_empty(code)}

    def original_masks(self, case: Case) -> dict[str, dict[str, Any]]:
        """COCO RLE by structure as stored. Raises BrokenDataset."""
        path = self.folder / "masks" / f"{case.id}.json"
        if not path.is_file():
            raise BrokenDataset(f"The masks {path.name} of {self.folder.name} are missing; {_REMEDY}.")
        try:
            if self._inside(path).stat().st_size > MOST_MASK_BYTES:
                raise ValueError("too large")
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:  # damage is a ValueError, whether of the bytes or of the JSON
            raise BrokenDataset(f"The masks {path.name} of {self.folder.name} are damaged; {_REMEDY}.") from error
        if not isinstance(stored, dict) or not all(isinstance(code, dict) for code in stored.values()):
            raise BrokenDataset(f"The masks {path.name} of {self.folder.name} are no object of structures; {_REMEDY}.")
        return stored

    def masks(self, case: Case, structures: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Return bool [row, column] by structure: all that are present, or those asked for that are.

        Raises BrokenDataset, naming case and structure, for one that is damaged or of another size than the case's radiograph.
        """
        masks, flaws = self._decoded(case, structures)
        for structure, flaw in flaws.items():
            raise BrokenDataset(
                f"The mask of {structure} in {case.id} of {self.folder.name} {flaw}; reject it in the review, or {_REMEDY}."
            )
        return masks

    def sound_masks(self, case: Case, structures: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """As `masks`, without those that are damaged or of another size. Raises BrokenDataset where the whole file is."""
        return self._decoded(case, structures)[0]

    def _decoded(self, case: Case, structures: Iterable[str] | None) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Masks by structure, and what is wrong with the others."""
        encoded = self.encoded_masks(case)
        wanted = encoded if structures is None else [s for s in structures if s in encoded]
        shape = shape_of(self.image_file(case)) if wanted else ()
        masks, flaws = {}, {}
        for structure in wanted:
            try:
                masks[structure] = from_rle(encoded[structure])
            except ChexanatomyError:
                flaws[structure] = "is damaged"
                continue
            if masks[structure].shape != shape:
                del masks[structure]
                flaws[structure] = "has another size than its radiograph"
        return masks, flaws

    def kept(self) -> list[Case]:
        """The cases that review left in, listing only the structures that it left in: what training and export may use.

        A rejected structure is neither present nor absent then: nothing is known about it.
        """
        excluded = self.reviews.excluded()
        touched = {case_id for case_id, _ in excluded}
        cases = []
        for case in self.cases:
            if (case.id, WHOLE_CASE) in excluded:
                continue
            if case.id in touched:
                present, absent, cut_off = (
                    tuple(s for s in names if (case.id, s) not in excluded) for names in (case.present, case.absent, case.cut_off)
                )
                case = replace(case, present=present, absent=absent, cut_off=cut_off)
            cases.append(case)
        return cases

    def write_files(self, case: Case, radiograph: Radiograph, masks: Mapping[str, np.ndarray]) -> None:
        """Write a case's image and masks, not its line: what a worker does before the one writer commits the case."""
        write_radiograph_png(radiograph, self.folder / case.image)
        text = json.dumps({s: to_rle(m) for s, m in masks.items()}, separators=(",", ":"))
        path = self.folder / "masks" / f"{case.id}.json"
        part = path.with_suffix(".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)

    def commit(self, case: Case) -> None:
        """Append the case's line, on disk when this returns. Raises BrokenDataset on an id the data set holds already."""
        self._refuse_known(case)
        line = case.to_json().encode("utf-8", "surrogatepass")
        try:
            Case.from_json(line.decode("utf-8"))
        except (BrokenDataset, UnicodeDecodeError) as error:
            raise BrokenDataset(f"The case {case.id!r} cannot be kept in {self.folder.name}: {error}.") from error
        with (self.folder / CASES).open("ab") as file:
            file.write(line + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.cases.append(case)
        self._by_id[case.id] = case

    def add(self, case: Case, radiograph: Radiograph, masks: Mapping[str, np.ndarray]) -> None:
        """Write a case with its radiograph and its bool [row, column] masks. Raises BrokenDataset, before it writes, on an id
        that the data set holds already."""
        self._refuse_known(case)
        self.write_files(case, radiograph, masks)
        self.commit(case)

    def _refuse_known(self, case: Case) -> None:
        if case.id in self._by_id:
            raise BrokenDataset(f"{self.folder.name} holds a case {case.id!r} already.")


_OWN = {CASES, CACHE, "images", "masks", "reviews.sqlite", "synthesis.json"}


def _refuse_other(folder: Path) -> None:
    """Raise BrokenDataset for what exists and is no data set."""
    if (folder / CASES).exists() or not folder.exists():
        return
    if not folder.is_dir() or any(p.name not in _OWN for p in folder.iterdir()):
        raise BrokenDataset(f"{folder.name} exists and is no data set: name a new or empty folder.")


def _last(content: bytes) -> bytes:
    """What follows the last line end."""
    return content[content.rfind(b"\n") + 1 :]


def _is_case(line: bytes) -> bool:
    try:
        Case.from_json(line.decode("utf-8"))
    except (BrokenDataset, UnicodeDecodeError):
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what a run that was killed had not finished writing."""
    for part in (*folder.glob("images/.writing-*"), *folder.glob("masks/*.part")):
        part.unlink(missing_ok=True)


def _with_drawn(cases: list[Case], reviews: Reviews) -> list[Case]:
    """The cases with structures that reviewers drew where there were none listed as present, those they wiped out as absent."""
    drawn: dict[str, list[str]] = {}
    wiped: dict[str, list[str]] = {}
    for (case_id, structure), shows in reviews.repairs().items():
        (drawn if shows else wiped).setdefault(case_id, []).append(structure)

    def changed(case: Case) -> Case:
        there, gone = drawn.get(case.id, []), wiped.get(case.id, [])
        return replace(
            case,
            present=tuple(s for s in dict.fromkeys((*case.present, *there)) if s not in gone),
            absent=tuple(s for s in dict.fromkeys((*case.absent, *gone)) if s not in there),
            cut_off=tuple(s for s in case.cut_off if s not in gone),
        )

    return [changed(case) if case.id in drawn or case.id in wiped else case for case in cases]
