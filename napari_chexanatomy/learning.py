"""Learning, in a child process: the live plot, Stop and Cancel, before and after, and the list of adapters."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGroupBox, QHBoxLayout, QLabel, QListWidget, QListWidgetItem, QPushButton, QSpinBox, QVBoxLayout

from napari_chexanatomy.jobs import ChildProcess
from napari_chexanatomy.model_chooser import apply_everywhere, read_card
from training.errors import ChexanatomyError
from training.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from napari_chexanatomy.fewshot import FewShotWidget

PATH_ROLE = Qt.ItemDataRole.UserRole
LEARNING_SECONDS = 40
"""Most time for learning, unless the user says otherwise [s]."""
LOSS, DICE = "loss", "held_out_dice"


class LearningPanel(QGroupBox):
    """The lower half of the Few-shot widget."""

    def __init__(self, desk: FewShotWidget) -> None:
        """`desk` is the widget whose project is learnt from."""
        super().__init__("Learning")
        import pyqtgraph

        self._desk = desk
        self._child: ChildProcess | None = None
        self._first_step = 0.0
        self._points: dict[str, tuple[list[float], list[float]]] = {}
        row = QHBoxLayout()
        self.learn_button = QPushButton("Learn")
        self.learn_button.setToolTip("Teach the model what you drew. It runs beside the window; you can go on drawing.")
        self.learn_button.clicked.connect(desk.learn)
        self.stop_button = QPushButton("Stop, keep the best")
        self.stop_button.setToolTip("End the learning now and keep the best state so far. Cancel, below, throws it away.")
        self.stop_button.clicked.connect(self.stop)
        self.stop_button.setEnabled(False)
        self.seconds = QSpinBox()
        self.seconds.setRange(1, 3600)
        self.seconds.setValue(LEARNING_SECONDS)
        self.seconds.setSuffix(" s")
        self.seconds.setToolTip("Most time for learning. It ends sooner when the held-out images get no better any more.")
        row.addWidget(self.learn_button, 1)
        row.addWidget(self.seconds)
        row.addWidget(self.stop_button)
        self.plot = pyqtgraph.GraphicsLayoutWidget()
        self.plot.setBackground(None)
        self.plot.setFixedHeight(170)
        self.plot.setToolTip("Left: loss on the images learnt from. Right: Dice on the held-out ones, at most 1.")
        self._curves = {
            LOSS: _curve(self.plot, 0, "loss", "#e8a33d"),
            DICE: _curve(self.plot, 1, "held-out Dice", "#4fb0e8", (0, 1)),
        }
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.adapters = QListWidget()
        self.adapters.setMaximumHeight(80)
        self.adapters.setToolTip("What this project has learnt so far. Select one and press Apply to predict with it.")
        buttons = QHBoxLayout()
        for text, tip, slot in (
            ("Apply", "Predict with the selected adapter from now on, also when it is not better than before.", self.apply),
            ("Delete", "Throw the selected adapter away.", self.delete),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(slot)
            buttons.addWidget(button)
        layout = QVBoxLayout(self)
        layout.addLayout(row)
        layout.addWidget(self.plot)
        layout.addWidget(self.result)
        layout.addWidget(QLabel("Learnt so far"))
        layout.addWidget(self.adapters)
        layout.addLayout(buttons)

    # A run ----------------------------------------------------------------------------------------------------------

    def prepare(self, arguments: list[str]) -> ChildProcess:
        """Clear the plot and make the child process for a run."""
        self._points = {LOSS: ([], []), DICE: ([], [])}
        for curve in self._curves.values():
            curve.setData([], [])
        self._first_step = 0.0
        self.result.clear()
        self._child = ChildProcess(arguments)
        self.stop_button.setEnabled(True)
        return self._child

    def stop(self, *_: Any) -> None:
        """End early and keep the best."""
        if self._child is not None:
            self._child.stop_gently()
            self.stop_button.setEnabled(False)
            self._desk.say("Ending the learning; the best state so far is kept …")

    def ended(self) -> None:
        """The run is over, whatever way."""
        self._child = None
        self.stop_button.setEnabled(False)

    def show_progress(self, report: Progress) -> None:
        """Plot the figures of a report and say how long it will take."""
        for name, curve in self._curves.items():
            if name in report.values and LOSS in report.values:  # the closing report repeats the Dice, not the step
                steps, values = self._points[name]
                steps.append(report.done)
                values.append(report.values[name])
                curve.setData(steps, values)
        if report.total and report.done:
            now = time.monotonic()
            self._first_step = self._first_step or now
            gone = now - self._first_step
            left = min(gone / report.done * (report.total - report.done), max(0.0, self.seconds.value() - gone))
            self.result.setText(f"Step {report.done} of at most {report.total}, at most {left:.0f} s left.")

    def show_result(self, adapter: Path) -> None:
        """Before and after on the held-out images; a better adapter is applied, any other only kept."""
        card = read_card(adapter)
        before, after = _dice(card.get("before")), _dice(card.get("after"))
        self.refresh(adapter)
        if before is None and after is None:
            self.result.setText("Learnt, but no image was held out, so nobody knows whether it is better. Press Apply to use it.")
            return
        project = self._desk.project
        titles = {item.name: item.title for item in project.items} if project is not None else {}
        scores = _per_image(card)
        rows = [("", "before", "after"), *((titles.get(name, name), _shown(old), _shown(new)) for name, old, new in scores)]
        rows.append(("<b>mean Dice</b>", f"<b>{_shown(before)}</b>", f"<b>{_shown(after)}</b>"))
        cells = (f"<td>{name}</td><td align=right>{old}&nbsp;</td><td align=right>{new}</td>" for name, old, new in rows)
        table = "<table>" + "".join(f"<tr>{cell}</tr>" for cell in cells) + "</table>"
        better = bool(card.get("better", (after or 0) > (before or 0)))
        if better:
            apply_everywhere(str(adapter), adapter.name)
            verdict = "Better than before: Predict uses it now."
        else:
            verdict = "Not better than before, so it is kept but not used. Press Apply to use it all the same."
        self.result.setText(f"{table}<p>{verdict}</p>")

    # Adapters -------------------------------------------------------------------------------------------------------

    def refresh(self, select: Path | None = None) -> None:
        """List the project's adapters."""
        self.adapters.clear()
        project = self._desk.project
        for path in project.adapters() if project is not None else []:
            after = _dice(read_card(path).get("after"))
            item = QListWidgetItem(f"{path.name}   held-out Dice {_shown(after)}")
            item.setData(PATH_ROLE, str(path))
            self.adapters.addItem(item)
            if path == select:
                item.setSelected(True)

    def apply(self, *_: Any) -> None:
        """Predict with the selected adapter."""
        chosen = self._chosen()
        if chosen is not None:
            apply_everywhere(str(chosen), chosen.name)
            self._desk.say(f"Predict uses “{chosen.name}” now.")

    def delete(self, *_: Any) -> None:
        """Remove the selected adapter from disk."""
        chosen = self._chosen()
        if chosen is not None:
            shutil.rmtree(chosen)
            self.refresh()
            self._desk.say(f"“{chosen.name}” is deleted.")

    def _chosen(self) -> Path | None:
        items = self.adapters.selectedItems()
        if not items:
            self._desk.complain("Select one of the learnt adapters in the list first.")
            return None
        return Path(items[0].data(PATH_ROLE))


