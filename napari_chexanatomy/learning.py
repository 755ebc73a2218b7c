"""Learning, in a child process: its settings, the live plot, Stop and Cancel, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_chexanatomy.adapter_list import others, shown, verdict
from napari_chexanatomy.before_after import BeforeAfter, Compared, read_comparison
from napari_chexanatomy.jobs import ChildProcess
from napari_chexanatomy.model_chooser import ModelChooser, apply_everywhere
from napari_chexanatomy.section import Section
from training.errors import ChexanatomyError
from training.fit.adapters import Kept
from training.plain import inert
from training.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from napari_chexanatomy.fewshot import FewShotWidget
    from napari_chexanatomy.labelling import Project

LEARNING_SECONDS = 40
"""Most time for learning, unless the user says otherwise [s]."""
NOTHING_DRAWN = "Draw on some images first, then press Learn."
LOSS, DICE = "loss", "held_out_dice"
METHODS = (
    (
        "a small adapter (LoRA)",
        "lora",
        "Quick, needs little memory, and other structures stay exactly as they were: the usual choice.",
    ),
    (
        "the whole decoder",
        "decoder",
        "Everything that writes answers, so others change a little; the file is as large as the model.",
    ),
    ("the whole model", "model", "The image tower as well: slow, for many drawings of something that looks like nothing known."),
)


class LearningPanel(QWidget):
    """The middle page of the Few-shot widget."""

    def __init__(self, desk: FewShotWidget) -> None:
        """`desk` is the widget whose project is learnt from."""
        super().__init__()
        import pyqtgraph

        self._desk = desk
        self._child: ChildProcess | None = None
        self._ready = NOTHING_DRAWN
        self._points: dict[str, tuple[list[float], list[float]]] = {}
        self.model = ModelChooser(self, follows=False)
        row = QHBoxLayout()
        self.learn_button = QPushButton("Learn")
        self.learn_button.setToolTip("Teach the model what you drew. It runs beside the window; you can go on drawing.")
        self.learn_button.clicked.connect(desk.learn)
        self.stop_button = QPushButton("Stop, keep the best")
        self.stop_button.setToolTip("End the learning now and keep the best state so far. Cancel, below, throws it away.")
        self.stop_button.clicked.connect(self.stop)
        self.stop_button.setEnabled(False)
        row.addWidget(self.learn_button, 1)
        row.addWidget(self.stop_button, 1)
        self.plot = pyqtgraph.GraphicsLayoutWidget()
        self.plot.setBackground(None)
        self.plot.setStyleSheet("background: transparent")
        self.plot.setFixedHeight(125)
        self.plot.setToolTip("Left: loss on the images learnt from. Right: Dice on the held-out ones, at most 1.")
        self._curves = {
            LOSS: _curve(self.plot, 0, "loss", "#e8a33d"),
            DICE: _curve(self.plot, 1, "held-out Dice", "#4fb0e8", (0, 1)),
        }
        self.result = QLabel(NOTHING_DRAWN)
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.comparison = BeforeAfter()
        form = QFormLayout()
        form.addRow("Start from", self.model)
        form.addRow(self.model.limits)
        form.addRow(self.model.card)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2, 4, 2, 2)
        layout.addLayout(form)
        layout.addWidget(self._settings())
        layout.addLayout(row)
        layout.addWidget(self.plot)
        layout.addWidget(self.comparison)
        layout.addWidget(self.result)
        layout.addStretch(1)

    def _settings(self) -> Section:
        section = Section("How to learn", "Time, what is trained, and the adapter's name.", unfolded=False)
        self.name = QLineEdit()
        self.name.setPlaceholderText("by itself")
        self.name.setToolTip("What the adapter is called in the lists. It can be changed later.")
        self.seconds = QSpinBox()
        self.seconds.setRange(1, 36000)
        self.seconds.setValue(LEARNING_SECONDS)
        self.seconds.setSuffix(" s")
        self.seconds.setToolTip("Most time for learning. It ends sooner when the held-out images get no better any more.")
        self.method = QComboBox()
        for row, (text, value, tip) in enumerate(METHODS):
            self.method.addItem(text, value)
            self.method.setItemData(row, tip, Qt.ItemDataRole.ToolTipRole)
        self.method.setToolTip("What is trained. The small adapter is quick and leaves other structures alone.")
        self.augment = QCheckBox("Vary the images")
        self.augment.setChecked(True)
        self.augment.setToolTip(
            "Also learn from turned, zoomed, shifted and differently exposed copies; your drawings move along."
        )
        form = QFormLayout()
        form.addRow("Name", self.name)
        form.addRow("Most time", self.seconds)
        form.addRow("Train", self.method)
        form.addRow("", self.augment)
        section.body.addLayout(form)
        return section

    # A run ----------------------------------------------------------------------------------------------------------

    def arguments(self) -> list[str]:
        """The settings as arguments of `chexanatomy adapt`."""
        given = ["--model", self.model.spec, "--seconds", str(self.seconds.value()), "--method", self.method.currentData()]
        given += ["--name", self.name.text().strip()] if self.name.text().strip() else []
        return given + ([] if self.augment.isChecked() else ["--no-augmentation"])

    def prepare(self, arguments: list[str]) -> ChildProcess:
        """Clear the plot and make the child process for a run."""
        self._points = {LOSS: ([], []), DICE: ([], [])}
        for curve in self._curves.values():
            curve.setData([], [])
        self.comparison.show_images([])
        self.result.setText("Starting …")
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
        if self.result.text().startswith(("Starting", "Step")):
            self.result.setText("")

    def show_ready(self, project: Project) -> None:
        """Say how much there is to learn from, until there is a result to show."""
        if self.result.text() != self._ready:
            return
        ready = project.ready()
        held_out = sum(item.held_out for item in ready)
        measured = (
            f"measured on {held_out} more" if held_out else "measured on none: three or more drawings tell whether it got better"
        )
        self._ready = f"{len(ready) - held_out} to learn from, {measured}. Press Learn." if ready else NOTHING_DRAWN
        self.result.setText(self._ready)

    def show_progress(self, report: Progress) -> None:
        """Plot the figures of a report and say how long it will take."""
        for name, curve in self._curves.items():
            if name in report.values and LOSS in report.values:  # the closing report repeats the Dice, not the step
                steps, values = self._points[name]
                steps.append(report.done)
                values.append(report.values[name])
                curve.setData(steps, values)
        if "seconds_left" in report.values:
            left = f"{report.values['seconds_left']:.0f}"
            self.result.setText(f"Step {report.done} of at most {report.total}, at most {left} s left.")

    def show_result(self, kept: Kept, project: Project) -> None:
        """Before and after on the held-out images; a better adapter is applied, any other only kept."""
        if kept.better:
            apply_everywhere(str(kept.folder), kept.name)
        self.show_kept(kept, project)
        self._desk.reveal(self.result)

    def show_kept(self, kept: Kept, project: Project) -> None:
        """Before and after of an adapter, in pictures and numbers."""
        self.comparison.show_images(_compared(kept, project))
        if kept.after is None:
            self.result.setText(inert(verdict(kept)))
            return
        titles = {item.name: item.title for item in project.items}
        rows = [("Dice, at most 1", "before", "after")]
        rows += [(titles.get(name, name), shown(old), shown(new)) for name, (old, new) in kept.per_image.items()]
        if len(kept.per_image) > 1:
            rows.append(("<b>mean Dice</b>", f"<b>{shown(kept.before)}</b>", f"<b>{shown(kept.after)}</b>"))
        if kept.unchanged or kept.others is not None:
            rows.append(("other structures, against before", "", others(kept)))
        cells = (f"<td>{name}</td><td align=right>{old}&nbsp;</td><td align=right>{new}</td>" for name, old, new in rows)
        table = "<table>" + "".join(f"<tr>{cell}</tr>" for cell in cells) + "</table>"
        self.result.setText(f"<b>{inert(verdict(kept))}</b>{table}")


def _compared(kept: Kept, project: Project) -> list[Compared]:
    """The held-out images that are still in the project."""
    found = []
    for name, masks in read_comparison(kept.folder).items():
        item = project.item(name)
        if item is None:
            continue
        pixels = project.image(item).pixels
        if all(mask.shape == pixels.shape for mask in masks.values()):
            found.append(Compared(item.title, pixels, **masks, scores=kept.per_image.get(name, (None, None))))
    return found


def _curve(window: Any, column: int, title: str, colour: str, reach: tuple[float, float] | None = None) -> Any:
    """A plot with one line in the given column of the window; reach: fixed lower and upper end of its axis."""
    import pyqtgraph

    plot = window.addPlot(row=0, col=column, title=title)
    plot.setMouseEnabled(False, False)
    plot.hideButtons()
    plot.setMenuEnabled(False)
    if reach is not None:
        plot.setYRange(*reach)
    return plot.plot(pen=pyqtgraph.mkPen(colour, width=2), symbol="o" if reach else None, symbolSize=5, symbolBrush=colour)


def quietly() -> list[str]:
    """Arguments of a command that works beside the window: it reports line by line, and leaves one processor to the window."""
    from training.threads import thread_count

    return ["--progress", "json", "--threads", str(max(1, thread_count() - 1))]


def learn_work(child: ChildProcess, adapter: Path) -> Any:
    """The job that runs the child and hands back the adapter's folder."""

    def work(progress: ProgressCallback) -> Path:
        child.run(progress)
        if not adapter.is_dir():
            raise ChexanatomyError("The learning was stopped before there was anything to keep.")
        return adapter

    return work
