"""The Few-shot widget: draw a structure on a few radiographs, teach it to the model, and see whether it got better."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QCompleter, QFormLayout, QHBoxLayout, QInputDialog, QLabel, QPushButton, QTabWidget

from napari_chexanatomy.adapter_list import AdapterList
from napari_chexanatomy.buttons import push_button
from napari_chexanatomy.desk import plainly
from napari_chexanatomy.draw_page import DrawPage
from napari_chexanatomy.drawing import ROLE
from napari_chexanatomy.jobs import ChildProcess
from napari_chexanatomy.labelling import Project
from napari_chexanatomy.layers import core_of, is_drawing, is_radiograph, radiograph_of
from napari_chexanatomy.learning import LearningPanel, learn_work, quietly
from napari_chexanatomy.project_desk import NO_PROJECT, ProjectDesk
from napari_chexanatomy.structure_colours import display_name, key_of
from training.anatomy import vocabulary
from training.errors import ChexanatomyError
from training.fit.adapters import Kept, read_adapter
from training.progress import ProgressCallback, report

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

IMAGE_KINDS = "Radiographs (*.dcm *.png *.jpg *.jpeg *.tif *.tiff);;All files (*)"
DRAW, LEARN, ADAPTERS = range(3)


class FewShotWidget(ProjectDesk):
    """A labelling project: images, one drawing of each structure on each, and what was learnt from them."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self._build()

    # Building -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        row = QHBoxLayout()
        for text, tip, slot in (
            ("New project …", "Choose an empty folder; everything you draw is saved there as you draw.", self._ask_new),
            ("Open project …", "Go on with a project that you started before.", self._ask_open),
        ):
            button = push_button(text, tip, slot)
            row.addWidget(button)
        self.body.addLayout(row)
        self.place = QLabel("no project open")
        self.place.setWordWrap(True)
        self.body.addWidget(self.place)
        self.structure = QComboBox()
        self.structure.setEditable(True)
        self.structure.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.structure.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.structure.setToolTip(
            "What you draw: a structure the model knows, or a wholly new name. Type another one to draw that on the same images."
        )
        line = self.structure.lineEdit()
        assert line is not None
        line.setPlaceholderText("e.g. heart, or a name of your own")
        line.setCompleter(_names())
        line.editingFinished.connect(self._structure_typed)
        self.structure.activated.connect(self._structure_typed)
        rename = QPushButton("Rename …")
        rename.setToolTip("Call this structure something else; its drawings stay.")
        rename.clicked.connect(self._ask_rename)
        row = QHBoxLayout()
        row.addWidget(self.structure, 1)
        row.addWidget(rename)
        form = QFormLayout()
        form.addRow("Structure", row)
        self.body.addLayout(form)
        self.draw_page = DrawPage(self)
        self.layers, self.drawings = self.draw_page.layers, self.draw_page.drawings
        self.images, self.absent = self.draw_page.images, self.draw_page.absent
        self.images.picked.connect(self._image_picked)
        self.images.held_out.connect(self._held_out_changed)
        self.learning = LearningPanel(self)
        self.model = self.learning.model
        self.adapters = AdapterList(self)
        self.adapters.chosen.connect(self._adapter_chosen)
        self.disable_while_busy(self.learning.learn_button, self.draw_page.suggest)
        self.pages = QTabWidget()
        for page, title, tip in (
            (self.draw_page, "1 Draw", "Choose images and draw the structure on each."),
            (self.learning, "2 Learn", "Teach the model what you drew, and compare before and after."),
            (self.adapters, "3 Adapters", "Everything this project has learnt so far."),
        ):
            self.pages.setTabToolTip(self.pages.addTab(page, title), tip)
        self.body.addWidget(self.pages, 1)
        self.say(NO_PROJECT)

    def addable(self, layer: Layer) -> bool:
        """Whether a layer is a radiograph that could be copied into the project."""
        drawing = getattr(self, "drawing", None)
        return is_radiograph(layer) and (drawing is None or layer is not drawing.image)

    def takeable(self, layer: Layer) -> bool:
        """Whether a layer is a drawing that could be taken over."""
        shapes = type(layer).__name__ == "Shapes" and layer.ndim == 2
        return (is_drawing(layer) or shapes) and core_of(layer).role != ROLE

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
        self._take_up(project)
        self.place.setText(f"{project.folder}")
        self._refresh()
        self.adapters.show_folder(project.folder / "adapters")
        if self.images.count():
            self.images.setCurrentRow(0)

    @plainly
    def _structure_typed(self, *_: Any) -> None:
        self.choose_structure(self.structure.currentText())

    def choose_structure(self, text: str) -> None:
        """Draw this structure from now on; its drawings on the same images come back."""
        name = key_of(text.strip())
        if self.project is None or not name or name == self.project.structure:
            return
        self._save_first()
        self.project.choose_structure(name)
        self._show_again()
        hint = "" if self.project.items else " Add radiographs next: “Add” takes one that is open, “Files …” reads some."
        self.say(f"You are drawing “{display_name(name)}” now.{hint}")

    def _ask_rename(self) -> None:
        if self.project is None or not self.project.structure:
            self.complain("Type the name of the structure first.")
            return
        name, given = QInputDialog.getText(self, "Rename", "Name of the structure:", text=display_name(self.project.structure))
        if given:
            self.rename_structure(name)

    @plainly
    def rename_structure(self, text: str) -> None:
        """Call the structure in hand something else."""
        project = self._need_project()
        self._save()
        project.rename_structure(key_of(text.strip()))
        if self._current is not None:
            self._current = project.item(self._current.name)
        if self.drawing is not None and self.drawing.present:
            self.drawing.rename(project.structure)
        self._refresh()

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
        self._refresh()
        self.images.go_to(item.name)

    def choose_files(self) -> None:
        """Let the user choose radiograph files to copy into the project."""
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
            if self.project is project:
                self._refresh()
                if items:
                    self.images.go_to(items[0].name)
            if result[1]:
                raise ChexanatomyError(" ".join(result[1]))

        self.start("Reading", work, add)

    @plainly
    def remove_image(self, *_: Any) -> None:
        """Take the selected image out of the project."""
        project = self._need_project()
        item = self._need_item()
        self._forget_current()
        project.remove(item)
        self._refresh()

    @plainly
    def suggest(self, *_: Any) -> None:
        """Go to the image without a drawing that the model is least sure of; a child process asks the model."""
        project = self._need_project()
        self._save()
        open_ones = [item for item in project.items if not project.drawn(item)]
        if not project.structure:
            raise ChexanatomyError("Name the structure that you are drawing first.")
        if not open_ones:
            raise ChexanatomyError("Every image has a drawing already: add more radiographs first.")
        answer = project.folder / "suggested.json"
        answer.unlink(missing_ok=True)
        arguments = ["suggest", *(str(project.folder / "images" / f"{item.name}.png") for item in open_ones)]
        arguments += ["--structure", project.structure, "--model", self._knower(project), "--out", str(answer)]
        child = ChildProcess([*arguments, *quietly()])

        def work(progress: ProgressCallback) -> list[dict[str, Any]]:
            import json

            child.run(progress)
            found: list[dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))
            return found

        def go(found: list[dict[str, Any]]) -> None:
            undrawn = {item.name: item for item in project.items if not project.drawn(item)}
            best = next((entry for entry in found if entry["name"] in undrawn), None)
            if best is not None and self.project is project:
                self.images.go_to(best["name"])
                title, doubt = undrawn[best["name"]].title, best["doubt"]
                self.say(f"The model is least sure of “{title}” (doubt {doubt:.2f} of 1): draw on it next.")

        self.start("Looking for the next image", work, go)

    def _knower(self, project: Project) -> str:
        """What knows most of the structure in hand: the newest adapter for it that got better, else the chosen model."""
        better = [k for k in self.adapters.kept if k.structure == project.structure and k.better]
        return str(better[0].folder) if better else self.model.spec

    def _refresh(self) -> None:
        """Say again what is in the project, in every list."""
        project = self.project
        if project is None:
            return
        self.images.show_project(project, self._current.name if self._current is not None else "")
        names = [display_name(name) for name in project.structures]
        self.structure.blockSignals(True)
        if names != [self.structure.itemText(i) for i in range(self.structure.count())]:
            self.structure.clear()
            self.structure.addItems(names)
        self.structure.setCurrentText(display_name(project.structure) if project.structure else "")
        self.structure.blockSignals(False)
        self.learning.show_ready(project)
        self.adapters.titles = {item.name: item.title for item in project.items}

    @plainly
    def _held_out_changed(self, name: str, wanted: bool) -> None:
        item = self.project.item(name) if self.project is not None else None
        if item is None or self.project is None or item.held_out == wanted:
            return
        try:
            self._keep(self.project.change(item, held_out=wanted))
        finally:
            QTimer.singleShot(0, self._refresh)

    # Learning -------------------------------------------------------------------------------------------------------

    @plainly
    def learn(self, *_: Any) -> None:
        """Learn from the drawings in a child process."""
        project = self._need_project()
        self._structure_typed()
        self._save()
        if self.busy:
            raise ChexanatomyError("Something is still running here: wait for it or press Cancel.")
        staged, adapter = project.stage(), project.new_adapter()
        self._refresh()
        held_out = [item.name for item in project.ready() if item.held_out]
        arguments = ["adapt", "--images", str(staged / "images"), "--masks", str(staged / "masks")]
        arguments += ["--structure", project.structure, "--out", str(adapter), *self.learning.arguments()]
        arguments += ["--held-out-images", ",".join(held_out)] if held_out else []
        child = self.learning.prepare([*arguments, *quietly()])

        def show(folder: Path) -> None:
            kept = read_adapter(folder)
            if kept is not None and self.project is project:
                self.adapters.show_folder(project.folder / "adapters", folder)
                self.learning.show_result(kept, project)

        job = self.start("Learning", learn_work(child, adapter), show, writes=True)
        self.pages.setCurrentIndex(LEARN)
        job.progressed.connect(self.learning.show_progress)
        job.ended.connect(self.learning.ended)

    def _adapter_chosen(self, kept: Kept) -> None:
        if self.project is not None and not self.busy:
            self.learning.show_kept(kept, self.project)


def _names() -> QCompleter:
    completer = QCompleter([structure.name for structure in vocabulary().values()])
    completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
    completer.setFilterMode(Qt.MatchFlag.MatchContains)
    return completer
