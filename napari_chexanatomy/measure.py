"""The section of the Predict widget that measures: cardiothoracic ratio and lung areas, and the agreement with a reference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QPushButton, QWidget

from napari_chexanatomy.desk import DISCLAIMER, LayerChooser
from napari_chexanatomy.drawings import is_reference, marked, mask_over
from napari_chexanatomy.findings_table import PlainTable
from napari_chexanatomy.layers import Core, core_of, plane_of
from napari_chexanatomy.overlay import CompositeOverlay
from napari_chexanatomy.section import Section
from napari_chexanatomy.structure_colours import display_name
from training.errors import ChexanatomyError
from training.progress import ProgressCallback, report

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_chexanatomy.found import Shown
    from napari_chexanatomy.predict import PredictWidget
    from training.evaluate import Agreement, Cardiothoracic, LungAreas

LINES_LAYER = "cardiothoracic ratio"
LINE_COLOURS = ("#40e0ff", "#40e0ff", "#ffd24a", "#e8e8e8")
"""Right and left half of the heart, chest, midline."""
OVERLAP_OPACITY = 0.6
KINDS = {
    "projected": ("what the CT's labels project", "For a radiograph that was taken from a CT: the shadows of its labels."),
    "layer": ("a drawing in the layer list", "A Labels or Shapes layer that shows the structure selected in the table above."),
    "file": ("a mask file …", "A picture of the structure selected above (above 0 is the structure), COCO JSON or DICOM SEG."),
    "folder": ("a folder of masks …", "One picture per structure, named by it, as heart.png."),
}
WORDS = {
    "outline": "lung outlines, the part behind the heart included",
    "field": "lung fields, without the part behind the heart",
    "projected": "whole lungs, as a CT projects them",
}


class MeasureSection(Section):
    """Two buttons and their tables. The core measures; the lines can be dragged, and the figures follow."""

    def __init__(self, desk: PredictWidget) -> None:
        """`desk` runs jobs and knows radiograph, model and findings."""
        super().__init__("Measure", "Cardiothoracic ratio, lung areas, and agreement with a reference mask.", unfolded=False)
        self._desk = desk
        self.agreements: list[Agreement] = []
        self.ratio: Cardiothoracic | None = None
        self.lungs: LungAreas | None = None
        self._view = ""
        self._lines: Layer | None = None
        self._map = CompositeOverlay(desk.viewer, "agreement")
        self._compared: dict[str, tuple[np.ndarray | None, np.ndarray]] = {}
        self._base: Layer | None = None
        button = QPushButton("Heart and lungs")
        button.setToolTip(
            "Measure the cardiothoracic ratio and the areas of the lungs. What is missing is asked for first. "
            "The lines can be dragged in the picture; the ratio follows."
        )
        button.clicked.connect(desk.measure)
        desk.disable_while_busy(button)
        self.body.addWidget(button)
        self.table = PlainTable({"Measure": "What was measured.", "Value": "Of the shadow on the detector."})
        self.table.setToolTip("Ctrl+C copies the table.")
        self.table.hide()
        self.body.addWidget(self.table)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setToolTip("What to mind about the ratio in this picture.")
        self.note.hide()
        self.body.addWidget(self.note)
        self.kind = QComboBox()
        for key, (text, tip) in KINDS.items():
            self.kind.addItem(text, key)
            self.kind.setItemData(self.kind.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.kind.setToolTip("What the prediction is compared with.")
        self.kind.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.kind.setMinimumContentsLength(12)
        self.layer = LayerChooser(desk.viewer, is_reference, "no drawing in the layer list")
        self.layer.setToolTip("The drawing that counts as right.")
        compare = QPushButton("Compare with")
        compare.setToolTip("How well the masks found agree with a reference: Dice, IoU and the distance between the outlines.")
        compare.clicked.connect(desk.compare)
        desk.disable_while_busy(compare)
        row = QHBoxLayout()
        row.addWidget(compare)
        row.addWidget(self.kind, 1)
        self.body.addLayout(row)
        self.body.addWidget(self.layer)
        self.kind.currentIndexChanged.connect(lambda _: self.layer.setVisible(self.kind.currentData() == "layer"))
        self.layer.hide()
        self.results = PlainTable(
            {
                "Structure": "Select one to see where the two masks agree.",
                "Dice": "Twice the common area over the sum of both; 1 is perfect.",
                "IoU": "The common area over the united one; 1 is perfect.",
                "HD95": "95 % of the outline lie closer than this to the other outline.",
            }
        )
        self.results.itemSelectionChanged.connect(self.show_map)
        self.results.setToolTip("Select a row to see the overlap in the picture; Ctrl+C copies the table.")
        self.results.setMinimumHeight(110)
        self.results.hide()
        self.body.addWidget(self.results)
        self.legend = QLabel(_legend())
        self.legend.setToolTip("Colours of the overlap in the picture.")
        self.legend.hide()
        self.body.addWidget(self.legend)

    # Heart and lungs ------------------------------------------------------------------------------------------------

    def show_measured(self, shown: Shown, view: str, by_model: bool) -> None:
        """Measure in the masks found and show figures and lines. Raises ChexanatomyError when neither can be measured."""
        from training.evaluate import cardiothoracic, lung_areas

        base = shown.layer
        assert base is not None
        self.unfold()
        self._view = f"{view} (says the model)" if by_model else view
        self._base, self.ratio, problem = base, None, ""
        self.lungs = lung_areas(shown.masks, shown.radiograph.spacing)
        try:
            self.ratio = cardiothoracic(shown.masks, shown.radiograph.spacing, view)
        except ChexanatomyError as error:
            problem = str(error)
        self._fill()
        self._remove_lines()
        if self.ratio is not None:
            self._draw_lines(self.ratio, base)
            doubted = [display_name(f.structure) for f in shown.findings if f.doubtful and f.structure in _used(self.ratio)]
            doubt = f" The model doubts {', '.join(doubted)}: check the lines." if doubted else ""
            self._desk.say(f"Cardiothoracic ratio {self.ratio.ratio:.2f}.{doubt} {DISCLAIMER}")
        else:
            self._desk.complain(problem)

    def _fill(self) -> None:
        from training.evaluate.measurements import USUAL_LIMIT

        rows: list[tuple[str, str, str]] = []
        if self.ratio is not None:
            r = self.ratio
            rows += [
                (
                    "cardiothoracic ratio",
                    f"{r.ratio:.2f}",
                    f"Heart over chest. In adults {USUAL_LIMIT:g} is the usual limit, PA and standing.",
                ),
                ("heart, widest", f"{r.heart_width:.0f} {r.unit}", "Farthest right plus farthest left of the midline."),
                ("chest, widest", f"{r.chest_width:.0f} {r.unit}", "Between the outer borders of the lungs."),
            ]
        if self.lungs is not None:
            a, digits = self.lungs, 0 if self.lungs.unit == "px" else 1
            what = f"Measured in the {WORDS[a.lungs]}."
            rows += [
                ("right lung", f"{a.right:.{digits}f} {a.unit}", what),
                ("left lung", f"{a.left:.{digits}f} {a.unit}", what),
                ("right lung's share of both", f"{a.right_share:.0%}", "Usually a little more than half."),
            ]
        view = (
            "view",
            self._view or "not known",
            "AP views show the heart larger; the ratio is meant for PA. The model cannot tell them apart.",
        )
        rows.append(view)
        self.note.setText(self.ratio.note if self.ratio is not None else "")
        self.note.setVisible(bool(self.note.text()))
        self.table.setRowCount(len(rows))
        for number, (name, value, tip) in enumerate(rows):
            self.table.put(number, 0, name, tip=tip)
            self.table.put(number, 1, value, tip=tip)
        self.table.setFixedHeight(24 * (len(rows) + 1) + 8)
        self.table.show()

    def _draw_lines(self, ratio: Cardiothoracic, base: Layer) -> None:
        width = max(1.0, max(base.data.shape[:2]) / 250)
        self._lines = self._desk.viewer.add_shapes(
            [np.array([line.start, line.end]) for line in (ratio.right, ratio.left, ratio.chest, ratio.midline)],
            shape_type="line",
            name=LINES_LAYER,
            edge_color=list(LINE_COLOURS),
            edge_width=width,
            features={"label": _labels(ratio)},
            text={"string": "{label}", "color": "white", "size": 11, "anchor": "center", "translation": (-4 * width, 0)},
            metadata=marked("lines"),
            **plane_of(base),
        )
        self._lines.events.data.connect(self._dragged)
        self._desk.viewer.layers.selection.active = base

    def _dragged(self, event: Any = None) -> None:
        """The user moved a line: measure again with the lines as they are."""
        from dataclasses import replace

        from training.evaluate.measurements import Line

        lines = self._lines
        if lines is None or lines not in self._desk.viewer.layers or self.ratio is None or len(lines.data) < 3:
            return
        right, left, chest = (
            Line((float(a[0]), float(a[1])), (float(b[0]), float(b[1]))) for a, b in (line[:, -2:] for line in lines.data[:3])
        )
        if (right, left, chest) == (self.ratio.right, self.ratio.left, self.ratio.chest):
            return
        self.ratio = replace(self.ratio, right=right, left=left, chest=chest)
        lines.features = {"label": _labels(self.ratio)}
        self._fill()

    def _remove_lines(self) -> None:
        old, self._lines = self._lines, None
        if old is not None and old in self._desk.viewer.layers:
            self._desk.viewer.layers.remove(old)

    # Agreement ------------------------------------------------------------------------------------------------------

    def compare(self, shown: Shown, chosen: str | None) -> None:
        """Compare what was found with the reference that is chosen; `chosen` is the structure selected in the table."""
        from training.evaluate.agreement import MASK_SUFFIXES, agree, check_size, matching, read_references

        base = shown.layer
        assert base is not None
        shape = (shown.radiograph.pixels.shape[0], shown.radiograph.pixels.shape[1])
        found = {f.structure: f.mask if f.present else None for f in shown.findings}
        core = core_of(base)
        labels = core.sources()[1]
        kind = self.kind.currentData()
        drawn: dict[str, np.ndarray] = {}
        path: Path | None = None
        if kind == "layer":
            drawn = self._drawn(base, shape, chosen)
        elif kind in ("file", "folder"):
            path = self._ask_path(kind)
            if path is None:
                return
            if kind == "file" and chosen is None and path.suffix.lower() in MASK_SUFFIXES:
                raise ChexanatomyError("Select in the table above which structure the file shows, and compare again.")
        elif core.geometry is None:
            raise ChexanatomyError("This radiograph was not taken from a CT: compare with a drawing or a file.")

        def work(progress: ProgressCallback) -> tuple[list[Agreement], dict[str, np.ndarray]]:
            references = drawn
            if kind == "projected":
                report(progress, 0, 0, "Projecting")
                references = _projected(core, labels, list(found))
            elif path is not None:
                references = read_references(path, chosen if kind == "file" else None, shape, shown.radiograph.turn)
            names = matching(found, references)
            results = []
            for number, name in enumerate(names):
                report(progress, number, len(names), "Comparing")
                check_size(display_name(name), references[name], shape)
                results.append(agree(name, found[name], references[name], shown.radiograph.spacing))
            return results, references

        def show(result: tuple[list[Agreement], dict[str, np.ndarray]]) -> None:
            self.show_agreement(
                base, result[0], {a.structure: (found[a.structure], result[1][a.structure]) for a in result[0]}, chosen
            )

        self._desk.start("Comparing", work, show)

    def _drawn(self, base: Layer, shape: tuple[int, int], chosen: str | None) -> dict[str, np.ndarray]:
        layer = self.layer.chosen
        if layer is None:
            raise ChexanatomyError("There is no drawing to compare with: add a Labels or Shapes layer, or press Edit mask.")
        role = core_of(layer).role
        structure = role.removeprefix("drawing:") if role.startswith("drawing:") else chosen
        if structure is None:
            raise ChexanatomyError(f"Select in the table above which structure “{layer.name}” shows, and compare again.")
        return {structure: mask_over(layer, base, shape)}

    def _ask_path(self, kind: str) -> Path | None:
        if kind == "folder":
            return self._desk.ask_folder("Folder of reference masks, one picture per structure")
        name = QFileDialog.getOpenFileName(self, "Reference mask", "", "Masks (*.png *.tif *.tiff *.json *.dcm);;All files (*)")[
            0
        ]
        return Path(name) if name else None

    def show_agreement(
        self, base: Layer, results: list[Agreement], masks: dict[str, tuple[np.ndarray | None, np.ndarray]], chosen: str | None
    ) -> None:
        """Show the figures, and the overlap of one structure in the picture; masks: (found, reference) by structure."""
        self.unfold()
        self._base, self.agreements, self._compared = base, results, masks
        self.results.blockSignals(True)
        self.results.clearSelection()
        self.results.setRowCount(len(results))
        for row, one in enumerate(results):
            distance = "–" if np.isnan(one.hd95) else f"{one.hd95:.1f} {one.unit}"
            self.results.put(row, 0, display_name(one.structure), tip=one.verdict)
            for column, text in enumerate((f"{one.dice:.2f}", f"{one.iou:.2f}", distance), 1):
                self.results.put(row, column, text, tip=one.verdict)
        self.results.blockSignals(False)
        self.results.show()
        self.legend.show()
        names = [one.structure for one in results]
        self.results.selectRow(names.index(chosen) if chosen in names else 0)
        mean = sum(one.dice for one in results) / len(results)
        self._desk.say(f"Mean Dice {mean:.2f} over {len(results)} structure{'s' * (len(results) > 1)}. {DISCLAIMER}")

    def show_map(self) -> None:
        """Lay the overlap of the selected row over the radiograph, or take it away."""
        row, base = self.results.chosen_row, self._base
        if not 0 <= row < len(self.agreements) or base is None or base not in self._desk.viewer.layers:
            self._map.remove()
            return
        from training.batch import OVERLAP_COLOURS
        from training.evaluate import overlap_map

        found, reference = self._compared[self.agreements[row].structure]
        chosen = overlap_map(found, reference)
        palette = np.array([(*colour, 255) for colour in OVERLAP_COLOURS], np.uint8)
        palette[0, 3] = 0
        self._map.show(palette[chosen], base, {})
        if self._map.layer is not None:
            self._map.layer.opacity = OVERLAP_OPACITY
            self._map.layer.visible = True

    def let_go(self) -> None:
        """Leave lines and overlap map to the user, as any other layers, and forget about them."""
        self._lines = None
        self._map.let_go()
        self.forget()

    def forget(self) -> None:
        """Take figures, lines and overlap away: they belong to another picture."""
        self.ratio = self.lungs = None
        self.agreements, self._compared, self._base = [], {}, None
        self.results.setRowCount(0)
        for widget in (self.table, self.note, self.results, self.legend):
            QWidget.hide(widget)
        self._map.remove()
        self._remove_lines()


def _used(ratio: Cardiothoracic) -> tuple[str, ...]:
    from training.evaluate.measurements import HEART, LUNG_KINDS

    return (HEART, *LUNG_KINDS[ratio.lungs])


def _labels(ratio: Cardiothoracic) -> list[str]:
    lengths = (ratio.right.length(ratio.spacing), ratio.left.length(ratio.spacing), ratio.chest_width)
    return [*(f"{length:.0f} {ratio.unit}" for length in lengths), ""]


def _projected(core: Core, labels: Any, wanted: list[str]) -> dict[str, np.ndarray]:
    """The reference shadows of a radiograph that was taken from a CT: those at hand, the others projected now."""
    from training.anatomy import resolve
    from training.drr import project_labels
    from training.drr.labels import LUNG_OF

    references = {name: mask for name, mask in core.masks.items() if name in wanted}
    missing = [name for name in wanted if name not in references]
    if missing and labels is not None and core.geometry is not None:
        held = set(resolve(labels.structures))
        can = [name for name in missing if LUNG_OF.get(name, name) in held]
        references |= project_labels(labels, core.geometry, can) if can else {}
    if not references:
        raise ChexanatomyError(
            "The labels of this radiograph's CT are not open: open them and take it again, or compare with a drawing or a file."
        )
    return references


def _legend() -> str:
    from training.batch import OVERLAP_COLOURS

    texts = ("both", "only predicted", "only in the reference")
    parts = [
        f'<span style="background-color: #555; color: rgb{colour}">■</span> {text}'
        for colour, text in zip(OVERLAP_COLOURS[1:], texts, strict=True)
    ]
    return "&nbsp;&nbsp; ".join(parts)
