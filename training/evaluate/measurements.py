"""What is measured in masks of a frontal chest radiograph: the cardiothoracic ratio with its lines, and the areas of the lungs.

Lengths are those of the shadow on the detector, which is larger than what casts it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.anatomy import vocabulary
from training.errors import ChexanatomyError

Spacing = tuple[float, float]
Point = tuple[float, float]

HEART = "heart"
SPINE = "spine"
LUNG_KINDS: Mapping[str, tuple[str, str]] = {
    "outline": ("lung_outline_right", "lung_outline_left"),
    "field": ("lung_field_right", "lung_field_left"),
    "projected": ("lung_right", "lung_left"),
}
"""Right and left lung as readers outline them, without the part behind the heart, and as the whole lung projects; best first."""
USUAL_LIMIT = 0.5
"""Ratio above which the heart counts as enlarged in an adult's PA view taken standing (Danzer 1919)."""
NOT_FRONTAL = ("LATERAL", "OBLIQUE")


@dataclass(frozen=True)
class Line:
    """A straight line between the centres of two pixels, (row, column) [px]."""

    start: Point
    end: Point

    def length(self, spacing: Spacing | None = None) -> float:
        """Length over whole pixels, their outer halves included; in mm where the pixel spacing (row, column) [mm] is known."""
        rows, columns = self.end[0] - self.start[0], self.end[1] - self.start[1]
        long = float(np.hypot(rows, columns))
        if not long:
            return spacing[1] if spacing else 1.0
        pitch = spacing or (1.0, 1.0)
        return float(np.hypot(rows * pitch[0], columns * pitch[1])) * (1 + 1 / long)


@dataclass(frozen=True)
class Cardiothoracic:
    """The cardiothoracic ratio and what it is made of.

    right, left: from the midline to the farthest point of the heart on either side; chest: the widest row between the outer
    borders of the lungs; spacing: (row, column) [mm] or None; lungs: which kind of lungs it was measured in; note: what to keep
    in mind.
    """

    right: Line
    left: Line
    chest: Line
    spacing: Spacing | None
    lungs: str
    note: str = ""

    @property
    def midline(self) -> Line:
        """What divides the heart's width, drawn past both of its halves."""
        rows, column = (self.right.start[0], self.left.start[0]), self.right.start[1]
        past = (self.chest.end[1] - self.chest.start[1]) / 10
        return Line((max(min(rows) - past, 0.0), column), (max(rows) + past, column))

    @property
    def heart_width(self) -> float:
        """Both halves of the heart together [mm, or px without spacing]; the midline's own pixel counts once."""
        return self.right.length(self.spacing) + self.left.length(self.spacing) - (self.spacing[1] if self.spacing else 1.0)

    @property
    def chest_width(self) -> float:
        """[mm, or px without spacing]."""
        return self.chest.length(self.spacing)

    @property
    def ratio(self) -> float:
        """Heart over chest."""
        return self.heart_width / self.chest_width

    @property
    def unit(self) -> str:
        """Unit of the widths."""
        return "mm" if self.spacing else "px"


@dataclass(frozen=True)
class LungAreas:
    """Areas of the shadows of both lungs [cm2, or px without spacing]; lungs: which kind of lungs they are."""

    right: float
    left: float
    lungs: str
    unit: str

    @property
    def right_share(self) -> float:
        """The right lung's part of both, 0..1."""
        both = self.right + self.left
        return self.right / both if both else float("nan")


def needed(taught: Collection[str]) -> tuple[str, ...]:
    """Return the structures to ask a model for: the heart and the best kind of lungs that it was taught.

    taught: the keys that the model's card lists; where it lists none, the whole lungs, which every model of chests knows by name.
    """
    kind = next((kind for kind in LUNG_KINDS.values() if set(kind) <= set(taught)), LUNG_KINDS["projected"])
    return (HEART, *kind)


