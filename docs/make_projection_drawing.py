"""Draws docs/images/projection_walk.png: how rays meet the slices of a volume. `python docs/make_projection_drawing.py FILE`."""

from __future__ import annotations

import sys

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

SOURCE = np.array([0.0, 0.0])
SLICES = np.arange(5.0, 9.5, 0.75)
PLANE = 11.0
RAYS = np.linspace(-2.6, 2.6, 9)
TILT = np.radians(14)
GREEN, RED, GREY = "#0b6e4f", "#c8553d", "#777777"


def main() -> None:
    """Draw."""
    figure, axis = plt.subplots(figsize=(9, 3.6))
    for at in SLICES:
        axis.plot([at, at], [-2.4, 2.4], color=GREY, lw=1)
    centre = np.array([PLANE, 0.0])
    for y in RAYS:
        way = np.array([PLANE, y])
        across = np.array([-np.sin(TILT), np.cos(TILT)])
        normal = np.array([np.cos(TILT), np.sin(TILT)])
        hit = way * (centre @ normal) / (way @ normal)
        axis.plot(*zip(SOURCE, max(way, hit, key=lambda p: p[0]), strict=True), color=GREEN, lw=0.6, alpha=0.7)
        inside = [(s, y * s / PLANE) for s in SLICES if abs(y * s / PLANE) < 2.4]
        axis.plot(*zip(*inside, strict=True), "o", color=GREEN, ms=3.5)
        axis.plot(*way, "s", color=GREEN, ms=4)
    ends = centre + np.outer([-2.9, 2.9], across)
    axis.plot([PLANE, PLANE], [-2.9, 2.9], color=GREEN, lw=2)
    axis.plot(*ends.T, color=RED, lw=2)
    axis.plot(*SOURCE, "*", color="black", ms=10)
    axis.text(0, -0.45, "source", ha="center")
    axis.text(SLICES.mean(), 2.6, "slices of the volume", ha="center", color=GREY)
    axis.text(PLANE + 0.15, -3.1, "virtual detector, parallel to the slices", color=GREEN)
    axis.text(ends[1, 0] - 0.1, ends[1, 1] + 0.15, "detector", color=RED, ha="right")
    axis.set(xlim=(-0.6, 15.2), ylim=(-3.4, 3.4), aspect="equal")
    axis.axis("off")
    figure.tight_layout()
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
