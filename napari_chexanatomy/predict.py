"""The Predict widget: ask a model for anatomy by name, see what it found over the radiograph, and ask back what a box shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QSlider,
    QVBoxLayout,
)

from napari_chexanatomy.desk import DISCLAIMER, DeskWidget, LayerChooser, plainly
from napari_chexanatomy.findings_table import FindingsTable
from napari_chexanatomy.layers import KEY, Core, drawn_mask, is_radiograph, label_colormap, plane_of, radiograph_of
from napari_chexanatomy.model_chooser import ModelChooser
from napari_chexanatomy.overlay import CompositeOverlay, Patch, compose, patches
from napari_chexanatomy.structure_colours import display_name, key_of
from napari_chexanatomy.structure_list import StructureList
from training.errors import ChexanatomyError
from training.images.types import Radiograph
from training.progress import ProgressCallback, report

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

    from training.model import Finding

FIRST_TICKED = ("lung_left", "lung_right", "heart")
BOX_LAYER = "what is this?"
BATCH = 8
"""Structures answered at once: small enough that Cancel answers soon."""
ANSWERS = 3


class PredictWidget(DeskWidget):
    """Findings of a vision-language model on a radiograph layer."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self.findings: list[Finding] = []
        self._radiograph: Radiograph | None = None
        self._base: Layer | None = None
        self._cuts: list[Patch] = []
        self._overlay = CompositeOverlay(self.viewer, "predicted structures")
        self._build()

    # Building -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.radiograph_chooser = LayerChooser(self.viewer, is_radiograph, "no radiograph open")
        self.radiograph_chooser.setToolTip("The radiograph that is asked about: any 2D image, also one taken from a CT.")
        self.model = ModelChooser(self)
        self.model.chosen_changed.connect(self._model_chosen)
        form = QFormLayout()
        form.addRow("Radiograph", self.radiograph_chooser)
        form.addRow("Model", self.model)
        self.body.addLayout(form)

        ask = QGroupBox("What to look for")
        inside = QVBoxLayout(ask)
        self.structures = StructureList("to ask the model for it")
        inside.addWidget(self.structures)
        self.prompt = QLineEdit()
        self.prompt.setPlaceholderText("or type: segment heart ; left clavicle")
        self.prompt.setToolTip(
            "Names in your own words, separated by ; or ,. When something stands here, it is asked instead of the ticks."
        )
        self.prompt.returnPressed.connect(self.run)
        inside.addWidget(self.prompt)
        self.body.addWidget(ask)
        self.run_button = QPushButton("Find them")
        self.run_button.setToolTip("Ask the model for the ticked structures, or for what you typed.")
        self.run_button.clicked.connect(self.run)
        self.disable_while_busy(self.run_button)
        self.body.addWidget(self.run_button)

        found = QGroupBox("What was found")
        inside = QVBoxLayout(found)
        self.table = FindingsTable()
        self.table.selected.connect(self._repaint)
        inside.addWidget(self.table)
        look = QHBoxLayout()
        self.style = QComboBox()
        self.style.addItem("Filled", "fill")
        self.style.addItem("Outlines", "outline")
        self.style.setToolTip("Paint structures as areas or as outlines.")
        self.style.currentIndexChanged.connect(lambda _: self._repaint())
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setValue(100)
        self.opacity.setToolTip("Opacity of the structures over the radiograph.")
        self.opacity.valueChanged.connect(self._set_opacity)
        look.addWidget(self.style)
        look.addWidget(self.opacity, 1)
        inside.addLayout(look)
        row = QHBoxLayout()
        for text, tip, slot in (
            ("Edit mask", "Copy the selected structure into a Labels layer, to correct it with napari's brush.", self.edit_mask),
            ("Save …", "Write one mask per structure and predictions.json into a folder.", self._ask_save),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(slot)
            row.addWidget(button)
        self.show_tokens = QCheckBox("Raw tokens")
        self.show_tokens.setToolTip("Show what the model wrote, token by token, for the selected structure.")
        self.show_tokens.toggled.connect(self._repaint_tokens)
        row.addWidget(self.show_tokens)
        inside.addLayout(row)
        self.tokens = QPlainTextEdit()
        self.tokens.setReadOnly(True)
        self.tokens.setMaximumHeight(80)
        self.tokens.hide()
        inside.addWidget(self.tokens)
        self.body.addWidget(found)

        back = QGroupBox("Ask back")
        inside = QVBoxLayout(back)
        row = QHBoxLayout()
        for text, tip, slot in (
            ("Draw a box", "Start drawing a box around something in the radiograph.", self.draw_box),
            ("What is this?", "Name what the box you drew, or else the selected mask, shows.", self.identify),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(slot)
            row.addWidget(button)
            self.disable_while_busy(button)
        inside.addLayout(row)
        self.body.addWidget(back)
        self._offer(())
        self.structures.set_checked(FIRST_TICKED)
        self.say(DISCLAIMER)

    # The model ------------------------------------------------------------------------------------------------------

    def _offer(self, learned: Sequence[str]) -> None:
        from training.anatomy import trainable

        self.structures.set_structures([*trainable(), *learned])

    def _model_chosen(self) -> None:
        self._offer(self.model.learned)

    # Asking ---------------------------------------------------------------------------------------------------------

    def asked(self) -> list[str]:
        """The structures that a run would ask for: what is typed, otherwise what is ticked."""
        typed = self.prompt.text().strip()
        if not typed:
            return self.structures.checked()
        words = typed[len("segment ") :] if typed.casefold().startswith("segment ") else typed
        return list(dict.fromkeys(key_of(part) for part in words.replace(",", ";").split(";") if part.strip()))

    @plainly
    def run(self, *_: Any) -> None:
        """Ask the model; the findings appear in the table and over the radiograph."""
        radiograph = radiograph_of(self.radiograph_chooser.chosen)
        base = self.radiograph_chooser.chosen
        names = self.asked()
        if not names:
            raise ChexanatomyError("Tick at least one structure, or type its name.")
        open_model = self.model.opener()

        def work(progress: ProgressCallback) -> tuple[Any, list[Finding]]:
            report(progress, 0, 0, "Opening the model")
            predictor = open_model()
            return predictor, predictor.segment(radiograph, names, batch=BATCH, progress=progress)

        def show(result: tuple[Any, list[Finding]]) -> None:
            self.model.opened(result[0])
            if base is None or base not in self.viewer.layers:
                raise ChexanatomyError("The radiograph was closed while the model was looking at it.")
            self.show_findings(base, radiograph, result[1])

        self.start("Looking", work, show)

    def show_findings(self, base: Layer, radiograph: Radiograph, findings: Sequence[Finding]) -> None:
        """Show findings in a radiograph, in the table and over its layer."""
        self._radiograph, self._base, self.findings = radiograph, base, list(findings)
        self._cuts = patches({f.structure: f.mask for f in findings if f.present and f.mask is not None})
        self.table.show_findings(findings, radiograph.spacing)
        self._repaint()
        self.say(f"{sum(f.present for f in findings)} of {len(findings)} found. {DISCLAIMER}")

    def _repaint(self) -> None:
        self._repaint_tokens()
        base = self._base
        if base is None or base not in self.viewer.layers or self._radiograph is None:
            return
        if not self._cuts:
            self._overlay.remove()
            return
        picture = compose(self._radiograph.pixels.shape, self._cuts, self.style.currentData(), self.table.structure)
        self._overlay.show(picture, base, {f.structure: f.mask for f in self.findings if f.mask is not None})
        self._set_opacity(self.opacity.value())

    def _repaint_tokens(self, *_: Any) -> None:
        finding = self.table.finding
        self.tokens.setVisible(self.show_tokens.isChecked())
        self.tokens.setPlainText(" ".join(finding.tokens) if finding is not None else "Select a structure in the table.")

    def _set_opacity(self, percent: int) -> None:
        if self._overlay.present and self._overlay.layer is not None:
            self._overlay.layer.opacity = percent / 100

    # What to do with it ---------------------------------------------------------------------------------------------

    def _selected(self) -> Finding:
        finding = self.table.finding
        if finding is None:
            raise ChexanatomyError("Select a structure in the table first.")
        return finding

    @plainly
    def edit_mask(self, *_: Any) -> None:
        """Copy the selected mask into a Labels layer with the brush in hand; an absent structure gives an empty one."""
        finding = self._selected()
        if self._base is None or self._base not in self.viewer.layers or self._radiograph is None:
            raise ChexanatomyError("The radiograph that this was found in is closed: run again on an open one.")
        data = np.zeros(self._radiograph.pixels.shape, np.uint8)
        if finding.mask is not None:
            data[finding.mask] = 1
        layer = self.viewer.add_labels(
            data, name=display_name(finding.structure), colormap=label_colormap({1: finding.structure}), opacity=0.5,
            metadata={KEY: Core(role=f"drawing:{finding.structure}")}, **plane_of(self._base),
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
        """Write masks and predictions.json as `chexanatomy predict` does."""
        from training.results import file_stem, write_findings, write_json

        radiograph, findings, model = self._radiograph, list(self.findings), self.model.spec
        if radiograph is None or not findings:
            raise ChexanatomyError("There is nothing to save yet: press “Find them” first.")

        def work(progress: ProgressCallback) -> Path:
            record = write_findings(folder, file_stem(radiograph.name), radiograph.name, radiograph, findings, model)
            write_json(folder / "predictions.json", [record])
            return folder

        self.start("Saving", work, lambda where: self.say(f"Saved in {where}."))

    # Asking back ----------------------------------------------------------------------------------------------------

    @plainly
    def draw_box(self, *_: Any) -> None:
        """Put a Shapes layer with the rectangle tool over the radiograph."""
        base = self.radiograph_chooser.chosen
        radiograph_of(base)
        assert base is not None
        old = self._box_layer()
        if old is not None:
            self.viewer.layers.remove(old)
        layer = self.viewer.add_shapes(
            ndim=2,
            name=BOX_LAYER,
            edge_color="yellow",
            face_color="transparent",
            metadata={KEY: Core(role="box")},
            **plane_of(base),
        )
        layer.current_edge_width = max(1.0, max(base.data.shape[:2]) / 200)
        layer.mode = "add_rectangle"
        self.viewer.layers.selection.active = layer
        self.say("Draw a box on the radiograph, then press “What is this?”.")

    def _box_layer(self) -> Layer | None:
        return next((layer for layer in self.viewer.layers if layer.metadata.get(KEY) == Core(role="box")), None)

    @plainly
    def identify(self, *_: Any) -> None:
        """Name the box that was drawn last, or else the mask selected in the table."""
        radiograph = radiograph_of(self.radiograph_chooser.chosen)
        question = self._question(radiograph)
        open_model = self.model.opener()

        def work(progress: ProgressCallback) -> tuple[Any, list[tuple[str, float]]]:
            report(progress, 0, 0, "Opening the model")
            predictor = open_model()
            report(progress, 0, 0, "Looking")
            return predictor, predictor.identify(radiograph, **question)

        def show(result: tuple[Any, list[tuple[str, float]]]) -> None:
            self.model.opened(result[0])
            named = [f"{display_name(structure)} ({probability:.0%})" for structure, probability in result[1][:ANSWERS]]
            self.say(f"Likeliest: {', '.join(named)}. {DISCLAIMER}")

        self.start("Looking", work, show)

    def _question(self, radiograph: Radiograph) -> dict[str, Any]:
        layer = self._box_layer()
        if layer is not None and len(layer.data):
            corners = np.asarray(layer.data[-1])[:, -2:]
            rows, columns = radiograph.pixels.shape
            top, left = np.maximum(corners.min(axis=0) - 0.5, 0)
            bottom, right = np.minimum(corners.max(axis=0) + 0.5, (rows, columns))
            if bottom - top < 1 or right - left < 1:
                raise ChexanatomyError("The box lies outside the radiograph, or is too small: draw it again.")
            return {"box": (float(top), float(left), float(bottom), float(right))}
        active = self.viewer.layers.selection.active
        if active is not None and type(active).__name__ in ("Labels", "Shapes") and active.ndim == 2:
            mask = drawn_mask(active, radiograph.pixels.shape)
            if mask.any():
                return {"mask": mask}
        finding = self.table.finding
        if finding is not None and finding.mask is not None and finding.mask.shape == radiograph.pixels.shape:
            return {"mask": finding.mask}
        raise ChexanatomyError("Draw a box on the radiograph, or select a found structure in the table, and ask again.")