def cardiothoracic(masks: Mapping[str, np.ndarray], spacing: Spacing | None = None, view: str = "") -> Cardiothoracic:
    """Measure the cardiothoracic ratio in masks bool [row, column] by structure; patient right is on image left.

    The heart's width is the sum of its greatest distances to the right and to the left of the midline, the chest's the widest row
    between the outer borders of the lungs. The midline is the middle of the spine where there is a mask of it, else of the chest;
    it divides the heart's width and does not change it. Only the largest piece of each mask counts. view: PA, AP, LATERAL,
    OBLIQUE, several of them ("PA or AP") where that is not clear, or "".
    Raises ChexanatomyError when the heart or the lungs are missing, or the view is not frontal.
    """
    views = view.upper().split(" OR ")
    if set(views) <= set(NOT_FRONTAL):
        raise ChexanatomyError(f"The cardiothoracic ratio is for frontal views, this one is {view.lower()}: choose a PA view.")
    if not _there(masks, HEART):
        raise ChexanatomyError("There is no heart to measure in this picture.")
    kind, (right, left) = _lungs(masks)
    heart, right_lung, left_lung = (_largest_piece(mask) for mask in (masks[HEART], right, left))
    chest = _widest(right_lung, left_lung)
    columns = np.flatnonzero(heart.any(axis=0))
    first, last = int(columns[0]), int(columns[-1])
    middle = float(np.mean((chest.start[1], chest.end[1])))
    if _there(masks, SPINE):
        middle = float(np.flatnonzero(masks[SPINE].any(axis=0)).mean())
    middle = min(max(round(middle), first), last)
    rows = [float(np.flatnonzero(heart[:, column]).mean().round()) for column in (first, last)]
    return Cardiothoracic(
        Line((rows[0], float(middle)), (rows[0], float(first))),
        Line((rows[1], float(middle)), (rows[1], float(last))),
        chest,
        spacing,
        kind,
        _mind(views),
    )


def _mind(views: Sequence[str]) -> str:
    """What to mind about a picture that is one of these views."""
    turned = [view.lower() for view in views if view in NOT_FRONTAL]
    if turned:
        return f"This may be a view that is not frontal ({', '.join(turned)}), for which the ratio means nothing."
    if "AP" not in views:
        return ""
    larger = "shows the heart larger than a PA view does."
    return f"An AP view {larger}" if len(views) == 1 else f"This may be an AP view, which {larger}"


def lung_areas(masks: Mapping[str, np.ndarray], spacing: Spacing | None = None) -> LungAreas:
    """Areas of the lungs in masks bool [row, column] by structure. Raises ChexanatomyError when a lung is missing."""
    kind, both = _lungs(masks)
    areas = [area(mask, spacing) for mask in both]
    return LungAreas(areas[0], areas[1], kind, "cm²" if spacing else "px")


def area(mask: np.ndarray, spacing: Spacing | None = None) -> float:
    """Area of a mask bool [row, column]: in cm2 where the pixel spacing (row, column) [mm] is known, else in pixels."""
    pixels = int(np.count_nonzero(mask))
    return pixels * spacing[0] * spacing[1] / 100 if spacing else float(pixels)


def _there(masks: Mapping[str, np.ndarray], structure: str) -> bool:
    return structure in masks and bool(masks[structure].any())


def _lungs(masks: Mapping[str, np.ndarray]) -> tuple[str, tuple[np.ndarray, np.ndarray]]:
    """The best kind of which both lungs are there, with their masks (right, left)."""
    for kind, (right, left) in LUNG_KINDS.items():
        if _there(masks, right) and _there(masks, left):
            return kind, (masks[right], masks[left])
    named = [vocabulary()[name].name for name in LUNG_KINDS["outline"]]
    raise ChexanatomyError(f"Both lungs are needed to measure: find the {named[0]} and the {named[1]} first.")


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest: np.ndarray = pieces == sizes.argmax()
    return largest


def _widest(right: np.ndarray, left: np.ndarray) -> Line:
    """The row that shows both lungs and is the widest from the right lung's outer border to the left lung's."""
    rows = np.flatnonzero(right.any(axis=1) & left.any(axis=1))
    if not len(rows):
        raise ChexanatomyError("The two lungs lie at different heights: there is no row that crosses both.")
    outer = right[rows].argmax(axis=1), left.shape[1] - 1 - left[rows, ::-1].argmax(axis=1)
    widths = outer[1] - outer[0]
    best = int(widths.argmax())
    if widths[best] < 1:
        raise ChexanatomyError("The right lung lies to the right of the left one in the picture: it may be mirrored.")
    return Line((float(rows[best]), float(outer[0][best])), (float(rows[best]), float(outer[1][best])))
