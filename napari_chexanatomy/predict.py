"""The Predict widget: ask a model for anatomy by name, see what it found, measure in it, and ask back what something is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from qtpy.compat import isalive
from qtpy.QtWidgets import QCheckBox, QFormLayout, QHBoxLayout, QLineEdit, QPushButton

from napari_chexanatomy.ask_back import AskBackSection
from napari_chexanatomy.batch import BatchSection
from napari_chexanatomy.desk import DISCLAIMER, DeskWidget, LayerChooser, plainly
from napari_chexanatomy.found import FoundSection, Shown
from napari_chexanatomy.jobs import interruptible
from napari_chexanatomy.layers import KEY, Core, is_radiograph, label_colormap, plane_of, radiograph_of
from napari_chexanatomy.measure import MeasureSection
from napari_chexanatomy.model_chooser import ModelChooser
from napari_chexanatomy.section import Section
from napari_chexanatomy.structure_colours import display_name, key_of
from napari_chexanatomy.structure_list import StructureList
from training.errors import ChexanatomyError
from training.images.types import Radiograph
from training.progress import ProgressCallback

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from training.model import Finding, Predictor

FIRST_TICKED = ("lung_left", "lung_right", "heart")
BATCH = 8
"""Structures answered at once: small enough that Cancel answers soon."""


@dataclass(frozen=True)
class Answer:
    """What came of one question. untaught: asked for, and unknown to the model; view: the radiograph's own, or what the model
    takes it for, such as "PA or AP"; model: the spec of the one that answered."""

    base: Layer
    radiograph: Radiograph
    findings: list[Finding]
    untaught: list[str]
    view: str
    model: str

    def added_to(self, shown: Shown) -> Answer:
        """This and what was found before, which another model may have found: then both are named."""
        models = ", ".join(dict.fromkeys(filter(None, [*shown.model.split(", "), self.model])))
        return replace(self, findings=shown.with_more(self.findings), model=models)


class PredictWidget(DeskWidget):
    """Findings of a vision-language model on a radiograph layer. Each layer keeps what was found in it."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self._results: WeakKeyDictionary[Layer, Shown] = WeakKeyDictionary()
        self._watched: WeakKeyDictionary[Layer, bool] = WeakKeyDictionary()
        self._build()

    # Building -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.radiograph_chooser = LayerChooser(self.viewer, is_radiograph, "no radiograph open")
        self.radiograph_chooser.setToolTip("The radiograph that is asked about: any 2D image, also one taken from a CT.")
        self.radiograph_chooser.chosen_changed.connect(self._show_chosen)
        self.viewer.layers.events.removed.connect(self._show_chosen)  # the chooser is silent when its last layer goes
        self.model = ModelChooser(self)
        self.model.chosen_changed.connect(self._model_chosen)
        form = QFormLayout()
        form.addRow("Radiograph", self.radiograph_chooser)
        form.addRow("Model", self.model)
        form.addRow(self.model.limits)
        form.addRow(self.model.card)
        self.body.addLayout(form)
        self.body.addWidget(self._asking())
        self.found = FoundSection(self.viewer)
        self.found.edit.connect(self.edit_mask)
        self.found.save.connect(self._ask_save)
        self.measuring = MeasureSection(self)
        self.back = AskBackSection(self)
        self.many = BatchSection(self)
        for section in (self.found, self.back, self.measuring, self.many):
            self.body.addWidget(section)
        self.body.addStretch(1)
        self.table, self.style_combo = self.found.table, self.found.style_combo
        self._offer(self.model.learned)
        self.structures.set_checked(FIRST_TICKED)
        self.say(DISCLAIMER)

    def _asking(self) -> Section:
        ask = Section("What to look for", "The structures that the model is asked for.")
        self.structures = StructureList("to ask the model for it")
        ask.body.addWidget(self.structures)
        self.prompt = QLineEdit()
        self.prompt.setPlaceholderText("or type: segment heart ; left clavicle")
        self.prompt.setToolTip(
            "Names in your own words, separated by ; or ,. When something stands here, it is asked instead of the ticks."
        )
        self.prompt.setClearButtonEnabled(True)
        self.prompt.returnPressed.connect(self.run)
        self.free = QCheckBox("Word for word")
        self.free.setToolTip("Send exactly what you typed to the model and show what it writes, without reading masks from it.")
        ask.body.addWidget(self.prompt)
        self.run_button = QPushButton("Find them")
        self.run_button.setToolTip("Ask the model for the ticked structures, or for what you typed.")
        self.run_button.clicked.connect(self.run)
        self.disable_while_busy(self.run_button)
        row = QHBoxLayout()
        row.addWidget(self.run_button, 1)
        row.addWidget(self.free)
        ask.body.addLayout(row)
        self.as_drawn = QCheckBox("Lungs as readers draw them")
        self.as_drawn.setToolTip(
            "On a radiograph of a person, answer “left lung” and “right lung” with the outline that readers draw, down to the "
            "diaphragm and with the part behind the heart. Off: the shadow of a CT's lung, which reaches behind the diaphragm. "
            "Pictures taken from a CT always get the shadow."
        )
        self.as_drawn.setChecked(True)
        self.accurate = QCheckBox("Accurate (slow)")
        self.accurate.setToolTip(
            "Look five times at the picture, a little moved, and average: more exact masks and a probability for every pixel, "
            "in about five times the time."
        )
        look = QHBoxLayout()
        look.addWidget(self.as_drawn)
        look.addWidget(self.accurate)
        ask.body.addLayout(look)
        return ask

    # The model ------------------------------------------------------------------------------------------------------

    def _offer(self, learned: Sequence[str]) -> None:
        from training.anatomy import trainable

        self.structures.set_structures([*trainable(), *learned])

    def _model_chosen(self) -> None:
        self._offer(self.model.learned)

    # Which layer's findings are shown -------------------------------------------------------------------------------

    @property
    def findings(self) -> list[Finding]:
        """What was found in the chosen radiograph."""
        return self.found.shown.findings if self.found.shown is not None else []

    def show_findings(
        self,
        base: Layer,
        radiograph: Radiograph,
        findings: Sequence[Finding],
        untaught: Sequence[str] = (),
        model: str | None = None,
    ) -> None:
        """Show findings in a radiograph, in the table and over its layer; model: what found them, if not the chosen one."""
        self._results[base] = Shown.on(base, radiograph, findings, self.model.spec if model is None else model, untaught)
        if base not in self._watched:
            self._watched[base] = True
            base.events.data.connect(self._picture_changed)
        if self.radiograph_chooser.chosen is not base:
            self.radiograph_chooser.choose(base)
        else:
            self._show_chosen()
        self.reveal(self.found)
        doubtful = sum(f.doubtful for f in findings)
        doubt = f", {doubtful} of them doubtful (dotted)" if doubtful else ""
        unknown = f" Not taught to this model: {', '.join(display_name(name) for name in untaught)}." if untaught else ""
        self.say(f"{sum(f.present for f in findings)} of {len(findings)} found{doubt}.{unknown} {DISCLAIMER}")

    def _show_chosen(self, event: Any = None) -> None:
        if not isalive(self) or not hasattr(self, "found"):
            return
        layer = self.radiograph_chooser.chosen
        shown = self._results.get(layer) if layer is not None else None
        if shown is not self.found.shown:
            self.measuring.forget()
            self.found.show_result(shown)

    def _picture_changed(self, event: Any) -> None:
        """Findings of another picture must not lie over this one."""
        if not isalive(self):
            return
        for layer, shown in list(self._results.items()):
            if not shown.still_true():
                del self._results[layer]
                if layer is self.radiograph_chooser.chosen:
                    self._show_chosen()
                    self.say("The radiograph has changed since it was asked about: press “Find them” again.")

    # Asking ---------------------------------------------------------------------------------------------------------

    def asked(self) -> list[str]:
        """The structures that a run would ask for: what is typed, otherwise what is ticked."""
        from training.tokens.grammar import read_names

        typed = self.prompt.text().strip()
        return list(dict.fromkeys(map(key_of, read_names(typed)))) if typed else self.structures.checked()

    @plainly
    def run(self, *_: Any) -> None:
        """Ask the model; the findings appear in the table and over the radiograph."""
        if self.free.isChecked() and self.prompt.text().strip():
            self._ask_freely(self.prompt.text().strip())
            return
        names = self.asked()
        if not names:
            raise ChexanatomyError("Tick at least one structure, or type its name.")
        self._find(lambda _: names, self._show_answer)

    def _show_answer(self, answer: Answer) -> None:
        self.show_findings(answer.base, answer.radiograph, answer.findings, answer.untaught, answer.model)

    def _find(self, wanted: Callable[[Predictor], Sequence[str]], then: Callable[[Answer], None]) -> None:
        """Ask for structures, and for the view, in the chosen radiograph and hand on what came."""
        base = self.radiograph_chooser.chosen
        radiograph = radiograph_of(base)
        assert base is not None
        open_model = self.model.opener()
        as_drawn, accurate = self.as_drawn.isChecked(), self.accurate.isChecked()

        def work(progress: ProgressCallback) -> tuple[Any, Answer]:
            from training.model.convention import AsDrawn
            from training.model.predictor import view_of

            predictor = open_model(progress)
            asked = AsDrawn(predictor) if as_drawn else predictor
            names = wanted(predictor)
            untaught = predictor.untaught(names)
            known = [name for name in names if name not in untaught]
            findings = asked.segment(radiograph, known, batch=BATCH, accurate=accurate, progress=progress)
            view = interruptible(lambda: view_of(predictor, radiograph), progress, "Looking")
            return predictor, Answer(base, radiograph, findings, untaught, view, open_model.spec)

        def show(result: tuple[Any, Answer]) -> None:
            self.model.opened(open_model, result[0])
            if base not in self.viewer.layers:
                raise ChexanatomyError("The radiograph was closed while the model was looking at it.")
            if not before.still_true():
                raise ChexanatomyError("The radiograph changed while the model was looking at it: press “Find them” again.")
            then(result[1])

        before = Shown.on(base, radiograph, (), "")
        self.start("Looking", work, show)

    def _ask_freely(self, prompt: str) -> None:
        radiograph, open_model = radiograph_of(self.radiograph_chooser.chosen), self.model.opener()

        def work(progress: ProgressCallback) -> tuple[Any, str]:
            predictor = open_model(progress)
            return predictor, interruptible(lambda: predictor.ask(radiograph, prompt), progress, "Looking")

        def show(result: tuple[Any, str]) -> None:
            self.model.opened(open_model, result[0])
            self.table.clearSelection()
            self.found.show_free_text(result[1] or "(nothing)")
            self.say(f"What the model wrote stands under the table, as it is. {DISCLAIMER}")

        self.start("Looking", work, show)

    # What to do with it ---------------------------------------------------------------------------------------------

    def _shown(self) -> Shown:
        shown = self.found.shown
        if shown is None or shown.layer is None or shown.layer not in self.viewer.layers:
            raise ChexanatomyError("Nothing was found in this radiograph yet: press “Find them” first.")
        return shown

    @plainly
    def edit_mask(self, *_: Any) -> None:
        """Copy the selected mask into a Labels layer with the brush in hand; an absent structure gives an empty one."""
        finding = self.table.finding
        if finding is None:
            raise ChexanatomyError("Select a structure in the table first.")
        shown = self._shown()
        assert shown.layer is not None
        data = np.zeros(shown.radiograph.pixels.shape, np.uint8)
        if finding.mask is not None:
            data[finding.mask] = 1
        layer = self.viewer.add_labels(
            data, name=display_name(finding.structure), colormap=label_colormap({1: finding.structure}), opacity=0.5,
            metadata={KEY: Core(role=f"drawing:{finding.structure}")}, **plane_of(shown.layer),
        )  # fmt: skip
        layer.selected_label = 1
        layer.mode = "paint"
        self.viewer.layers.selection.active = layer
        self.say(f"Correct “{layer.name}” with the brush; the prediction itself stays as it is.")

    def _ask_save(self) -> None:
        folder = self.ask_folder("Folder for the masks and predictions.json")
        if folder is not None:
            self.save(folder)

    @plainly
    def save(self, folder: Path) -> None:
        """Write masks and predictions.json as `chexanatomy predict` does; results of other images in the folder stay."""
        from training.batch import PREDICTIONS
        from training.results import earlier_records, file_stem, keep_record, write_findings

        shown = self.found.shown
        if shown is None or not shown.findings:
            raise ChexanatomyError("There is nothing to save yet: press “Find them” first.")
        radiograph, model = shown.radiograph, shown.model

        def work(progress: ProgressCallback) -> Path:
            findings, earlier = shown.whole(), earlier_records(folder / PREDICTIONS)
            record = write_findings(folder, file_stem(radiograph.name), radiograph.name, radiograph, findings, model, earlier)
            keep_record(folder / PREDICTIONS, record)
            return folder

        self.start_saving(work)

    # Measuring ------------------------------------------------------------------------------------------------------

    @plainly
    def measure(self, *_: Any) -> None:
        """Measure heart and lungs in what was found; what is missing is asked for first."""
        from training.evaluate.measurements import needed

        base = self.radiograph_chooser.chosen
        radiograph = radiograph_of(base)
        shown = self.found.shown
        have = set() if shown is None else {f.structure for f in shown.findings}

        def found(answer: Answer) -> None:
            if answer.findings:
                before = self._results.get(answer.base)
                self._show_answer(answer if before is None else answer.added_to(before))
            self.measuring.show_measured(self._shown(), radiograph.view or answer.view, by_model=not radiograph.view)

        self._find(lambda model: [name for name in needed(model.card.get("structures", ())) if name not in have], found)

    @plainly
    def compare(self, *_: Any) -> None:
        """Compare what was found with the reference that is chosen."""
        self.measuring.compare(self._shown(), self.table.structure)

    # Asking back, and many images -----------------------------------------------------------------------------------

    @plainly
    def draw_box(self, *_: Any) -> None:
        """Put a Shapes layer with the rectangle tool over the radiograph."""
        self.back.draw_box()

    @plainly
    def identify(self, *_: Any) -> None:
        """Name the selected drawing, the mask selected in the table, or else the box."""
        self.back.identify()

    @plainly
    def run_all(self, *_: Any) -> None:
        """Ask for the folders and run over all images."""
        names = self.asked()
        if not names:
            raise ChexanatomyError("Tick at least one structure, or type its name.")
        stack = self.many.source.chosen
        folder = None if stack is not None else self.ask_folder("Folder of radiographs")
        if stack is None and folder is None:
            return
        out = self.ask_folder("Folder for the results: masks, predictions.json and tables")
        if out is None:
            return
        if stack is not None:
            self.many.run_stack(stack, out, names)
        elif folder is not None:
            self.many.run_folder(folder, out, names)

    @plainly
    def open_results(self, *_: Any) -> None:
        """Look through a folder of results."""
        folder = self.ask_folder("Folder of results")
        if folder is not None:
            self.many.open_results(folder)

    def shut_down(self) -> None:
        """What was found, measured and drawn stays in the layer list; a question that was being asked goes."""
        super().shut_down()
        self.back.remove_box()
        self.measuring.let_go()
        self.found.overlay.let_go()
        self._results.clear()
        self.found.show_result(None)

    @plainly
    def open_row(self, *_: Any) -> None:
        """Open the selected image of many."""
        self.many.open_row()
