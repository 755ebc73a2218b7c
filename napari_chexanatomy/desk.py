"""What the four widgets share: a scrolling body, a message line, a progress line with Cancel, layer choosers, and a clean end."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_chexanatomy.canvas import look_after
from napari_chexanatomy.jobs import Job, Work
from napari_chexanatomy.memory import give_back
from training.errors import ChexanatomyError
from training.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

Method = TypeVar("Method", bound=Callable[..., Any])
NARROWEST = 316
"""Least width of a widget [px]."""
GIVE_BACK_MS = 1000
"""How long after a widget was closed its memory is given back [ms]: its threads end within half a second."""
DISCLAIMER = "For research only, not for diagnosis."


def plainly(method: Method) -> Method:
    """Show an error of the user's making as its sentence in the widget's message line; the click changes nothing else."""

    @functools.wraps(method)
    def slot(self: DeskWidget, *arguments: Any) -> Any:
        try:
            return method(self, *arguments)
        except (ChexanatomyError, OSError) as error:
            self.complain(str(error))
            return None

    return slot  # type: ignore[return-value]


class Column(QScrollArea):
    """Scrolls upright only, and is never narrower than what it holds: nothing is cut off at its right."""

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As wide as the inner widget and the scroll bar."""
        hint = super().minimumSizeHint()
        if self.widget() is not None:
            wide = self.widget().minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
            hint.setWidth(max(hint.width(), wide, NARROWEST))
        return hint

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """No wider than needed: the picture beside it wants the room."""
        return QSize(self.minimumSizeHint().width(), super().sizeHint().height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Hear of a new layout inside."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))


class DeskWidget(QWidget):
    """Base of the widgets. It ends its work when it is closed, docked away or its window is destroyed."""

    def __init__(self, viewer: ViewerModel) -> None:
        """Build the frame; a subclass fills `body`."""
        super().__init__()
        # The window hands out a proxy whose layers compare unequal to those in events.
        self.viewer: ViewerModel = getattr(viewer, "__wrapped__", viewer)
        self._job: Job | None = None
        self._was_docked = False
        self._doing = self._saying = ""
        self._actions: list[QWidget] = []

        inner = QWidget()
        self.body = QVBoxLayout(inner)
        self.body.setContentsMargins(6, 6, 6, 6)
        self._area = area = Column()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inner)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setTextFormat(Qt.TextFormat.PlainText)  # a sentence may repeat a word of a file
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.progress_bar = QProgressBar()
        self.progress_bar.setTextVisible(True)
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setToolTip("Stop what is running now. Finished work is kept.")
        self.cancel_button.clicked.connect(self.cancel)
        self._progress_row = QWidget()
        row = QHBoxLayout(self._progress_row)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.progress_bar, 1)
        row.addWidget(self.cancel_button)
        self._progress_row.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 2, 2, 2)
        layout.addWidget(area, 1)
        layout.addWidget(self._progress_row)
        layout.addWidget(self.message)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def reveal(self, widget: QWidget) -> None:
        """Scroll until a part of the body is in view, when the layout has settled."""
        QTimer.singleShot(0, lambda: self._area.ensureWidgetVisible(widget, 0, 0) if isalive(self) and isalive(widget) else None)

    # What happens is said in one line -------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Show a plain message."""
        self._show_message("", text)

    def complain(self, text: str) -> None:
        """Show an error sentence, marked so that it is not missed."""
        self._show_message("QLabel { color: #ffffff; background-color: #a33a2a; padding: 4px; border-radius: 3px; }", text)

    def _show_message(self, style: str, text: str) -> None:
        if self.message.styleSheet() != style:
            self.message.setStyleSheet(style)
        if self.message.text() != text:
            self.message.setText(text)

    # Work off the GUI thread ----------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """True while a job runs."""
        return self._job is not None and self._job.running

    def disable_while_busy(self, *widgets: QWidget) -> None:
        """Grey these controls out while a job runs."""
        self._actions.extend(widgets)

    def start(self, text: str, work: Work, then: Callable[[Any], None], quiet: bool = False, writes: bool = False) -> Job:
        """Run the work in a thread and hand its value to `then` in the GUI thread. Raises ChexanatomyError while one runs.

        quiet: a short job that leaves the message line alone; writes: one whose value is handed on although Cancel came too late.
        """
        if self.busy:
            raise ChexanatomyError("Something is still running here: wait for it or press Cancel.")
        job = Job(work, self, writes)
        self._job = job
        self.progress_bar.setRange(0, 0)
        self.progress_bar.setFormat(_no_format(text))
        self._doing = self._saying = text + " …"
        if not quiet:
            self.say(self._saying)
        self._set_busy(True)
        job.progressed.connect(functools.partial(self._show_progress, quiet))
        job.failed.connect(self.complain)
        job.cancelled.connect(self._say_stopped)
        job.succeeded.connect(functools.partial(self._succeed, then, quiet))
        job.ended.connect(self._job_ended)
        job.start()
        return job

    def start_saving(self, work: Callable[[ProgressCallback], Path]) -> Job:
        """Run the work that writes files, and say where."""
        return self.start("Saving", work, lambda where: self.say(f"Saved in {where}."), writes=True)

    def cancel(self) -> None:
        """Stop the running job, if there is one."""
        if self._job is not None and self._job.running:
            self._job.cancel()
            self.cancel_button.setEnabled(False)
            self.say("Stopping …")

    def _succeed(self, then: Callable[[Any], None], quiet: bool, value: Any) -> None:
        if not quiet:
            self.say("")
        try:
            then(value)
        except (ChexanatomyError, OSError) as error:
            self.complain(str(error))

    def _show_progress(self, quiet: bool, report: Progress) -> None:
        self.progress_bar.setRange(0, max(report.total, 0))
        self.progress_bar.setValue(report.done)
        text = _no_format(report.text)
        self.progress_bar.setFormat(f"{text} %p%" if report.total else text)
        if not quiet and self.message.text() == self._saying:  # and not what was said meanwhile
            # A bar without an end shows no text.
            self._saying = f"{report.text[0].upper()}{report.text[1:]} …" if text and not report.total else self._doing
            self.say(self._saying)

    def _say_stopped(self) -> None:
        self.say("Stopped.")

    def _job_ended(self) -> None:
        self._set_busy(False)

    def _set_busy(self, busy: bool) -> None:
        self._progress_row.setVisible(busy)
        self.cancel_button.setEnabled(True)
        for widget in self._actions:
            widget.setEnabled(not busy)

    # A clean end ----------------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """End all work: called when the widget is taken out of the window."""
        self.cancel()
        QTimer.singleShot(GIVE_BACK_MS, give_back)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """In a window now: see that its canvas outlives the layers."""
        super().showEvent(event)
        look_after(self.viewer, self.window())

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Notice that the widget was taken out of its dock."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._was_docked = True
            elif self._was_docked:
                self._was_docked = False
                self.shut_down()

    # Small helpers --------------------------------------------------------------------------------------------------

    def ask_folder(self, title: str) -> Path | None:
        """Let the user choose a folder; None when they change their mind."""
        chosen = QFileDialog.getExistingDirectory(self, title)
        return Path(chosen) if chosen else None

    def ask_files(self, title: str, kinds: str) -> list[Path]:
        """Let the user choose files of the kinds in Qt's notation."""
        return [Path(name) for name in QFileDialog.getOpenFileNames(self, title, "", kinds)[0]]


