"""Time and memory against the sizes of detector and volume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.drr.turns import Result

COLOURS = {"ours": "#0b6e4f", "RTK": "#c8553d", "nanodrr": "#3d5a98", "plastimatch": "#8d6a9f"}
STYLES = {"PA": "-", "oblique": "--"}
LEAST_MB = 1.0
"""What takes less memory than this is drawn as if it took this: freed memory is used again, which hides it."""
SIZE = 512
"""Pixels, and voxels along an edge, that are held fixed while the other one changes."""


def draw(results: Sequence[Result], path: Path) -> bool:
    """Four panels: best time and memory, against pixels (at the largest volume) and against voxels (at 512 pixels).

    False, and no picture, without at least one cubed volume at 512 pixels.
    """
    threads = max(r.threads for r in results)
    mine = [r for r in results if r.threads == threads and r.labels == 0 and r.seconds and len(set(r.size)) == 1]
    if not any(r.pixels == SIZE for r in mine):
        return False
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    edge = SIZE if any(r.size[0] == SIZE for r in mine) else max((r.size[0] for r in mine), default=SIZE)
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), sharex="col", sharey="row")
    for row, value in enumerate((lambda r: 1000 * r.best, lambda r: max(LEAST_MB, (max(r.held, 0) + max(r.work, 0)) / 1e6))):
        for column, kept in enumerate(([r for r in mine if r.size[0] == edge], [r for r in mine if r.pixels == SIZE])):
            for engine in sorted({r.engine for r in kept}, key=list(COLOURS).index):
                colour = COLOURS[engine]
                for view, style in STYLES.items():
                    line = {
                        (r.pixels if column == 0 else r.size[0]): value(r) for r in kept if r.engine == engine and r.view == view
                    }
                    at = sorted(line)
                    label = engine if view == "PA" else None
                    axes[row, column].plot(at, [line[x] for x in at], style, color=colour, marker="o", ms=4, label=label)
            axes[row, column].set_xscale("log", base=2)
            axes[row, column].set_yscale("log")
            axes[row, column].grid(True, which="major", alpha=0.3)
            ticks = sorted({r.pixels if column == 0 else r.size[0] for r in kept})
            axes[row, column].set_xticks(ticks, [str(t) for t in ticks])
    axes[0, 0].set_ylabel("time per view [ms]")
    axes[1, 0].set_ylabel("memory besides the volume [MB]")
    axes[1, 0].set_xlabel(f"detector edge [pixels], {edge}³ voxels")
    axes[1, 1].set_xlabel(f"volume edge [voxels], {SIZE} pixels")
    axes[0, 0].legend(title="PA (dashed: oblique)", frameon=False, fontsize=8, loc="lower right")
    figure.suptitle(f"{threads} threads")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True
