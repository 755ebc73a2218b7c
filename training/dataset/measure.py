"""What every mask of a case is like, in numbers: place, size, pieces, the picture under it. Input of the checks in checks.py."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from training import anatomy
from training.dataset.case import Case
from training.dataset.store import Dataset
from training.errors import ChexanatomyError

SPECK = 0.02
"""A piece smaller than this share of its mask is not counted."""
STEP = 0.04
"""How far a mask is moved to compare the picture beside it with the picture under it, as a share of the picture."""
NEAR = 0.008
"""How far to either side of its edge the picture is compared, as a share of the picture."""
SEEN = 9
"""Numbers on the picture under a mask, see runs.look_under."""
DISPLACED, ZOOMED = (0.05, 0.11), 0.08
"""A picture that does not belong to its masks: moved by a share within the pair, enlarged or reduced by up to the other."""
GREYS = 4096
"""Grey values told apart when pixels are ranked by brightness."""
CELLS = 12
"""Cells along each edge of the picture in which a mask's shape is kept."""
LONGEST = 400_000
"""Runs a mask may have: more than any mask of a picture that this program reads."""

MEASURE = np.dtype(
    [
        ("case", np.int32),  # number in the list of cases
        ("structure", np.int16),  # number in the list of structures
        ("flaw", np.int8),  # 0 sound, else one of FLAWS
        ("area", np.float32),  # share of the picture
        ("place", np.float32, (2,)),  # centroid: row, column, as shares of the picture
        ("spread", np.float32, (3,)),  # variance of rows, of columns, and covariance, in the same units
        ("pieces", np.int16),
        ("border", np.int8),  # bits of runs.TOP ...
        ("extent", np.float32, (4,)),  # first and last row, first and last column, as shares of the picture
        ("coarse", np.uint8, (CELLS, CELLS)),  # share of each cell of the picture that the mask covers, 255 for all of it
        ("seen", np.float32, (SEEN,)),  # brightness (as rank, 0..1) of the picture under the mask and about its edges
        ("mirrored", np.float32, (SEEN,)),  # the same in the mirrored picture
        ("displaced", np.float32, (SEEN,)),  # the same in the picture moved and resized at random: what a wrong one looks like
        ("outside", np.float32),  # largest share that lies outside a composite it is part of
        ("outside_of", np.int16),  # that composite's structure number, -1 none
        ("uncovered", np.float32),  # of a composite: share that none of its parts covers; NaN where it has no parts
        ("strayed", np.float32),  # of a composite: largest `outside` of its parts with regard to it
        ("same_as", np.int16),  # structure number of an unrelated structure with the very same mask, -1 none
    ]
)
DAMAGED, OTHER_SIZE, MISSING, UNLISTED = 1, 2, 3, 4
"""Flaws: code damaged; another size than the picture; listed as present without a mask; listed as absent with one."""


def measure(dataset: Dataset, case: Case, encoded: Mapping[str, Any], structures: Mapping[str, int]) -> np.ndarray:
    """MEASURE records of a case's masks, and of structures that it lists without a mask; the number of the case is left 0.

    encoded: the masks' run-length codes by structure; structures: numbers by name. Raises BrokenDataset.
    """
    from training.dataset import runs as loops

    pixels = dataset.image(case).pixels
    rows, columns = pixels.shape
    ranks = rank(pixels)
    totals = np.stack([_running_sum(p) for p in (ranks, ranks[:, ::-1], displaced(ranks, case.id))])
    far, near = (max(1, round(share * min(rows, columns))) for share in (STEP, NEAR))
    scratch = np.empty((LONGEST, 3), np.int32)
    found, kept = [], {}
    for name, code in encoded.items():
        record = np.zeros((), MEASURE)
        record["structure"] = structures[name]
        record["outside_of"] = record["same_as"] = -1
        record["uncovered"] = record["seen"] = record["mirrored"] = record["displaced"] = np.nan
        found.append(record)
        text = _text(code)
        if text is None:
            record["flaw"] = DAMAGED
            continue
        if tuple(code["size"]) != (rows, columns):
            record["flaw"] = OTHER_SIZE
            continue
        count = loops.read_runs(text, rows * columns, rows, scratch)
        if count < 0:
            record["flaw"] = DAMAGED
            continue
        mine = kept[name] = scratch[:count].copy()
        area, row, column, row_variance, column_variance, both, border = loops.outline(mine, rows, columns)
        record["area"], record["place"], record["border"] = area / (rows * columns), (row, column), border
        record["spread"] = row_variance, column_variance, both
        if area:
            record["pieces"] = loops.pieces(mine, area, SPECK)
            record["extent"] = np.array(loops.extent(mine)) / (rows, rows, columns, columns)
            record["coarse"] = loops.coarse(mine, rows, columns, CELLS)
            seen = loops.look_under(mine, totals, rows, columns, far, near)
            record["seen"], record["mirrored"], record["displaced"] = seen
        if name in case.absent:
            record["flaw"] = UNLISTED
    _compare(encoded, kept, found, structures, rows, columns)
    for name in case.present:
        if name not in encoded:
            record = np.zeros((), MEASURE)
            record["structure"], record["flaw"] = structures[name], MISSING
            record["outside_of"] = record["same_as"] = -1
            found.append(record)
    return np.array(found, MEASURE)