def _no_format(text: str) -> str:
    """Text for a progress bar, which fills in %p, %v and %m: a file's name may hold them."""
    return text.replace("%", "\u2052")


class LayerChooser(QComboBox):
    """Offers the viewer's layers of one kind and follows them through renaming, moving and deletion."""

    chosen_changed = Signal()

    def __init__(self, viewer: ViewerModel, accept: Callable[[Layer], bool], none_yet: str, optional: str = "") -> None:
        """`none_yet` is shown when there is no such layer; a text in `optional` adds an entry for choosing none."""
        super().__init__()
        self._viewer = viewer
        self._accept = accept
        self._none_yet = none_yet
        self._optional = optional
        self._layers: list[weakref.ref[Layer] | None] = []
        self._last: weakref.ref[Layer] | None = None
        self._declined = False
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        events = viewer.layers.events
        for event in (events.inserted, events.removed, events.reordered, events.renamed):
            event.connect(self.refresh)
        self.activated.connect(self._user_chose)
        self.refresh()

    @property
    def chosen(self) -> Layer | None:
        """The chosen layer, None when there is none; never one that has left the viewer."""
        layer = self._last() if self._last is not None else None
        return layer if layer is not None and layer in self._viewer.layers else None

    def choose(self, layer: Layer | None) -> None:
        """Choose a layer as the user would."""
        for index, candidate in enumerate(self._layers):
            if (candidate() if candidate is not None else None) is layer:
                self.setCurrentIndex(index)
                self._user_chose(index)
                return

    def refresh(self, event: Any = None) -> None:
        """Read the layer list again, keeping the choice where it still stands."""
        # The viewer may outlive the widget; a slot on `destroyed` may run while Python collects its closure.
        if not isalive(self):
            return
        before = self.chosen
        fitting = [layer for layer in reversed(self._viewer.layers) if self._accept(layer)]
        self.blockSignals(True)
        self.clear()
        self._layers = []
        if self._optional:
            self.addItem(self._optional)
            self._layers.append(None)
        for layer in fitting:
            self.addItem(layer.name)
            self._layers.append(weakref.ref(layer))
        if not self._layers:
            self.addItem(self._none_yet)
        self.setEnabled(bool(self._layers))
        after = before if before in fitting else (None if self._declined or not fitting else fitting[0])
        self._last = weakref.ref(after) if after is not None else None
        if after is not None:
            self.setCurrentIndex(fitting.index(after) + bool(self._optional))
        self.blockSignals(False)
        if after is not before:
            self.chosen_changed.emit()

    def _user_chose(self, index: int) -> None:
        self._last = self._layers[index] if 0 <= index < len(self._layers) else None
        self._declined = bool(self._optional) and index == 0
        self.chosen_changed.emit()
