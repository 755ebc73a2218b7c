"""The Few-shot widget: draw a structure on a few radiographs, teach it to the model, and see whether it got better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QHideEvent
from qtpy.QtWidgets import (
    QCheckBox,
    QCompleter,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QVBoxLayout,
)

from napari_chexanatomy.desk import DeskWidget, LayerChooser, plainly
from napari_chexanatomy.labelling import Item, Project
from napari_chexanatomy.layers import (
    KEY,
    Core,
    drawn_mask,
    from_radiograph,
    is_radiograph,
    label_colormap,
    look_at,
    plane_of,
    radiograph_of,
)
from napari_chexanatomy.learning import LearningPanel, learn_work
from napari_chexanatomy.model_chooser import ModelChooser
from napari_chexanatomy.structure_colours import display_name, key_of
from training.anatomy import vocabulary
from training.errors import ChexanatomyError
from training.progress import ProgressCallback, report

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

AUTOSAVE_MS = 1000
"""How often a drawing is compared with what is on disk [ms]; a kill loses no more than this."""
NAME_ROLE = Qt.ItemDataRole.UserRole
IMAGE_KINDS = "Radiographs (*.dcm *.png *.jpg *.jpeg *.tif *.tiff);;All files (*)"
NO_PROJECT = "Start a new project or open one first."


class FewShotWidget(DeskWidget):
    """A labelling project: images, one drawing each, and what was learnt from them."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self.project: Project | None = None
        self._current: Item | None = None
        self._image_layer: Layer | None = None
        self._drawing: Layer | None = None
        self._saved: np.ndarray | None = None
        self._build()
        self._autosave = QTimer(self)
        self._autosave.setInterval(AUTOSAVE_MS)
        self._autosave.timeout.connect(self.flush)
        self._autosave.start()

    # Building -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        row = QHBoxLayout()
        for text, tip, slot in (
            ("New project …", "Choose an empty folder; everything you draw is saved there as you draw.", self._ask_new),
            ("Open project …", "Go on with a project that you started before.", self._ask_open),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(slot)
            row.addWidget(button)
        self.body.addLayout(row)
        self.place = QLabel("no project open")
        self.place.setWordWrap(True)
        self.body.addWidget(self.place)
        self.structure = QLineEdit()
        self.structure.setPlaceholderText("e.g. heart, or a name of your own")
        self.structure.setToolTip("What you draw: a structure the model knows, or a wholly new one.")
        self.structure.setCompleter(_names())
        self.structure.editingFinished.connect(self._structure_changed)
        form = QFormLayout()
        form.addRow("Structure", self.structure)
        self.body.addLayout(form)

        box = QGroupBox("Images")
        inside = QVBoxLayout(box)
        self.layers = LayerChooser(self.viewer, self._addable, "no radiograph open")
        self.layers.setToolTip("A radiograph that is open in the viewer.")
        add = QHBoxLayout()
        add.addWidget(self.layers, 1)
        for text, tip, slot in (
            ("Add", "Copy this radiograph into the project.", self.add_layer),
            ("Files …", "Copy radiograph files (DICOM, PNG, JPEG, TIFF) into the project.", self._ask_files),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(slot)
            add.addWidget(button)
        inside.addLayout(add)
        self.images = QListWidget()
        self.images.setMinimumHeight(110)
        self.images.setToolTip("Images of the project. Select one to draw on it. A ticked one is measured on, not learnt from.")
        self.images.currentItemChanged.connect(self._image_selected)
        self.images.itemChanged.connect(self._held_out_changed)
        inside.addWidget(self.images)
        inside.addWidget(QLabel("☑ = held out to measure on"))
        row = QHBoxLayout()
        self.absent = QCheckBox("Not in this image")
        self.absent.setToolTip("The structure is not there: the model learns to say so.")
        self.absent.toggled.connect(self._absent_changed)
        remove = QPushButton("Remove image")
        remove.setToolTip("Take the selected image and its drawing out of the project.")
        remove.clicked.connect(self.remove_image)
        row.addWidget(self.absent, 1)
        row.addWidget(remove)
        inside.addLayout(row)
        self.body.addWidget(box)

        self.model = ModelChooser(self, follows=False)
        form = QFormLayout()
        form.addRow("Start from", self.model)
        self.body.addLayout(form)
        self.learning = LearningPanel(self)
        self.disable_while_busy(self.learning.learn_button)
        self.body.addWidget(self.learning)
        self.say(NO_PROJECT)

    def _addable(self, layer: Layer) -> bool:
        return is_radiograph(layer) and layer is not getattr(self, "_image_layer", None)

    # The project ----------------------------------------------------------------------------------------------------

    def _ask_new(self) -> None:
        folder = self.ask_folder("Empty folder for the project")
        if folder is not None:
            self.new(folder)

    def _ask_open(self) -> None:
        folder = self.ask_folder("Folder of a labelling project")
        if folder is not None:
            self.open(folder)

    @plainly
    def new(self, folder: Path) -> None:
        """Start a project."""
        self._show_project(Project.create(folder))
        self.say("Name the structure, add radiographs, and draw on each.")

    @plainly
    def open(self, folder: Path) -> None:
        """Go on with a project."""
        self._show_project(Project.open_project(folder))

    def _show_project(self, project: Project) -> None:
        if self.busy:
            raise ChexanatomyError("Something is still running here: wait for it or press Cancel.")
        self.flush()
        self._forget_current()
        self.project = project
        self.place.setText(f"{project.folder}")
        self.structure.setText(display_name(project.structure) if project.structure else "")
        self._refresh()
        self.learning.refresh()
        if self.images.count():
            self.images.setCurrentRow(0)

    def _need_project(self) -> Project:
        if self.project is None:
            raise ChexanatomyError(NO_PROJECT)
        return self.project

    @plainly
    def _structure_changed(self) -> None:
        text = self.structure.text().strip()
        if self.project is not None and text:
            self.project.rename_structure(key_of(text))
            if self._drawing is not None and self._drawing in self.viewer.layers:
                self._drawing.name = f"draw {display_name(self.project.structure)}"

    # Images ---------------------------------------------------------------------------------------------------------

    @plainly
    def add_layer(self, *_: Any) -> None:
        """Copy the chosen layer into the project."""
        project = self._need_project()
        layer = self.layers.chosen
        radiograph = radiograph_of(layer)
        assert layer is not None
        item = project.add(replace(radiograph, name=layer.name))
        layer.visible = False
        self._refresh(item.name)

    def _ask_files(self) -> None:
        files = self.ask_files("Radiographs", IMAGE_KINDS)
        if files:
            self.add_files(files)

    @plainly
    def add_files(self, files: list[Path]) -> None:
        """Copy files into the project; one that cannot be read is named and the others are still added."""
        project = self._need_project()

        def work(progress: ProgressCallback) -> tuple[list[Any], list[str]]:
            from training.images import read_radiograph

            read, refused = [], []
            for number, path in enumerate(files):
                report(progress, number, len(files), path.name)
                try:
                    read.append(read_radiograph(path))
                except (ChexanatomyError, OSError) as error:
                    refused.append(f"{path.name}: {error}")
            return read, refused

        def add(result: tuple[list[Any], list[str]]) -> None:
            items = [project.add(radiograph) for radiograph in result[0]]
            self._refresh(items[0].name if items else "")
            if result[1]:
                raise ChexanatomyError(" ".join(result[1]))

        self.start("Reading", work, add)

    @plainly
    def remove_image(self, *_: Any) -> None:
        """Take the selected image out of the project."""
        project = self._need_project()
        if self._current is None:
            raise ChexanatomyError("Select an image in the list first.")
        project.remove(self._current)
        self._forget_current()
        self._refresh()

    def _refresh(self, select: str = "") -> None:
        project = self.project
        name = select or (self._current.name if self._current is not None else "")
        self.images.blockSignals(True)
        self.images.clear()
        chosen = None
        for item in project.items if project is not None else []:
            drawn = project is not None and project.drawn(item)
            state = "not there" if item.absent else ("drawn" if drawn else "to draw")
            line = QListWidgetItem(f"{item.title}   ({state})")
            line.setData(NAME_ROLE, item.name)
            line.setFlags(line.flags() | Qt.ItemFlag.ItemIsUserCheckable)
            line.setCheckState(Qt.CheckState.Checked if item.held_out else Qt.CheckState.Unchecked)
            self.images.addItem(line)
            if item.name == name:
                chosen = line
        self.images.blockSignals(False)
        if chosen is not None:
            if self._current is not None and self._current.name == name:
                self.images.blockSignals(True)
                self.images.setCurrentItem(chosen)
                self.images.blockSignals(False)
            else:
                self.images.setCurrentItem(chosen)

    def _item(self, line: QListWidgetItem | None) -> Item | None:
        name = line.data(NAME_ROLE) if line is not None else None
        return next((item for item in self.project.items if item.name == name), None) if self.project is not None else None

    @plainly
    def _held_out_changed(self, line: QListWidgetItem) -> None:
        item = self._item(line)
        wanted = line.checkState() == Qt.CheckState.Checked
        if item is None or self.project is None or item.held_out == wanted:
            return
        try:
            changed = self.project.change(item, held_out=wanted)
            if self._current is not None and self._current.name == item.name:
                self._current = changed
        finally:
            QTimer.singleShot(0, self._refresh)

    @plainly
    def _absent_changed(self, absent: bool) -> None:
        if self.project is not None and self._current is not None and self._current.absent != absent:
            self._current = self.project.change(self._current, absent=absent)
            self._after_drawing()

    # Drawing --------------------------------------------------------------------------------------------------------

    @plainly
    def _image_selected(self, line: QListWidgetItem | None, _before: Any = None) -> None:
        item = self._item(line)
        if item is None or self.project is None or (self._current is not None and item.name == self._current.name):
            return
        self.flush()
        radiograph, mask = self.project.image(item), self.project.mask(item)
        self._forget_current()
        self._current = item
        data, keywords, _ = from_radiograph(radiograph)
        self._image_layer = self.viewer.add_image(data, **keywords)
        self.layers.refresh()
        drawing = np.zeros(data.shape, np.uint8) if mask is None else mask.astype(np.uint8)
        structure = self.project.structure or "structure"
        self._drawing = self.viewer.add_labels(
            drawing, name=f"draw {display_name(structure)}", colormap=label_colormap({1: structure}), opacity=0.5,
            metadata={KEY: Core(role="drawing")}, **plane_of(self._image_layer),
        )  # fmt: skip
        self._drawing.brush_size = max(3, max(data.shape) // 60)
        self._drawing.mode = "paint"
        self._saved = drawing > 0
        self.viewer.layers.selection.active = self._drawing
        look_at(self.viewer, self._image_layer)
        self.absent.blockSignals(True)
        self.absent.setChecked(item.absent)
        self.absent.blockSignals(False)
        self.say("Draw the structure with the brush. It is saved as you draw; Ctrl+Z takes a stroke back.")

    def _forget_current(self) -> None:
        for layer in (self._drawing, self._image_layer):
            if layer is not None and layer in self.viewer.layers:
                self.viewer.layers.remove(layer)
        self._current = self._image_layer = self._drawing = self._saved = None

    @plainly
    def flush(self) -> None:
        """Put the drawing on disk when it differs from what is there."""
        if self.project is None or self._current is None or self._drawing is None or self._saved is None:
            return
        if self._drawing not in self.viewer.layers:
            self._forget_current()
            self.images.setCurrentRow(-1)
            self.say("The drawing layer was closed; what you drew is saved. Select the image to go on.")
            return
        mask = drawn_mask(self._drawing, self._saved.shape)
        if not np.array_equal(mask, self._saved):
            self.project.set_mask(self._current, mask)
            self._saved = mask
            if mask.any() and self._current.absent:
                self._current = self.project.change(self._current, absent=False)
                self.absent.setChecked(False)
            self._after_drawing()

    def _after_drawing(self) -> None:
        chosen = self.project.hold_one_out() if self.project is not None else None
        if chosen is not None:
            self.say(f"“{chosen.title}” is held out, to measure on: tick another one if you prefer.")
            if self._current is not None and self._current.name == chosen.name:
                self._current = chosen
        self._refresh()

    # Learning -------------------------------------------------------------------------------------------------------

    @plainly
    def learn(self, *_: Any) -> None:
        """Learn from the drawings in a child process."""
        project = self._need_project()
        self._structure_changed()
        self.flush()
        if self.busy:
            raise ChexanatomyError("Something is still running here: wait for it or press Cancel.")
        staged, adapter = project.stage(), project.new_adapter()
        held_out = [item.name for item in project.ready() if item.held_out]
        arguments = ["adapt", "--images", str(staged / "images"), "--masks", str(staged / "masks")]
        arguments += ["--structure", project.structure, "--out", str(adapter), "--model", self.model.spec]
        arguments += ["--held-out-images", ",".join(held_out)] if held_out else []
        arguments += ["--seconds", str(self.learning.seconds.value()), "--progress", "json"]
        child = self.learning.prepare(arguments)
        job = self.start("Learning", learn_work(child, adapter), self.learning.show_result)
        job.progressed.connect(self.learning.show_progress)
        job.ended.connect(self.learning.ended)

    # A clean end ----------------------------------------------------------------------------------------------------

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Save before the window closes."""
        self.flush()
        super().hideEvent(event)

    def shut_down(self) -> None:
        """Save and end the timer with the widget."""
        self.flush()
        self._autosave.stop()
        super().shut_down()


def _names() -> QCompleter:
    completer = QCompleter([structure.name for structure in vocabulary().values()])
    completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
    completer.setFilterMode(Qt.MatchFlag.MatchContains)
    return completer
