"""A slider with a number and its unit: drag it, type into it, or step it with the arrow keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

from qtpy.QtCore import QEvent, QObject, QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import QAbstractSpinBox, QDoubleSpinBox, QHBoxLayout, QSlider, QWidget

STEPS = 1000
"""Positions of the handle, where a step of the knob would give fewer."""
BOX_WIDTH = 92
LONGEST_FREEZE_MS = 150
"""The handle is painted after so long even if nobody says that its picture is there [ms]."""


@dataclass(frozen=True)
class Knob:
    """What a slider sets: name, unit, range (low, high), one step of the arrow keys, and what it does in the user's words.

    logarithmic: equal ways of the handle are equal factors.
    """

    label: str
    unit: str
    low: float
    high: float
    tip: str
    step: float = 1.0
    decimals: int = 0
    logarithmic: bool = False


class UnitSlider(QWidget):
    """One knob. `valueChanged` carries every new value, `released` says that the hand has let go."""

    valueChanged = Signal(float)  # noqa: N815 - as Qt's own sliders call it
    released = Signal()

    def __init__(self, knob: Knob) -> None:
        """Stand at the low end."""
        super().__init__()
        self.knob = knob
        self.handle = QSlider(Qt.Orientation.Horizontal)
        self.handle.setRange(0, STEPS)
        self.box = QDoubleSpinBox()
        self.box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
        self.box.setDecimals(knob.decimals)
        self.box.setSingleStep(knob.step)
        self.box.setSuffix(f" {knob.unit}" if knob.unit else "")
        self.box.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.box.setKeyboardTracking(False)
        self.box.setFixedWidth(BOX_WIDTH)
        self.box.setRange(knob.low, knob.high)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.handle, 1)
        layout.addWidget(self.box)
        self._thaw_soon = QTimer(self)
        self._thaw_soon.setSingleShot(True)
        self._thaw_soon.setInterval(LONGEST_FREEZE_MS)
        self._thaw_soon.timeout.connect(self.thaw)
        self._value = knob.low
        self._low, self._high = knob.low, knob.high
        self.setToolTip(knob.tip)
        for part in (self.handle, self.box):
            part.installEventFilter(self)
            part.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.handle.valueChanged.connect(self._dragged)
        self.handle.sliderReleased.connect(self._let_go)
        self.box.valueChanged.connect(self._typed)

    @property
    def held(self) -> bool:
        """True while the hand is on the handle."""
        return self.handle.isSliderDown()

    def value(self) -> float:
        """The exact value, also where the handle and the number show it rounded."""
        return self._value

    def setValue(self, value: float) -> None:  # noqa: N802 - as Qt's own sliders call it
        """Go to a value; one outside of the range widens it."""
        self._low, self._high = min(self._low, value), max(self._high, value)
        if value == self._value:
            return
        self._value = float(value)
        self._show()
        self.valueChanged.emit(self._value)

    def thaw(self) -> None:
        """Paint the handle where it is now.

        While it is dragged the handle is painted when the picture that follows it is there: without a graphics card every
        repaint, however small, costs the drawing of the whole window.
        """
        self._thaw_soon.stop()
        self.setUpdatesEnabled(True)

    def _freeze(self) -> None:
        if self.updatesEnabled():
            self.setUpdatesEnabled(False)
            self._thaw_soon.start()

    def _let_go(self) -> None:
        self.thaw()
        self.released.emit()

    def _show(self) -> None:
        with QSignalBlocker(self.handle), QSignalBlocker(self.box):
            self.box.setRange(self._low, self._high)
            self.box.setValue(self._value)
            self.handle.setValue(round(STEPS * self._share(self._value)))

    def _share(self, value: float) -> float:
        low, high = self._low, self._high
        if self.knob.logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    def _dragged(self, position: int) -> None:
        share = position / STEPS
        low, high = self._low, self._high
        value = low * (high / low) ** share if self.knob.logarithmic else low + share * (high - low)
        self._take(min(high, max(low, round(value / self.knob.step) * self.knob.step)))

    def _typed(self, value: float) -> None:
        self._take(value)
        self.released.emit()

    def _take(self, value: float) -> None:
        if value == self._value:
            return
        self._value = value
        with QSignalBlocker(self.handle), QSignalBlocker(self.box):
            self.box.setValue(value)
            if not self.held:
                self.handle.setValue(round(STEPS * self._share(value)))
        self.valueChanged.emit(value)

    def eventFilter(self, part: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Leave the mouse wheel to the panel: a hand that scrolls past must not turn the tube."""
        if event.type() == QEvent.Type.Wheel and not part.hasFocus():  # type: ignore[attr-defined]
            event.ignore()
            return True
        if event.type() == QEvent.Type.MouseMove and self.held:
            self._freeze()
        return super().eventFilter(part, event)
