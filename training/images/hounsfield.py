"""From stored values to Hounsfield units: rounded, clipped to int16, and a word on what that changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from training.errors import UnreadableFile

AIR = -1024
"""Lowest value kept [HU]: what lies below is padding outside the scanner's field of view."""

HIGHEST_AIR = -300
"""In a CT of the chest some voxel is below this [HU]: lung and the air around the body are."""

LEAST_RANGE = 100
"""A volume whose values differ by less [HU] shows no anatomy."""

FARTHEST = 2**30
"""Up to here a whole intercept is added in whole numbers."""


class Hounsfield:
    """Converts slab after slab and remembers what the values were like."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.below = self.undefined = 0
        self.rounded = self.clipped = False

    def convert(self, slab: np.ndarray, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
        """Return int16 [HU] of stored values of any shape, times slope plus intercept."""
        whole = slab.dtype.kind in "iu" and slope == 1 and float(intercept).is_integer() and abs(intercept) < FARTHEST
        if whole and slab.dtype.itemsize <= 2:
            values = slab.astype(np.int32) + np.int32(intercept)
        else:
            exact: Any = np.float64 if slab.dtype.itemsize > 2 else np.float32
            values = slab.astype(exact) * exact(slope) + exact(intercept)
            finite = np.isfinite(values)
            if not finite.all():
                self.undefined += int((~finite).sum())
                values = np.where(finite, values, AIR)
            whole_values = np.rint(values)
            self.rounded = self.rounded or bool((np.abs(values - whole_values) > 1e-3).any())
            values = whole_values
        low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        if low < AIR:
            self.below += int((values < AIR).sum())
        self.clipped = self.clipped or high > np.iinfo(np.int16).max
        return np.clip(values, AIR, np.iinfo(np.int16).max).astype(np.int16)

    def check(self, name: str) -> None:
        """Raise UnreadableFile when the values seen cannot be a chest CT in Hounsfield units."""
        if self.low <= HIGHEST_AIR and self.high - self.low >= LEAST_RANGE:
            return
        values = f"its values run from {self.low:g} to {self.high:g}, but in a CT air is near -1000 and bone above 200"
        if self.low == 0 and self.high <= 255 and not self.rounded:
            remedy = "if it is a label map, open it as labels"
        elif self.low >= 0 and self.high > 1000:
            remedy = "if it is a CT stored without its rescale intercept, subtract 1024 first"
        else:
            remedy = "convert the CT without scaling its values"
        raise UnreadableFile(f"{name} is no CT in Hounsfield units: {values}; {remedy}.")

    @property
    def notes(self) -> tuple[str, ...]:
        """Plain sentences on what the conversion changed."""
        notes = []
        if self.below:
            notes.append(f"{self.below} voxels below {AIR} HU (padding outside the field of view) were set to {AIR} HU.")
        if self.undefined:
            notes.append(f"{self.undefined} voxels without a value were set to {AIR} HU.")
        if self.rounded:
            notes.append("Values between whole HU were rounded.")
        if self.clipped:
            notes.append(f"Values above {np.iinfo(np.int16).max} HU were cut off there.")
        return tuple(notes)
