"""What models are scored on: one radiograph with its reference masks, from a data set or from two folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from training.errors import ChexanatomyError, UnreadableFile
from training.filenames import image_stem

if TYPE_CHECKING:
    from training.dataset import Case, Dataset
    from training.images import Radiograph

T = TypeVar("T")
Split = Literal["train", "val", "test", "all"]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")


@dataclass(frozen=True)
class Scored:
    """One radiograph to score on.

    subject: whose it is (the bootstrap draws subjects, not images); references: target -> bool [row, column]; a target is a
    structure or several joined by "+", whose masks are united; an empty mask says that it is not in the image.
    """

    id: str
    subject: str
    radiograph: Radiograph
    references: dict[str, np.ndarray]


def parts(target: str) -> tuple[str, ...]:
    """Return the structures whose union a target is: ("lung_left", "lung_right") for "lung_left+lung_right"."""
    return tuple(part.strip() for part in target.split("+") if part.strip())


def chosen(dataset: Dataset, split: Split, limit: int | None = None) -> list[Case]:
    """Return the cases of a split that no reviewer rejected, with the structures that none rejected, at most `limit`, evenly
    spread.

    Raises ChexanatomyError with the remedy when there is none, or the limit is below 1.
    """
    kept = dataset.kept()
    cases = [c for c in kept if split in ("all", c.split)]
    if not cases:
        held = ", ".join(sorted({case.split for case in kept})) or "none"
        who = "Review left" if any(split in ("all", c.split) for c in dataset.cases) else "The data set has"
        raise ChexanatomyError(f"{who} no case in its {split} split (only in {held}): choose another split.")
    return spread(cases, limit)


def from_dataset(dataset: Dataset, cases: Iterable[Case], targets: Sequence[str] | None = None) -> Iterator[Scored]:
    """Give each case with its references: the given targets, or every structure that the case names.

    Structures that a reviewer rejected are left out. A structure that the case lists as absent has an empty reference; one that
    it does not mention, or lists as present without a mask, has none. Raises BrokenDataset through the data set.
    """
    excluded = dataset.reviews.excluded()
    for case in cases:
        radiograph = dataset.image(case)
        known = [s for s in (*case.present, *case.absent) if (case.id, s) not in excluded]
        wanted = targets or known
        asked = {p for t in wanted for p in parts(t)} & set(known)
        masks = dict.fromkeys(asked & set(case.absent), np.zeros(radiograph.pixels.shape, bool))
        masks |= dataset.masks(case, sorted(asked & set(case.present)))
        references = {t: np.logical_or.reduce([masks[p] for p in parts(t)]) for t in wanted if set(parts(t)) <= masks.keys()}
        yield Scored(case.id, case.subject, radiograph, references)


def from_folders(files: Iterable[tuple[Path, Path]], target: str) -> Iterator[Scored]:
    """Give each (radiograph, mask) pair of files with the mask, drawn on the file's own pixels, as the reference of one target.

    Each goes by its stem; a DICOM file whose name repeats what its header tells of people by a stand-in, see `images.identity`.
    Raises ChexanatomyError when a mask has another size than its radiograph.
    """
    from training.images import read_mask_png, read_radiograph
    from training.images.identity import neutral

    for image, mask in files:
        radiograph = read_radiograph(image)
        reference = radiograph.turn(read_mask_png(mask))
        if reference.shape != radiograph.pixels.shape:
            raise ChexanatomyError(
                f"The mask {mask.name} is {reference.shape[0]} x {reference.shape[1]} pixels, its radiograph "
                f"{radiograph.pixels.shape[0]} x {radiograph.pixels.shape[1]}: draw it on the radiograph's own pixels."
            )
        name = image_stem(neutral(image))
        yield Scored(name, name, radiograph, {target: reference})


def pairs(images: Path, masks: Path, limit: int | None = None) -> list[tuple[Path, Path]]:
    """Return (radiograph, mask) files of the same stem from two folders, in the order of their names, at most `limit`.

    Raises ChexanatomyError when a folder is missing or empty, two files share a stem, a radiograph has no mask, or the limit is
    below 1.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise ChexanatomyError(f"{folder} is not a folder.")
    by_stem = _by_stem(images)
    if not by_stem:
        raise ChexanatomyError(f"{images} holds no radiograph ({', '.join(IMAGE_SUFFIXES)}).")
    drawn = _by_stem(masks)
    missing = [path.name for stem, path in by_stem.items() if stem not in drawn]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ChexanatomyError(f"{missing[0]}{others} of {images} have no mask of the same stem in {masks}.")
    return spread([(path, drawn[stem]) for stem, path in by_stem.items()], limit)


def spread(items: list[T], limit: int | None) -> list[T]:
    """Return at most `limit` items, evenly spread. Raises ChexanatomyError for a limit below 1."""
    if limit is not None and limit < 1:
        raise ChexanatomyError(f"A limit of {limit} leaves no image to score: give 1 or more.")
    if limit is None or len(items) <= limit:
        return items
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, limit)]


def images_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images in a folder, known by their endings or, whatever their names, as DICOM; and the files that are none.

    Hidden files, DICOMDIR and the JSON files beside pictures of ours are among neither.
    """
    files = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name.upper() != "DICOMDIR" and p.is_file())
    images = [path for path in files if path.suffix.lower() in IMAGE_SUFFIXES or _is_dicom(path)]
    known = {*images, *(path.with_suffix(".json") for path in images)}
    return images, [path for path in files if path not in known]


def _is_dicom(path: Path) -> bool:
    from training.images.paths import kind

    try:
        return kind(path) == "dicom"
    except UnreadableFile:
        return False


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in images_in(folder)[0]:
        stem = image_stem(path)
        if stem in found:
            raise ChexanatomyError(f"{found[stem].name} and {path.name} in {folder} share the stem {stem}; rename one.")
        found[stem] = path
    return found
