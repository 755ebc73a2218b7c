"""The section of the Predict widget that asks about many radiographs: a folder of files, or every image of a stack."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtWidgets import QCheckBox, QHBoxLayout

from napari_chexanatomy.buttons import push_button
from napari_chexanatomy.desk import DISCLAIMER, LayerChooser
from napari_chexanatomy.findings_table import AMBER, GREY, PlainTable
from napari_chexanatomy.layers import KEY, core_of, from_radiograph, look_at
from napari_chexanatomy.section import Section
from training.errors import ChexanatomyError
from training.images.types import Radiograph
from training.progress import Progress, ProgressCallback

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_chexanatomy.predict import PredictWidget
    from training.batch import Answered, Source

FOLDER = "a folder of files …"
ROLE = "batch"


@dataclass(frozen=True)
class Row:
    """One image of a run. read: opens it; record: its findings as in predictions.json; problem: why there are none."""

    title: str
    read: Callable[[], Radiograph]
    record: Mapping[str, Any]
    problem: str = ""
    ratio: float | None = None
    step: int | None = None


class BatchSection(Section):
    """Choose images, press Run on all; every image becomes a row, and a row opens its image with what was found."""

    def __init__(self, desk: PredictWidget) -> None:
        """`desk` runs the job and knows model and structures."""
        super().__init__(
            "Many images", "Ask about every radiograph of a folder or a stack, with a table of results.", unfolded=False
        )
        self._desk = desk
        self.rows: list[Row] = []
        self._arrived: collections.deque[Row] = collections.deque()
        self._opened: Layer | None = None
        self.source = LayerChooser(desk.viewer, is_stack, FOLDER, FOLDER)
        self.source.setToolTip("Where the radiographs are: files in a folder, or the images of a stack in the layer list.")
        self.measure = QCheckBox("Measure")
        self.measure.setToolTip("Measure the cardiothoracic ratio and the lungs in every image as well.")
        first = QHBoxLayout()
        first.addWidget(self.source, 1)
        first.addWidget(self.measure)
        self.body.addLayout(first)
        row = QHBoxLayout()
        for text, tip, slot in (
            (
                "Run on all …",
                "Ask for the ticked structures in every image. Masks and tables go into a folder as they come.",
                desk.run_all,
            ),
            (
                "Open results …",
                "Look through a folder that was written by Run on all, or by `chexanatomy predict`.",
                desk.open_results,
            ),
        ):
            button = push_button(text, tip, slot)
            desk.disable_while_busy(button)
            row.addWidget(button)
        self.body.addLayout(row)
        self.table = PlainTable(
            {
                "Image": "Select one to see it with what was found.",
                "Found": "Structures seen, of those asked for.",
                "Doubt": "How many of them the model doubts.",
                "Sure": "The mean of what the model expects of its masks.",
                "CTR": "Cardiothoracic ratio, where it was measured.",
            }
        )
        self.table.setToolTip("Select a row to open that image; Ctrl+C copies the table.")
        self.table.setMinimumHeight(140)
        self.table.itemSelectionChanged.connect(desk.open_row)
        self.table.hide()
        self.body.addWidget(self.table)

    # Running --------------------------------------------------------------------------------------------------------

    def run_folder(self, folder: Path, out: Path, names: Sequence[str]) -> None:
        """Ask about every radiograph in a folder; results go to `out`."""
        from training.batch import image_files, sources_of

        if out.resolve() == folder.resolve():
            raise ChexanatomyError("The results need a folder of their own, apart from the radiographs: choose another one.")
        files = image_files([folder])
        self._run(sources_of(files), [path.name for path in files], out, names)

    def run_stack(self, layer: Layer, out: Path, names: Sequence[str]) -> None:
        """Ask about every image of a stack; results go to `out`."""
        from training.batch import Source

        count = len(layer.data)
        width = len(str(count - 1))
        titles = [f"{layer.name} {number:0{width}d}" for number in range(count)]
        sources = [Source(title, f"image-{n:0{width}d}", reader_of(layer, n, title)) for n, title in enumerate(titles)]
        self._run(sources, titles, out, names)

    def _run(self, sources: Sequence[Source], titles: Sequence[str], out: Path, names: Sequence[str]) -> None:
        from training.batch import Wishes, answer_all
        from training.evaluate.measurements import needed

        desk, measure = self._desk, self.measure.isChecked()
        projected, accurate = not desk.as_drawn.isChecked(), desk.accurate.isChecked()
        open_model, arrived = desk.model.opener(), self._arrived
        title_of = {source.folder: (title, step) for step, (source, title) in enumerate(zip(sources, titles, strict=True))}

        def work(progress: ProgressCallback) -> tuple[Any, Path]:
            predictor = open_model(progress)
            heart_and_lungs = needed(predictor.card.get("structures", ())) if measure else ()
            wanted = list(dict.fromkeys([*names, *heart_and_lungs]))
            taught = [name for name in wanted if name not in predictor.untaught(wanted)]
            if not taught:
                raise ChexanatomyError("This model was taught none of these structures: choose others, or teach it.")
            wishes = Wishes(taught, accurate=accurate, measure=measure, projected=projected)
            for answered in answer_all(predictor, sources, wishes, out, open_model.spec, progress):
                arrived.append(_row(answered, *title_of[answered.source.folder]))
            return predictor, out

        def show(result: tuple[Any, Path]) -> None:
            desk.model.opened(open_model, result[0])
            failed = sum(bool(row.problem) for row in self.rows)
            left = f", {failed} left out" if failed else ""
            desk.say(f"{len(self.rows) - failed} images done{left}. Masks and tables are in {result[1]}. {DISCLAIMER}")

        arrived.clear()
        job = desk.start("Asking", work, show, writes=True)
        self._show_rows([])
        job.progressed.connect(self._take)
        job.ended.connect(self._take)

    def _take(self, _: Progress | None = None) -> None:
        """Put what has arrived since into the table."""
        while self._arrived:
            self._append(self._arrived.popleft())

    # The table ------------------------------------------------------------------------------------------------------

    def open_results(self, folder: Path) -> None:
        """Show the results that lie in a folder. Raises ChexanatomyError when there are none."""
        from training.batch import PREDICTIONS
        from training.images import read_radiograph
        from training.results import read_records

        rows = []
        for record in read_records(folder / PREDICTIONS):
            path = _found_again(Path(str(record["image"])), folder)
            rows.append(Row(path.name, lambda path=path: read_radiograph(path), record))  # type: ignore[misc]
        self._show_rows(rows)
        self._desk.say(f"{len(rows)} images. Select one to see what was found.")

    def _show_rows(self, rows: Sequence[Row]) -> None:
        self.unfold()
        self.table.show()
        self.table.blockSignals(True)
        self.table.setRowCount(0)
        self.table.blockSignals(False)
        self.rows = []
        for row in rows:
            self._append(row)

    def _append(self, row: Row) -> None:
        self.rows.append(row)
        number = self.table.rowCount()
        self.table.insertRow(number)
        if row.problem:
            cells, colour = (row.title, "left out", "–", "–", "–"), GREY
        else:
            findings = row.record["findings"]
            there = [f for f in findings if f["present"]]
            doubtful = sum(_doubtful(f) for f in there)
            sure = f"{np.mean([f['confidence'] for f in there]):.0%}" if there else "–"
            ratio = f"{row.ratio:.2f}" if row.ratio is not None else "–"
            cells = (row.title, f"{len(there)} of {len(findings)}", str(doubtful), sure, ratio)
            colour = AMBER if 2 * doubtful > len(there) else None
        for column, text in enumerate(cells):
            self.table.put(number, column, text, colour, row.problem if row.problem else (row.title if column == 0 else ""))
        self.table.scrollToBottom()

    def open_row(self) -> None:
        """Open the selected image with what was found in it; the one opened before makes room."""
        from training.results import read_findings

        number = self.table.chosen_row
        if not 0 <= number < len(self.rows) or self._desk.busy:
            return
        row = self.rows[number]
        if row.problem:
            raise ChexanatomyError(row.problem)
        radiograph = replace(row.read(), name=row.title)
        findings = read_findings(row.record)
        if any(f.mask is not None and f.mask.shape != radiograph.pixels.shape for f in findings):
            raise ChexanatomyError(f"{row.title} is not the picture any more that these masks were found in.")
        viewer = self._desk.viewer
        source = self.source.chosen
        if row.step is not None and source is not None:
            source.visible = False
        data, keywords, _ = from_radiograph(radiograph)
        metadata = {KEY: replace(keywords["metadata"][KEY], role=ROLE)}
        layer = viewer.add_image(data, **{**keywords, "metadata": metadata})
        old, self._opened = self._opened, layer
        self._desk.show_findings(layer, radiograph, findings, model=str(row.record.get("model", "")))
        if old is not None and old in viewer.layers and core_of(old).role == ROLE:
            viewer.layers.remove(old)
        look_at(viewer, layer)


def is_stack(layer: Layer) -> bool:
    """True for a stack of flat images that is no CT of ours."""
    return type(layer).__name__ == "Image" and layer.ndim == 3 and core_of(layer).ct is None and not layer.multiscale


def reader_of(layer: Layer, number: int, title: str) -> Callable[[], Radiograph]:
    """A function that takes one image out of a stack, values spread over 0..1 of the whole stack where they are not there yet."""
    from napari.layers import Image

    from napari_chexanatomy.layers import radiograph_of

    data, rgb, scale = layer.data, layer.rgb, tuple(layer.scale)[-2:]
    units = tuple(layer.units)[-2:]

    def read() -> Radiograph:
        flat = Image(np.asarray(data[number]), rgb=rgb, scale=scale, units=units, name=title)
        return replace(radiograph_of(flat), name=title)

    return read


def _row(answered: Answered, title: str, step: int) -> Row:
    measured = answered.measured
    ratio = measured.cardiothoracic.ratio if measured is not None and measured.cardiothoracic is not None else None
    return Row(title, answered.source.read, answered.record, answered.problem, ratio, step)


def _doubtful(finding: Mapping[str, Any]) -> bool:
    from training.model.confidence import LOW_CONFIDENCE

    return bool(finding["present"]) and float(finding["confidence"]) < LOW_CONFIDENCE


def _found_again(path: Path, folder: Path) -> Path:
    """The image of a record: where it was, or beside the results when everything was moved together."""
    for candidate in (path, folder / path, folder / path.name, folder.parent / path.name, folder.parent / path):
        if candidate.is_file():
            return candidate
    return path
