"""How the line integrals converge to the exact ones: a Gaussian, a ball and a box, by voxel size and by detector size.

`python -m benchmarks.convergence` prints the tables of docs/projection.md; `--plot FILE` draws them.

A voxel of ball and box carries the share of it that lies within the body. Errors are root mean squares, relative to that of the
exact picture: inside (rays of at least a quarter of the largest value that no ray within two voxels differs from by as much) and
everywhere, silhouettes included, where no projector can know more about a sharp edge than the voxels do. The Gaussian has none.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.drr import Geometry, line_integrals
from training.images.types import CT

VIEWS = {"PA": (0.0, 0.0, 0.0), "lateral": (90.0, 0.0, 0.0), "oblique": (25.0, 12.0, 8.0), "steep": (45.0, 30.0, 20.0)}
EDGE = 200.0
"""Edge of the volume [mm]."""
FIELD = 330.0
"""Edge of the detector [mm]."""
RADIUS = 70.3
HALF_BOX = np.array([62.3, 47.7, 71.9])
SIGMA = 18.0
"""Width of the Gaussian, of height 1 [mm]."""
MIDDLE = np.array([5.3, -7.1, 3.7])
"""Centre of the bodies (x, y, z) [mm]: on no voxel's centre or face."""
VOXELS = (8.0, 4.0, 2.0, 1.0)
PIXELS = (64, 128, 256, 512)
FIXED_VOXEL, FIXED_PIXELS = 1.0, 256


@dataclass(frozen=True)
class Errors:
    """Root mean squares relative to the exact picture, and the relative error of the picture's sum."""

    inside: float
    everywhere: float
    total: float


def grid(voxel: float) -> CT:
    """An empty volume of EDGE, centred."""
    count = round(EDGE / voxel)
    return CT(np.zeros((count,) * 3, np.int16), (voxel,) * 3, (-(count - 1) / 2 * voxel,) * 3)


def positions(ct: CT) -> list[np.ndarray]:
    """Voxel centres along x, y, z, relative to MIDDLE [mm]."""
    return [o + s * np.arange(n) - m for o, s, n, m in zip(ct.origin, ct.spacing, ct.shape[::-1], MIDDLE, strict=True)]


