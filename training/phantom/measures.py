"""Sizes of a labelled thorax as radiologists and anatomists measure them, for comparison with what they publish."""

from __future__ import annotations

import numpy as np

from training import anatomy
from training.images import LabelMap


def measure(labels: LabelMap) -> dict[str, float]:
    """Return sizes by name; those whose structures are missing are left out. Lengths [mm], volumes [l], angles [degrees].

    lung volume; heart width, chest width (widest inner diameter of the lungs), cardiothoracic ratio as on a frontal radiograph;
    ascending and descending aorta (diameter of the circle of equal area at T6 and T9); trachea (width, mean of its length);
    clavicle (end to end); vertebra T8, T12 (height of the body); rib slope (fall of ribs 4 to 8 from the spine to the side, as
    the frontal radiograph shows it); dome difference (right dome of the diaphragm above the left).
    """
    ruler = _Ruler(labels)
    sizes: dict[str, float] = {}
    lungs, heart = ruler.points("lungs"), ruler.points("heart")
    if lungs is not None:
        sizes["lung volume"] = len(lungs) * float(np.prod(labels.spacing)) / 1e6
        sizes["chest width"] = ruler.widest("lungs")
        if heart is not None:
            sizes["heart width"] = float(np.ptp(heart[:, 0]))
            sizes["cardiothoracic ratio"] = sizes["heart width"] / sizes["chest width"]
    for name, level, part in (("ascending aorta", "T6", 0), ("descending aorta", "T9", -1)):
        diameter = ruler.aorta(level, part)
        if diameter is not None:
            sizes[name] = diameter
    if ruler.points("trachea") is not None:
        sizes["trachea"] = ruler.mean_width("trachea")
    for name in ("clavicula_left", "clavicula_right"):
        points = ruler.points(name)
        if points is not None:
            sizes["clavicle"] = float(np.linalg.norm(points[points[:, 0].argmax()] - points[points[:, 0].argmin()]))
    for level in ("T8", "T12"):
        height = ruler.body_height(f"vertebrae_{level}")
        if height is not None:
            sizes[f"vertebra {level}"] = height
    slopes = [s for side in ("left", "right") for n in range(4, 9) if (s := ruler.slope(f"rib_{side}_{n}")) is not None]
    if slopes:
        sizes["rib slope"] = float(np.mean(slopes))
    tops = [None if (p := ruler.points(f"lung_lower_lobe_{side}")) is None else _dome(p) for side in ("right", "left")]
    if tops[0] is not None and tops[1] is not None:
        sizes["dome difference"] = tops[0] - tops[1]
    return sizes


def _dome(lobe: np.ndarray) -> float:
    """Return the height of the diaphragm's dome [mm] under a lower lobe's points [n, 3]: the highest of its columns' floors."""
    columns = np.round(lobe[:, :2] / 6).astype(int)
    _, column = np.unique(columns, axis=0, return_inverse=True)
    floors = np.full(column.max() + 1, np.inf)
    np.minimum.at(floors, column.ravel(), lobe[:, 2])
    counts = np.bincount(column.ravel())
    return float(np.percentile(floors[counts > 0.4 * counts.max()], 90))


class _Ruler:
    """Points of structures [mm], found once."""

    def __init__(self, labels: LabelMap) -> None:
        self.labels = labels
        self._parts = anatomy.resolve(labels.structures)

    def _mask(self, structure: str) -> np.ndarray | None:
        if structure not in self._parts:
            return None
        mask = self.labels.mask(*self._parts[structure])
        return mask if mask.any() else None

    def points(self, structure: str) -> np.ndarray | None:
        """Return voxel centres [n, 3] (x, y, z) [mm], None where there are none."""
        mask = self._mask(structure)
        if mask is None:
            return None
        z, y, x = np.nonzero(mask)
        return np.stack([x, y, z], axis=1) * np.asarray(self.labels.spacing) + np.asarray(self.labels.origin)

    def widest(self, structure: str) -> float:
        """Return the largest width of a slice."""
        points = self.points(structure)
        assert points is not None
        return max(float(np.ptp(points[points[:, 2] == z][:, 0])) for z in np.unique(points[:, 2]))

    def mean_width(self, structure: str) -> float:
        """Return the width of a pipe: the diameter of the circle of its mean section."""
        points = self.points(structure)
        assert points is not None
        sections = np.unique(points[:, 2], return_counts=True)[1]
        area = float(np.median(sections)) * self.labels.spacing[0] * self.labels.spacing[1]
        return float(2 * np.sqrt(area / np.pi))

    def aorta(self, level: str, part: int) -> float | None:
        """Return the aorta's diameter at a vertebra; part 0: its foremost section there, -1: its hindmost."""
        from scipy import ndimage

        vertebra, aorta = self.points(f"vertebrae_{level}"), self._mask("aorta")
        if vertebra is None or aorta is None:
            return None
        slice_ = round(float(vertebra[:, 2].mean() - self.labels.origin[2]) / self.labels.spacing[2])
        pieces, count = ndimage.label(aorta[slice_])
        if count == 0:
            return None
        order = np.argsort(ndimage.center_of_mass(aorta[slice_], pieces, range(1, count + 1)), axis=0)[:, 0]
        area = float((pieces == 1 + order[part]).sum()) * self.labels.spacing[0] * self.labels.spacing[1]
        return float(2 * np.sqrt(area / np.pi))

    def body_height(self, vertebra: str) -> float | None:
        """Return the height of a vertebra's body: the median of the columns through its front half."""
        points = self.points(vertebra)
        if points is None:
            return None
        front = points[:, 1] < points[:, 1].min() + 0.22 * np.ptp(points[:, 1])
        x = points[front, 0]
        middle = front.nonzero()[0][np.abs(x - np.median(x)) < 8]
        columns = np.unique(points[middle][:, :2], axis=0, return_counts=True)[1]
        return float(np.percentile(columns, 60)) * self.labels.spacing[2] if len(columns) else None

    def slope(self, rib: str) -> float | None:
        """Return how far the hind part of a rib falls towards the side, as an angle to the horizontal in a frontal view."""
        points, spine = self.points(rib), self.points("vertebrae_T8")
        if points is None or spine is None:
            return None
        hind = points[points[:, 1] > np.median(points[:, 1])]
        away = np.abs(hind[:, 0] - spine[:, 0].mean())
        return float(-np.degrees(np.arctan(np.polyfit(away, hind[:, 2], 1)[0])))
