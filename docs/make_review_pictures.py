"""Take the pictures of docs/review.md in the real window: `python docs/make_review_pictures.py DATASET docs/images`.

DATASET is copied, some errors are planted (benchmarks/planted_errors.py), and two reviewers decide. Needs a display.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any


def main(source: Path, folder: Path) -> None:
    """Take them all."""
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "benchmarks")]
    import napari
    from make_screenshots import SCREEN, picture, wait
    from planted_errors import merge, plant
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_chexanatomy.review import ReviewWidget
    from training.dataset import judge

    with tempfile.TemporaryDirectory() as scratch:
        dataset, _ = plant(merge([source], Path(scratch) / "data"), 0.003, 0)
        judge(dataset)
        viewer = napari.Viewer(title="CheXanatomy")
        viewer.window.resize(*SCREEN)
        widget: Any = ReviewWidget(viewer)
        viewer.window.add_dock_widget(widget, name="Review")
        canvas = viewer.window._qt_window._qt_viewer.canvas.native
        panel = widget.panel

        def press(keys: str) -> None:
            for key in keys:
                QTest.keyClick(canvas, getattr(Qt.Key, f"Key_{key}"))
                wait(lambda: widget.settled)

        panel.reviewer.setText("anna")
        widget.open(dataset.folder)
        wait(lambda: widget.opened is not None and widget.settled)
        panel.filter.view.setCurrentIndex(panel.filter.view.findData("PA"))
        wait(lambda: widget.settled)
        press("NN")
        picture(viewer, folder / "review-case.png")
        press("RRQRNQANQFNQRN")
        panel.tabs.setCurrentWidget(panel.overview)
        wait(lambda: not panel.gallery.cases.waiting)
        picture(viewer, folder / "review-gallery.png")
        panel.reviewer.setText("ben")
        panel.reviewer.editingFinished.emit()
        wait(lambda: widget.settled)
        for case in widget.queue.cases[3:7]:
            widget.go_to(case.id)
            wait(lambda: widget.settled)
            press("QR")
        panel.tabs.setCurrentWidget(panel.agreement)
        picture(viewer, folder / "review-reviewers.png")
        viewer.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "docs/images"))
