"""The section of the Predict widget that asks back: what does this box, this drawing or this mask show?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QHBoxLayout

from napari_chexanatomy.buttons import push_button
from napari_chexanatomy.desk import DISCLAIMER
from napari_chexanatomy.drawings import can_be_asked_about, last_box, marked, mask_over
from napari_chexanatomy.findings_table import PlainTable
from napari_chexanatomy.jobs import interruptible
from napari_chexanatomy.layers import core_of, plane_of, radiograph_of
from napari_chexanatomy.section import Section
from napari_chexanatomy.structure_colours import display_name
from napari_chexanatomy.structure_list import swatch
from training.errors import ChexanatomyError
from training.progress import ProgressCallback

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_chexanatomy.predict import PredictWidget

BOX_LAYER = "what is this?"
ANSWERS = 3
UNSURE = 0.5
"""A likeliest name below this probability is told as a guess."""


class AskBackSection(Section):
    """Draw a box, or take a drawing or a found mask, and get the likeliest names."""

    def __init__(self, desk: PredictWidget) -> None:
        """`desk` runs the job and knows radiograph, model and findings."""
        super().__init__("What is this?", "Point at something in the radiograph and ask the model for its name.", unfolded=False)
        self._desk = desk
        row = QHBoxLayout()
        for text, tip, slot in (
            ("Draw a box", "Draw a box around something; its name is asked for when you let go.", desk.draw_box),
            (
                "What is this?",
                "Name what the selected drawing (Shapes or Labels layer), the selected row's mask, or else the box shows.",
                desk.identify,
            ),
        ):
            button = push_button(text, tip, slot)
            row.addWidget(button)
            desk.disable_while_busy(button)
        self.body.addLayout(row)
        self.answers = PlainTable(
            {"It may be": "The likeliest names, first the likeliest.", "Probability": "All names together are 100 %."}
        )
        self.answers.setFixedHeight(24 * (ANSWERS + 1) + 6)
        self.answers.setToolTip("What the model takes it for.")
        self.answers.hide()
        self.body.addWidget(self.answers)

    def box_layer(self) -> Layer | None:
        """The layer that boxes are drawn in, if it is there."""
        return next((layer for layer in self._desk.viewer.layers if core_of(layer).role == "box"), None)

    def remove_box(self) -> None:
        """Take the box away: it was a question."""
        old = self.box_layer()
        if old is not None:
            self._desk.viewer.layers.remove(old)

    def draw_box(self) -> None:
        """Put a Shapes layer with the rectangle tool over the radiograph."""
        desk = self._desk
        base = desk.radiograph_chooser.chosen
        radiograph_of(base)
        assert base is not None
        self.remove_box()
        layer = desk.viewer.add_shapes(
            ndim=2, name=BOX_LAYER, edge_color="yellow", face_color="transparent", metadata=marked("box"), **plane_of(base)
        )
        layer.current_edge_width = max(1.0, max(base.data.shape[:2]) / 200)
        layer.mode = "add_rectangle"
        desk.viewer.layers.selection.active = layer
        layer.mouse_drag_callbacks.append(self._draw)
        desk.say("Draw a box on the radiograph.")

    def _draw(self, layer: Layer, event: Any) -> Iterator[None]:
        drawing = layer.mode.startswith("add_")
        yield
        while event.type == "mouse_move":
            yield
        if drawing:
            QTimer.singleShot(0, self._ask_once)  # napari finishes the shape in the same event

    def _ask_once(self) -> None:
        layer = self.box_layer()
        if layer is not None and len(layer.data) and not self._desk.busy:
            self._desk.identify()

    def identify(self) -> None:
        """Ask for the names; they appear in the little table."""
        desk = self._desk
        base = desk.radiograph_chooser.chosen
        radiograph = radiograph_of(base)
        assert base is not None
        words, question = self._question(base, (radiograph.pixels.shape[0], radiograph.pixels.shape[1]))
        open_model = desk.model.opener()

        def work(progress: ProgressCallback) -> tuple[Any, list[tuple[str, float]]]:
            predictor = open_model(progress)
            return predictor, interruptible(lambda: predictor.identify(radiograph, **question), progress, "Looking")

        def show(result: tuple[Any, list[tuple[str, float]]]) -> None:
            desk.model.opened(open_model, result[0])
            self.show_answers(words, result[1][:ANSWERS])

        desk.start("Looking", work, show)

    def show_answers(self, words: str, named: Sequence[tuple[str, float]]) -> None:
        """Show the likeliest names with their probabilities."""
        self.unfold()
        self.answers.show()
        self.answers.setRowCount(len(named))
        for row, (structure, probability) in enumerate(named):
            self.answers.put(row, 0, display_name(structure)).setIcon(swatch(structure))
            self.answers.put(row, 1, _percent(probability))
        guess = " The model is not sure." if named and named[0][1] < UNSURE else ""
        listed = ", ".join(f"{display_name(structure)} ({_percent(probability)})" for structure, probability in named)
        self._desk.say(f"Likeliest for {words}: {listed}.{guess} {DISCLAIMER}")

    def _question(self, base: Layer, shape: tuple[int, int]) -> tuple[str, dict[str, Any]]:
        """What is asked about, in words and as arguments of `Predictor.identify`."""
        active, box, finding = self._desk.viewer.layers.selection.active, self.box_layer(), self._desk.found.table.finding
        if active is not None and active is not box and can_be_asked_about(active):
            mask = mask_over(active, base, shape)
            if mask.any():
                return f"“{active.name}”", {"mask": mask}
        if finding is not None and finding.mask is not None and finding.mask.shape == shape and active is not box:
            return f"the mask of {display_name(finding.structure)}", {"mask": finding.mask}
        if box is not None and len(box.data):
            if box.shape_type[-1] in ("rectangle", "line"):
                return "the box", {"box": last_box(box, base, shape)}
            return "the drawing", {"mask": mask_over(box, base, shape)}
        if finding is not None and finding.mask is not None and finding.mask.shape == shape:
            return f"the mask of {display_name(finding.structure)}", {"mask": finding.mask}
        raise ChexanatomyError("Draw a box on the radiograph, or select a found structure in the table, and ask again.")


def _percent(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.01 else "<1%"
