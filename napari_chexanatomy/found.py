"""What a model found in one radiograph layer, and the section of the Predict widget that shows it."""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QPlainTextEdit, QPushButton, QSlider

from napari_chexanatomy.findings_table import FindingsTable
from napari_chexanatomy.layers import core_of
from napari_chexanatomy.overlay import CompositeOverlay, Patch, compose, hazy, patches
from napari_chexanatomy.section import Section
from training.images.types import Radiograph

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from training.model import Finding


PROBABILITY = "probability"


@dataclass
class Shown:
    """Findings of one radiograph layer. untaught: structures that the model does not know; model: its spec; cuts, hazes: masks
    and probabilities as they are painted, the latter kept in this form alone: as whole pictures they would fill the memory."""

    radiograph: Radiograph
    findings: list[Finding]
    model: str
    untaught: tuple[str, ...] = ()
    view: str = ""
    cuts: list[Patch] = field(default_factory=list)
    hazes: list[Patch] = field(default_factory=list)
    _layer: weakref.ref[Layer] | None = None
    _print: int = 0

    @classmethod
    def on(
        cls, layer: Layer, radiograph: Radiograph, findings: Sequence[Finding], model: str, untaught: Sequence[str] = ()
    ) -> Shown:
        """Findings in the picture that a layer shows now."""
        cuts = patches({f.structure: f.mask for f in findings if f.present and f.mask is not None})
        sure = {f.structure: (f.probability * 255).round().astype(np.uint8) for f in findings if f.probability is not None}
        bare = [replace(f, probability=None) for f in findings]
        return cls(
            radiograph, bare, model, tuple(untaught), radiograph.view, cuts, patches(sure), weakref.ref(layer), _print(layer)
        )

    @property
    def layer(self) -> Layer | None:
        """The layer, None when it is gone."""
        return self._layer() if self._layer is not None else None

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Masks bool [row, column] of what was found, by structure."""
        return {f.structure: f.mask for f in self.findings if f.present and f.mask is not None}

    def still_true(self) -> bool:
        """False when the layer shows another picture than the one that was asked about."""
        layer = self.layer
        if layer is None:
            return False
        return (layer.data is self.radiograph.pixels and core_of(layer).radiograph is self.radiograph) or _print(
            layer
        ) == self._print

    def with_more(self, findings: Sequence[Finding]) -> list[Finding]:
        """All findings, newer ones in place of older ones of the same structure."""
        newer = {f.structure: f for f in findings}
        kept = [newer.pop(f.structure, f) for f in self.whole()]
        return [*kept, *newer.values()]

    def whole(self) -> list[Finding]:
        """The findings with their probabilities, as the model gave them, in steps of 1/255."""
        hazes = {haze.structure: haze for haze in self.hazes}
        whole = []
        for finding in self.findings:
            if haze := hazes.get(finding.structure):
                probability = np.zeros(self.radiograph.pixels.shape, np.float32)
                probability[haze.window] = haze.crop / np.float32(255)
                finding = replace(finding, probability=probability)
            whole.append(finding)
        return whole


def _print(layer: Layer) -> int:
    pixels = layer.data[0] if layer.multiscale else layer.data
    return zlib.crc32(np.ascontiguousarray(pixels).view(np.uint8).reshape(-1).data)


class FoundSection(Section):
    """The table, how the structures are painted, and what can be done with the selected one."""

    edit = Signal()
    save = Signal()

    def __init__(self, viewer: ViewerModel) -> None:
        """Nothing found yet."""
        super().__init__("What was found", "Structures that the model sees, how sure it is, and their masks.")
        self._viewer = viewer
        self.overlay = CompositeOverlay(viewer, "predicted structures")
        self.shown: Shown | None = None
        self.free_text = ""
        self.table = FindingsTable()
        self.table.selected.connect(self.repaint_all)
        self.body.addWidget(self.table)
        self.style_combo = QComboBox()
        self.style_combo.addItem("Filled", "fill")
        self.style_combo.addItem("Outlines", "outline")
        self.style_combo.addItem("Probability", PROBABILITY)
        self.style_combo.setToolTip(
            "Paint structures as areas or as outlines; what the model doubts is always dotted. After an accurate look also as "
            "probabilities: the surer, the denser, of the selected structure or of all."
        )
        self._offer_probability(False)
        self.style_combo.currentIndexChanged.connect(lambda _: self.repaint_all())
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setValue(100)
        self.opacity.setToolTip("Opacity of the structures over the radiograph.")
        self.opacity.valueChanged.connect(self._set_opacity)
        self.boxes = _check("Boxes", "Draw the box of every structure as well.", self.repaint_all)
        look = QHBoxLayout()
        look.addWidget(self.style_combo)
        look.addWidget(self.opacity, 1)
        look.addWidget(self.boxes)
        self.body.addLayout(look)
        row = QHBoxLayout()
        for text, tip, slot in (
            ("Edit mask", "Copy the selected structure into a Labels layer, to correct it with napari's brush.", self.edit.emit),
            ("Save …", "Write one mask per structure and predictions.json into a folder.", self.save.emit),
            ("Copy", "Put the table onto the clipboard, for a spreadsheet.", self.table.copy),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(lambda _=False, slot=slot: slot())
            row.addWidget(button, 1)
        self.show_tokens = _check(
            "Raw tokens", "Show what the model wrote, token by token, for the selected structure.", self._tokens
        )
        row.addWidget(self.show_tokens)
        self.body.addLayout(row)
        self.tokens = QPlainTextEdit()
        self.tokens.setReadOnly(True)
        self.tokens.setMaximumHeight(80)
        self.tokens.setToolTip(
            "What the model wrote: four location tokens (top, left, bottom, right), sixteen mask codes, the name. "
            "A structure that is put together from its parts has an answer for each of them."
        )
        self.tokens.hide()
        self.body.addWidget(self.tokens)

    def show_result(self, shown: Shown | None) -> None:
        """Show the findings of another layer, or none."""
        self.shown, self.free_text = shown, ""
        if shown is None:
            self.table.show_findings([], None)
        else:
            self.table.show_findings(shown.findings, shown.radiograph.spacing, shown.untaught)
        self._offer_probability(shown is not None and bool(shown.hazes))
        self.repaint_all()

    def _offer_probability(self, there: bool) -> None:
        """Let probabilities be chosen where there are some."""
        place = self.style_combo.findData(PROBABILITY)
        self.style_combo.model().item(place).setEnabled(there)
        if not there and self.style_combo.currentIndex() == place:
            self.style_combo.setCurrentIndex(0)

    def show_free_text(self, text: str) -> None:
        """Show what the model wrote to a prompt that was sent as it is."""
        self.free_text = text
        self.show_tokens.setChecked(True)
        self._tokens()

    def repaint_all(self) -> None:
        """Paint the findings again, after the look or the selected row changed."""
        self._tokens()
        shown = self.shown
        layer = shown.layer if shown is not None else None
        if shown is None or layer is None or layer not in self._viewer.layers or not shown.cuts:
            self.overlay.remove()
            return
        boxes = {f.structure: f.box for f in shown.findings if f.box is not None} if self.boxes.isChecked() else {}
        doubtful = {f.structure for f in shown.findings if f.doubtful}
        shape = (shown.radiograph.pixels.shape[0], shown.radiograph.pixels.shape[1])
        style = self.style_combo.currentData()
        if style == PROBABILITY:
            picture = hazy(shape, shown.hazes, self.table.structure, boxes)
        else:
            picture = compose(shape, shown.cuts, style, self.table.structure, doubtful, boxes)
        self.overlay.show(picture, layer, shown.masks)
        self._set_opacity(self.opacity.value())

    def _tokens(self) -> None:
        finding = self.table.finding
        self.tokens.setVisible(self.show_tokens.isChecked())
        written = " ".join(finding.tokens) if finding is not None else self.free_text
        self.tokens.setPlainText(written or "Select a structure in the table.")

    def _set_opacity(self, percent: int) -> None:
        if self.overlay.present and self.overlay.layer is not None:
            self.overlay.layer.opacity = percent / 100


def _check(text: str, tip: str, slot: object) -> QCheckBox:
    box = QCheckBox(text)
    box.setToolTip(tip)
    box.toggled.connect(lambda _: slot())  # type: ignore[operator]
    return box