def _curve(window: Any, column: int, title: str, colour: str, reach: tuple[float, float] | None = None) -> Any:
    """A plot with one line in the given column of the window; reach: fixed lower and upper end of its axis."""
    import pyqtgraph

    plot = window.addPlot(row=0, col=column, title=title)
    plot.setLabel("bottom", "step")
    plot.setMouseEnabled(False, False)
    plot.hideButtons()
    plot.setMenuEnabled(False)
    if reach is not None:
        plot.setYRange(*reach)
    return plot.plot(pen=pyqtgraph.mkPen(colour, width=2), symbol="o" if reach else None, symbolSize=5, symbolBrush=colour)


def learn_work(child: ChildProcess, adapter: Path) -> Any:
    """The job that runs the child and hands back the adapter's folder."""

    def work(progress: ProgressCallback) -> Path:
        child.run(progress)
        if not adapter.is_dir():
            raise ChexanatomyError("The learning was stopped before there was anything to keep.")
        return adapter

    return work


def _dice(scores: Any) -> float | None:
    value = scores.get("dice") if isinstance(scores, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _per_image(card: dict[str, Any]) -> list[tuple[str, float | None, float | None]]:
    old, new = ((card.get(when) or {}).get("per_image") or {} for when in ("before", "after"))
    return [(name, old.get(name), new.get(name)) for name in new]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