def rays(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Source relative to MIDDLE (x, y, z), and unit directions [row, column, 3]."""
    first, row, column = geometry.pixel_frame()
    r, c = np.meshgrid(np.arange(geometry.rows), np.arange(geometry.columns), indexing="ij")
    directions = first + r[..., None] * row + c[..., None] * column - geometry.source
    return geometry.source - MIDDLE, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def gaussian_values(ct: CT) -> np.ndarray:
    """The Gaussian at every voxel's centre."""
    x, y, z = positions(ct)
    return np.exp(-(x**2 + y[:, None] ** 2 + z[:, None, None] ** 2) / (2 * SIGMA**2)).astype(np.float32)


def gaussian_integrals(geometry: Geometry) -> np.ndarray:
    """Integral of the Gaussian along every ray [mm]."""
    source, directions = rays(geometry)
    nearest = source @ source - (directions @ source) ** 2
    return np.sqrt(2 * np.pi) * SIGMA * np.exp(-nearest / (2 * SIGMA**2))


def ball_shares(ct: CT) -> np.ndarray:
    """Share of every voxel within the ball: exact for a flat face square to the radius."""
    x, y, z = positions(ct)
    distance = np.sqrt(x**2 + y[:, None] ** 2 + z[:, None, None] ** 2)
    return np.clip((RADIUS - distance) / ct.spacing[0] + 0.5, 0, 1).astype(np.float32)


def ball_paths(geometry: Geometry) -> np.ndarray:
    """Chord of every ray [mm]."""
    source, directions = rays(geometry)
    along = directions @ -source
    return 2 * np.sqrt(np.maximum(0, RADIUS**2 - (source @ source - along**2)))


def box_shares(ct: CT) -> np.ndarray:
    """Share of every voxel within the box, exact."""

    def overlap(at: np.ndarray, half: float, step: float) -> np.ndarray:
        return np.clip((np.minimum(at + step / 2, half) - np.maximum(at - step / 2, -half)) / step, 0, 1)

    x, y, z = (overlap(at, half, s) for at, half, s in zip(positions(ct), HALF_BOX, ct.spacing, strict=True))
    return (z[:, None, None] * y[:, None] * x).astype(np.float32)


def box_paths(geometry: Geometry) -> np.ndarray:
    """Path of every ray between the box's faces [mm]."""
    source, directions = rays(geometry)
    with np.errstate(divide="ignore"):
        a, b = (-HALF_BOX - source) / directions, (HALF_BOX - source) / directions
    return np.maximum(0, np.maximum(a, b).min(axis=-1) - np.minimum(a, b).max(axis=-1))


BODIES: dict[str, tuple[Callable[[CT], np.ndarray], Callable[[Geometry], np.ndarray]]] = {
    "Gaussian": (gaussian_values, gaussian_integrals),
    "ball": (ball_shares, ball_paths),
    "box": (box_shares, box_paths),
}

SHARP = ("ball", "box")


def errors(body: str, view: str, voxel: float, pixels: int) -> Errors:
    """Project a body and compare."""
    from scipy import ndimage

    shares, paths = BODIES[body]
    ct = grid(voxel)
    primary, secondary, roll = VIEWS[view]
    spacing = (FIELD / pixels, FIELD / pixels)
    geometry = Geometry.view(ct, primary, secondary, roll=roll, rows=pixels, columns=pixels, spacing=spacing)
    exact = paths(geometry)
    off = line_integrals(shares(ct), ct, geometry) - exact
    reach = 2 * math.ceil(2 * voxel * geometry.sdd / geometry.sid / spacing[0]) + 1
    jump = ndimage.maximum_filter(exact, reach) - ndimage.minimum_filter(exact, reach)
    inside = (exact > exact.max() / 4) & (jump < exact.max() / 4) | (body not in SHARP)
    return Errors(
        float(np.sqrt(np.mean(off[inside] ** 2) / np.mean(exact[inside] ** 2))),
        float(np.sqrt(np.mean(off**2) / np.mean(exact**2))),
        float(abs(off.sum() / exact.sum())),
    )


def table(name: str, values: Iterable[float], measured: dict[tuple[str, str, float], Errors]) -> str:
    """Markdown: one row per body and view, errors inside and (everywhere) [%] by size."""
    values = list(values)
    lines = [f"| | {' | '.join(f'{v:g} {name}' for v in values)} |", "|---" * (len(values) + 1) + "|"]
    for body in BODIES:
        for view in VIEWS:
            row = [measured[body, view, v] for v in values]
            lines.append(f"| {body}, {view} | {' | '.join(f'{100 * e.inside:.2f} ({100 * e.everywhere:.2f})' for e in row)} |")
    return "\n".join(lines)


def draw(by_voxel: dict[tuple[str, str, float], Errors], by_pixels: dict[tuple[str, str, float], Errors], path: Path) -> None:
    """Errors inside against voxel and detector size."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for axis, measured in zip(axes, (by_voxel, by_pixels), strict=True):
        for body, style in (("Gaussian", ":"), ("ball", "-"), ("box", "--")):
            for view, colour in zip(VIEWS, ("#0b6e4f", "#3d5a98", "#c8553d", "#8d6a9f"), strict=True):
                line = {v: 100 * e.inside for (b, w, v), e in measured.items() if (b, w) == (body, view)}
                axis.plot(list(line), list(line.values()), style, color=colour, marker="o", ms=4, label=f"{body}, {view}")
        axis.axhline(0.5, color="black", lw=0.8)
        axis.set_xscale("log", base=2)
        axis.set(yscale="log", ylim=(1e-3, 6))
        axis.set_xticks(list(line), [f"{v:g}" for v in line])
        axis.grid(True, alpha=0.3)
    axes[0].set_xlabel(f"voxel edge [mm], {FIXED_PIXELS} pixels")
    axes[0].invert_xaxis()
    axes[1].set_xlabel(f"detector edge [pixels], {FIXED_VOXEL:g} mm voxels")
    axes[0].set_ylabel("relative error inside [%]")
    axes[1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Print the tables, draw the plot."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--plot", type=Path, default=None)
    chosen = options.parse_args()
    by_voxel = {(b, w, v): errors(b, w, v, FIXED_PIXELS) for b in BODIES for w in VIEWS for v in VOXELS}
    by_pixels = {(b, w, float(p)): errors(b, w, FIXED_VOXEL, p) for b in BODIES for w in VIEWS for p in PIXELS}
    print(f"Relative error inside (everywhere) [%], {FIXED_PIXELS} pixels:\n")
    print(table("mm", VOXELS, by_voxel))
    print(f"\nThe same at {FIXED_VOXEL:g} mm voxels:\n")
    print(table("pixels", PIXELS, by_pixels))
    worst = max(by_voxel[b, w, FIXED_VOXEL].total for b in BODIES for w in VIEWS)
    print(f"\nThe sum of the picture is off by at most {100 * worst:.2f} % at {FIXED_VOXEL:g} mm voxels.")
    if chosen.plot:
        draw(by_voxel, by_pixels, chosen.plot)


if __name__ == "__main__":
    main()
