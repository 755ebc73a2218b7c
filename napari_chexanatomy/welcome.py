"""The welcome: four steps from a sample CT to a model that was taught something new."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QVBoxLayout

from napari_chexanatomy.desk import DISCLAIMER, DeskWidget, plainly
from napari_chexanatomy.jobs import Work
from napari_chexanatomy.layers import core_of, from_ct, from_labels, is_ct, is_labels, is_radiograph
from napari_chexanatomy.samples import load_lidc, load_phantom
from training.errors import ChexanatomyError
from training.images.types import CT, LabelMap
from training.progress import ProgressCallback

if TYPE_CHECKING:
    import napari.viewer

ASKED = ("lung_left", "lung_right", "heart", "aorta", "trachea", "spine", "liver", "clavicula_left", "clavicula_right")
DONE, OPEN = "✓", "○"
LOOK_AGAIN, PATIENCE = 100, 100
"""Time between two looks whether the full radiograph is there [ms], and how many looks."""


class Step(QFrame):
    """One step: what it is, what to look at, and the buttons that do it."""

    def __init__(self, number: int, title: str, text: str) -> None:
        """`text` says what happens and what to look at afterwards."""
        super().__init__()
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.mark = QLabel(OPEN)
        self.mark.setToolTip("A tick shows that this step is done.")
        self.mark.setStyleSheet("QLabel { font-size: 16px; }")
        heading = QLabel(f"<b>{number}. {title}</b>")
        words = QLabel(text)
        words.setWordWrap(True)
        top = QHBoxLayout()
        top.addWidget(heading, 1)
        top.addWidget(self.mark)
        self._buttons = QHBoxLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.addLayout(top)
        layout.addWidget(words)
        layout.addLayout(self._buttons)

    def add_button(self, text: str, tip: str, slot: Callable[[], Any]) -> QPushButton:
        """A button of this step."""
        button = QPushButton(text)
        button.setToolTip(tip)
        button.clicked.connect(lambda _=False: slot())
        self._buttons.addWidget(button)
        return button

    def tick(self, done: bool) -> None:
        """Say whether the step is done."""
        self.mark.setText(DONE if done else OPEN)


class WelcomeWidget(DeskWidget):
    """Load, project, predict, teach: each step opens the widget it belongs to and does the first thing in it."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self._asked: Any = None
        self._turned: Any = None
        self._taught = False
        hello = QLabel("Four steps from a CT to a model that you taught something. Each takes less than a minute.")
        hello.setWordWrap(True)
        self.body.addWidget(hello)
        self.steps = (
            Step(1, "Load", "Open a chest CT with labelled anatomy. The layer list shows the CT and, in colours, its labels."),
            Step(2, "Project", "Take a radiograph of it. Drag the sliders to turn the X-ray tube and watch the picture follow."),
            Step(
                3, "Predict", "Ask the model for anatomy by name. It sees the radiograph alone, not the CT: compare for yourself."
            ),
            Step(
                4,
                "Teach",
                "Teach it a structure it does not know from five drawings. They are made from the CT's labels here, so that you "
                "only press Learn; later you draw them yourself.",
            ),
        )
        for step in self.steps:
            self.body.addWidget(step)
        load, project, predict, teach = self.steps
        buttons = [
            load.add_button(
                "Real chest CT", "A CT of a patient with 89 labelled structures; 35 MB, fetched once.", self.load_real
            ),
            load.add_button("Small thorax", "A computed body; needs no network.", self.load_phantom),
            project.add_button("Take a radiograph", "Open the Radiograph widget and take a PA view.", self.project),
            predict.add_button("Ask the model", "Open the Predict widget and ask for nine structures.", self.predict),
            teach.add_button(
                "Prepare the lesson …", "Choose an empty folder for the labelling project; it is filled for you.", self.ask_teach
            ),
        ]
        self.disable_while_busy(*buttons)
        more = QLabel("More: the pages in docs/, and the tooltip of every control.")
        more.setWordWrap(True)
        self.body.addWidget(more)
        self.body.addStretch(1)
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self.refresh)
        self.refresh()
        self.say(DISCLAIMER)

    def refresh(self, event: Any = None) -> None:
        """Tick what is done."""
        if not isalive(self):
            return
        layers = list(self.viewer.layers)
        shadows = [layer for layer in layers if is_radiograph(layer) and core_of(layer).geometry is not None]
        asked = self._asked is not None and isalive(self._asked) and bool(self._asked.findings)
        for step, done in zip(self.steps, (any(map(is_ct, layers)), bool(shadows), asked, self._taught), strict=True):
            step.tick(done)

    # The steps ------------------------------------------------------------------------------------------------------

    @plainly
    def load_real(self) -> None:
        """Step 1 with the real CT."""
        self._load(load_lidc)

    @plainly
    def load_phantom(self) -> None:
        """Step 1 with the computed body."""
        self._load(load_phantom)

    def _load(self, work: Work) -> None:
        if any(map(is_ct, self.viewer.layers)):
            raise ChexanatomyError("A CT is open already: go on with step 2, or remove it from the layer list first.")

        def show(volumes: tuple[CT, LabelMap]) -> None:
            from napari.layers import Layer

            for data in (from_ct(volumes[0]), from_labels(volumes[1])):
                self.viewer.add_layer(Layer.create(*data))
            self.say("Loaded. Scroll through the slices with the slider under the picture, then go on with step 2.")

        self.start("Loading", work, show)

    @plainly
    def project(self) -> None:
        """Step 2: a PA view in the Radiograph widget."""
        if not any(map(is_ct, self.viewer.layers)):
            raise ChexanatomyError("There is no CT yet: do step 1 first.")
        widget = self._turned = self._open("Radiograph")
        widget.take(0.0)
        self.say("Drag a slider, tick structures, then come back for step 3.")

    @plainly
    def predict(self) -> None:
        """Step 3: ask for a few structures in the radiograph, once its full picture is there."""
        self._ask(PATIENCE)

    @plainly
    def _ask(self, patience: int) -> None:
        """patience: how often to look for the full picture before asking all the same."""
        if not isalive(self):
            return
        if patience and self._turned is not None and isalive(self._turned) and not self._turned.settled:
            self.say("The radiograph is on its way …")
            QTimer.singleShot(LOOK_AGAIN, lambda: self._ask(patience - 1))
            return
        shadows = [layer for layer in self.viewer.layers if is_radiograph(layer)]
        if not shadows:
            raise ChexanatomyError("There is no radiograph yet: do step 2 first, or open one with File > Open.")
        widget = self._asked = self._open("Predict")
        widget.radiograph_chooser.choose(shadows[-1])
        widget.structures.set_checked(ASKED)
        widget.run()
        if widget.busy:
            widget._job.ended.connect(self.refresh)
        self.say("Select a row in the table to bring a structure out. Then come back for step 4.")

    def ask_teach(self) -> None:
        """Step 4: ask where to keep the labelling project."""
        folder = self.ask_folder("Empty folder for the labelling project")
        if folder is not None:
            self.teach(folder)

    @plainly
    def teach(self, folder: Path) -> None:
        """Step 4: make a labelling project with five drawings and open it in the Few-shot widget."""
        from napari_chexanatomy.labelling import Project

        ct = next((core_of(layer).ct for layer in self.viewer.layers if is_ct(layer)), None)
        labels = next((core_of(layer).labels for layer in self.viewer.layers if is_labels(layer)), None)
        if ct is None or labels is None:
            raise ChexanatomyError("The lesson is made from a CT and its labels: do step 1 first.")

        def work(progress: ProgressCallback) -> str:
            from training.lesson import make_lesson

            structure, drawn = make_lesson(ct, labels, progress=progress)
            project = Project.create(folder)
            project.rename_structure(structure)
            for radiograph, mask in drawn:
                project.set_mask(project.add(radiograph), mask)
            project.hold_one_out()
            return structure

        def show(structure: str) -> None:
            from napari_chexanatomy.structure_colours import display_name

            self._open("Few-shot").open(folder)
            self._taught = True
            self.refresh()
            self.say(f"Five drawings of the {display_name(structure)} are ready: press Learn in the Few-shot widget.")

        self.start("Preparing the lesson", work, show, writes=True)

    def _open(self, name: str) -> Any:
        from napari_chexanatomy.demo import open_widget

        widget = open_widget(self.viewer, name)
        widget.show()
        dock = widget.parent()
        while dock is not None and not hasattr(dock, "raise_"):
            dock = dock.parent()
        if dock is not None:
            dock.raise_()
        return widget