def rank(pixels: np.ndarray) -> np.ndarray:
    """Share of the picture's pixels that are darker, float32 [row, column]: the same for every film, contrast and exposure."""
    levels = np.clip(pixels * GREYS, 0, GREYS - 1).astype(np.int32)
    counts = np.bincount(levels.ravel(), minlength=GREYS)
    darker = (np.cumsum(counts) - counts / 2) / max(1, pixels.size)
    return darker.astype(np.float32)[levels]


def displaced(picture: np.ndarray, name: str) -> np.ndarray:
    """The picture [row, column] moved and resized, by the same amount for the same name; edges go on with their values."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    angle, size, zoom = rng.uniform(0, 2 * np.pi), rng.uniform(*DISPLACED), 1 + rng.uniform(-ZOOMED, ZOOMED)
    rows, columns = (
        np.clip(np.rint((np.arange(n) - n / 2) * zoom + n / 2 + move * size * min(picture.shape)), 0, n - 1).astype(int)
        for n, move in zip(picture.shape, (np.sin(angle), np.cos(angle)), strict=True)
    )
    return picture[rows][:, columns]


def _running_sum(picture: np.ndarray) -> np.ndarray:
    """Running sum of the picture column by column, from 0: float64 [pixels + 1]."""
    totals = np.zeros(picture.size + 1)
    np.cumsum(picture.ravel(order="F"), dtype=np.float64, out=totals[1:])
    return totals


def _text(code: Any) -> np.ndarray | None:
    """COCO's compressed text as uint8, None where there is none to be had."""
    from training.images import from_rle, to_rle

    try:
        counts = code["counts"] if isinstance(code["counts"], (str, bytes)) else to_rle(from_rle(code))["counts"]
        size = code["size"]
        if len(size) != 2 or not all(isinstance(n, int) for n in size):
            return None
        return np.frombuffer(counts.encode("ascii") if isinstance(counts, str) else counts, np.uint8)
    except (ChexanatomyError, KeyError, TypeError, UnicodeEncodeError):
        return None


def _compare(
    encoded: Mapping[str, Any],
    kept: Mapping[str, np.ndarray],
    found: Sequence[np.ndarray],
    structures: Mapping[str, int],
    rows: int,
    columns: int,
) -> None:
    """Fill in what a mask says about another: parts outside their composite, composites without their parts, equal masks."""
    from training.dataset import runs as loops

    records = dict(zip(encoded, found, strict=True))
    for whole, parts in composites().items():
        here = [p for p in parts if p in kept and len(kept[p])]
        if whole not in kept or not len(kept[whole]) or not here:
            continue
        canvas = np.zeros(rows * columns, np.uint8)
        loops.paint(kept[whole], rows, canvas, 1)
        total = records[whole]["area"] * rows * columns
        for part in here:
            size = records[part]["area"] * rows * columns
            outside = float(loops.count_value(kept[part], rows, canvas, 0) / size)
            if outside > records[part]["outside"]:
                records[part]["outside"], records[part]["outside_of"] = outside, structures[whole]
            records[whole]["strayed"] = max(outside, float(records[whole]["strayed"]))
        for part in here:
            loops.paint(kept[part], rows, canvas, 2)
        records[whole]["uncovered"] = loops.count_value(kept[whole], rows, canvas, 1) / total
    first: dict[Any, str] = {}
    for name in kept:
        if not len(kept[name]):
            continue
        other = first.setdefault(encoded[name]["counts"] if isinstance(encoded[name]["counts"], str) else name, name)
        made = {name, other} & anatomy.DERIVED  # out of others, and where the border leaves little, all alike
        if other != name and not made and name not in lineage(other) and other not in lineage(name):
            records[name]["same_as"], records[other]["same_as"] = structures[other], structures[name]


@cache
def composites() -> Mapping[str, tuple[str, ...]]:
    """Direct parts by composite, from the vocabulary."""
    parts: dict[str, list[str]] = {}
    for structure in anatomy.vocabulary().values():
        for parent in structure.parents:
            parts.setdefault(parent, []).append(structure.key)
    return {whole: tuple(keys) for whole, keys in parts.items()}


@cache
def lineage(name: str) -> frozenset[str]:
    """The composites that a structure is part of, however far up."""
    known = anatomy.vocabulary().get(name)
    if known is None:
        return frozenset()
    return frozenset(known.parents).union(*(lineage(p) for p in known.parents))
