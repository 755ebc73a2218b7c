"""Times the projector beside RTK's Joseph projector, same volume and poses, in turns within one run; prints a Markdown table.

RTK is taken where it is installed: pip install itk-rtk==2.7.0. Arguments: detector pixels, and the volume's edge in voxels.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from training.drr import Geometry, line_integrals, project_labels
from training.images.types import CT, LabelMap

POSES = {"PA": (0.0, 0.0, 0.0), "AP": (180.0, 0.0, 0.0), "lateral": (90.0, 0.0, 0.0), "oblique": (25.0, 12.0, 8.0)}
ROUNDS = 5


def ball_with_bones(edge: int) -> CT:
    """A smooth random body in a CT of edge x edge x 0.6 edge voxels over 360 x 360 x 300 mm, attenuation as int16."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    shape = (round(0.6 * edge), edge, edge)
    coarse = ndimage.gaussian_filter(rng.standard_normal((30, 50, 50)), 1.5)
    texture = ndimage.zoom(coarse / coarse.std(), np.array(shape) / coarse.shape, order=1)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    body = 1 / (1 + np.exp((np.sqrt((x / 0.8) ** 2 + (y / 0.6) ** 2 + (z / 0.9) ** 4) - 0.9) * 40))
    values = np.clip(1000 * body * (1 + 0.3 * texture), 0, 3000).astype(np.int16)
    spacing = (360 / edge, 360 / edge, 300 / shape[0])
    return CT(values, spacing, (-180 + spacing[0] / 2, -180 + spacing[1] / 2, -150 + spacing[2] / 2))


def rtk_projector(ct: CT, geometry: Geometry) -> Callable[[], np.ndarray] | None:
    """Return RTK's projection of the same values from the same pose, None where RTK is not installed."""
    try:
        import itk
        from itk import RTK
    except ImportError:
        return None
    image = itk.image_view_from_array(ct.hu.astype(np.float32))
    image.SetSpacing(list(ct.spacing))
    image.SetOrigin(list(ct.origin))
    kind = type(image)
    circle = RTK.ThreeDCircularProjectionGeometry.New()
    first, row_step, column_step = geometry.pixel_frame()
    right, down = geometry.axes
    centre = first + (geometry.rows - 1) / 2 * row_step + (geometry.columns - 1) / 2 * column_step
    added = circle.AddProjection(*(list(map(float, v)) for v in (geometry.source, centre, right, down)))
    if added is False:
        raise RuntimeError("RTK refused the pose")
    stack = RTK.ConstantImageSource[kind].New()
    stack.SetSize([geometry.columns, geometry.rows, 1])
    stack.SetSpacing([geometry.spacing[1], geometry.spacing[0], 1.0])
    stack.SetOrigin([-(geometry.columns - 1) / 2 * geometry.spacing[1], -(geometry.rows - 1) / 2 * geometry.spacing[0], 0.0])
    stack.SetConstant(0.0)

    def project() -> np.ndarray:
        joseph = RTK.JosephForwardProjectionImageFilter[kind, kind].New()
        joseph.SetGeometry(circle)
        joseph.SetInput(0, stack.GetOutput())
        joseph.SetInput(1, image)
        joseph.Update()
        return itk.array_from_image(joseph.GetOutput())[0]

    return project


def in_turns(*runs: Callable[[], object]) -> list[float]:
    """Median seconds of each of several runs, taken in turns after a first one that is not counted."""
    for run in runs:
        run()
    seconds: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        for mine, run in zip(seconds, runs, strict=True):
            start = time.perf_counter()
            run()
            mine.append(time.perf_counter() - start)
    return [statistics.median(s) for s in seconds]


def labels_of(ct: CT, count: int) -> LabelMap:
    """A label map of `count` structures: blocks of the body."""
    z, y, x = (np.arange(n) * 5 // n for n in ct.shape)
    ids = ((z[:, None, None] * 25 + y[:, None] * 5 + x) % count + 1).astype(np.uint8)
    ids[ct.hu < 300] = 0
    return LabelMap(ids, {i: (f"block {i}",) for i in range(1, count + 1)}, ct.spacing, ct.origin)


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pixels", type=int, default=512)
    options.add_argument("--edge", type=int, default=512)
    chosen = options.parse_args()
    ct = ball_with_bones(chosen.edge)
    labels = labels_of(ct, 90)
    write = sys.stdout.write
    write(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, volume {'x'.join(map(str, ct.shape[::-1]))}, ")
    write(f"detector {chosen.pixels}x{chosen.pixels}, median of {ROUNDS} runs in turns\n\n")
    write("| view | ours [s] | RTK Joseph [s] | RTK / ours | relative RMSE to RTK | 90 masks [s] |\n|---|---|---|---|---|---|\n")
    for name, (primary, secondary, roll) in POSES.items():
        geometry = Geometry.view(ct, primary, secondary, roll=roll, rows=chosen.pixels, columns=chosen.pixels)

        def ours(geometry: Geometry = geometry) -> np.ndarray:
            return line_integrals(ct.hu, ct, geometry)

        def masks(geometry: Geometry = geometry) -> object:
            return project_labels(labels, geometry)

        theirs = rtk_projector(ct, geometry)
        if theirs is None:
            mine, many = in_turns(ours, masks)
            write(f"| {name} | {mine:.3f} | not installed | | | {many:.3f} |\n")
            continue
        mine, other, many = in_turns(ours, theirs, masks)
        reference = theirs()
        error = float(np.sqrt(np.mean((ours() - reference) ** 2)) / np.sqrt(np.mean(reference**2)))
        write(f"| {name} | {mine:.3f} | {other:.3f} | {other / mine:.1f} | {100 * error:.3f} % | {many:.3f} |\n")


if __name__ == "__main__":
    main()
