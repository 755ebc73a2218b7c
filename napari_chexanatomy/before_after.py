"""Before and after, side by side: a held-out image with what was drawn and what the model says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qtpy.QtCore import QPoint, QRect, Qt, Signal
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import QDialog, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_chexanatomy.overlay import edge

DRAWN = (255, 255, 255)
SAID = (255, 150, 40)
SAID_OPACITY = 0.45
LARGEST = 900
"""Longest side of a picture that is drawn [px]."""
SMALL_HEIGHT, LARGE_SIZE = 165, (1100, 620)


@dataclass(frozen=True)
class Compared:
    """One held-out image. pixels: float [row, column] in 0..1; drawn, before, after: bool of its size; scores: Dice before and
    after."""

    title: str
    pixels: np.ndarray
    drawn: np.ndarray
    before: np.ndarray
    after: np.ndarray
    scores: tuple[float | None, float | None]


def read_comparison(adapter: Path) -> dict[str, dict[str, np.ndarray]]:
    """Held-out image -> drawn, before, after, bool [row, column], as an adapter keeps them; empty where it has none."""
    from training.fit.adapters import HELD_OUT
    from training.images import from_rle

    try:
        record = json.loads((adapter / HELD_OUT).read_text(encoding="utf-8"))
        return {str(name): {when: from_rle(code) for when, code in masks.items()} for name, masks in record.items()}
    except (OSError, ValueError, AttributeError):
        return {}


def picture(pixels: np.ndarray, drawn: np.ndarray, said: np.ndarray) -> np.ndarray:
    """The image in grey, what the model says filled in orange, what was drawn outlined in white: uint8 [row, column, 3]."""
    step = max(1, -(-max(pixels.shape) // LARGEST))
    grey, drawn, said = pixels[::step, ::step], drawn[::step, ::step], said[::step, ::step]
    shown = np.repeat(np.clip(grey, 0, 1)[..., None] * 255, 3, axis=2)
    shown[said] = (1 - SAID_OPACITY) * shown[said] + SAID_OPACITY * np.array(SAID)
    width = max(1, round(max(grey.shape) / 300))
    shown[edge(said, width)] = SAID
    shown[edge(drawn, width)] = DRAWN
    return shown.round().astype(np.uint8)


class Pane(QWidget):
    """One picture with a line below it, scaled to the room there is."""

    clicked = Signal()

    def __init__(self) -> None:
        """Empty at first."""
        super().__init__()
        self._pixmap: QPixmap | None = None
        self.caption = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(120, 120)

    def show_picture(self, image: np.ndarray | None, caption: str) -> None:
        """Show uint8 [row, column, 3], or nothing."""
        self.caption = caption
        if image is None:
            self._pixmap = None
        else:
            rows, columns = image.shape[:2]
            data = np.ascontiguousarray(image)
            self._pixmap = QPixmap.fromImage(QImage(data.tobytes(), columns, rows, 3 * columns, QImage.Format.Format_RGB888))
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Draw the picture in the middle, the caption under it."""
        painter = QPainter(self)
        line = painter.fontMetrics().height() + 4
        room = QRect(0, 0, self.width(), self.height() - line)
        if self._pixmap is not None:
            size = self._pixmap.size().scaled(room.size(), Qt.AspectRatioMode.KeepAspectRatio)
            corner = QPoint((room.width() - size.width()) // 2, (room.height() - size.height()) // 2)
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawPixmap(QRect(corner, size), self._pixmap)
        painter.setPen(self.palette().color(self.foregroundRole()))
        below = QRect(0, self.height() - line, self.width(), line)
        painter.drawText(below, Qt.AlignmentFlag.AlignCenter, self.caption)

    def mousePressEvent(self, _event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """A click asks for the large view."""
        self.clicked.emit()


class BeforeAfter(QWidget):
    """Two panes and a row to walk through the held-out images."""

    def __init__(self, large: bool = False) -> None:
        """large: fill a window, instead of a part of the widget."""
        super().__init__()
        self.images: list[Compared] = []
        self._number = 0
        self._large = large
        self._window: QDialog | None = None
        self.before, self.after = Pane(), Pane()
        panes = QHBoxLayout()
        panes.setSpacing(4)
        for pane, tip in ((self.before, "before"), (self.after, "after")):
            pane.setToolTip(f"What the model said {tip} learning (orange), and what you drew (white line). Click to enlarge.")
            pane.clicked.connect(self.enlarge)
            if not large:
                pane.setFixedHeight(SMALL_HEIGHT)
            panes.addWidget(pane, 1)
        row = QHBoxLayout()
        self._back, self._on = QPushButton("◀"), QPushButton("▶")
        for button, step, tip in ((self._back, -1, "previous"), (self._on, 1, "next")):
            button.setToolTip(f"Show the {tip} held-out image.")
            button.setMaximumWidth(36)
            button.clicked.connect(lambda _=False, step=step: self.walk(step))
        self.title = QLabel()
        self.title.setTextFormat(Qt.TextFormat.RichText)
        self.title.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        row.addWidget(self._back)
        row.addWidget(self.title, 1)
        row.addWidget(self._on)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(panes)
        layout.addLayout(row)
        if not large:
            self.hide()

    def show_images(self, images: list[Compared], number: int = 0) -> None:
        """Show one of these; nothing at all where there are none."""
        self.images = images
        self._number = min(number, max(0, len(images) - 1))
        self.setVisible(bool(images))
        self._repaint()

    def walk(self, step: int) -> None:
        """Go to the next or the previous image, round and round."""
        if self.images:
            self._number = (self._number + step) % len(self.images)
            self._repaint()

    def enlarge(self) -> QDialog | None:
        """Open the same in a window of its own."""
        if self._large or not self.images:
            return None
        if self._window is None:
            self._window = QDialog(self.window())
            self._window.setWindowTitle("Before and after")
            self._window.resize(*LARGE_SIZE)
            self._inside = BeforeAfter(large=True)
            QVBoxLayout(self._window).addWidget(self._inside)
        self._inside.show_images(self.images, self._number)
        self._window.show()
        self._window.raise_()
        return self._window

    def _repaint(self) -> None:
        if not self.images:
            return
        shown = self.images[self._number]
        for pane, said, when, score in zip(
            (self.before, self.after), (shown.before, shown.after), ("before", "after"), shown.scores, strict=True
        ):
            caption = f"{when}: Dice {score:.3f}" if score is not None else when
            pane.show_picture(picture(shown.pixels, shown.drawn, said), caption)
        number = f" ({self._number + 1} of {len(self.images)})" if len(self.images) > 1 else ""
        self.title.setText(f"{shown.title}{number} &nbsp; {swatch(SAID)} model &nbsp; ▭ your drawing")
        for button in (self._back, self._on):
            button.setVisible(len(self.images) > 1)


def swatch(colour: tuple[int, int, int]) -> str:
    """A square of a colour, for a legend in rich text."""
    return f'<span style="color:{QColor(*colour).name()}">■</span>'
