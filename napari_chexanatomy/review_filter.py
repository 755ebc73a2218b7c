"""The row of choices above the gallery: which cases are shown, and in which order."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QGridLayout, QLabel, QWidget

from napari_chexanatomy.review_queue import Filter, ReviewQueue
from napari_chexanatomy.structure_colours import display_name

DECIDED = {
    "": "any decision",
    "undecided": "not decided",
    "accept": "accepted",
    "reject": "rejected",
    "flag": "flagged",
    "repaired": "repaired",
    "disputed": "reviewers differ",
}
SORTING = {"suspicion": "most suspicious first", "id": "by name", "view": "by view", "decision": "by decision"}


class FilterBar(QWidget):
    """Structure, view, decision, least score and order; `changed` comes with the new Filter."""

    changed = Signal(object)

    def __init__(self) -> None:
        """Nothing to choose until `offer`."""
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(3)
        self.structure, self.view, self.decided, self.sorting = (QComboBox() for _ in range(4))
        self.structure.setToolTip("Show the cases with a mask of this structure, and decide about that mask alone.")
        self.view.setToolTip("Show the cases of this view.")
        self.decided.setToolTip("Show the cases on which you decided so.")
        self.sorting.setToolTip("The order of the gallery and of Next and Back.")
        for box in (self.structure, self.view, self.decided, self.sorting):
            box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            box.setMinimumContentsLength(9)
        self.score = QDoubleSpinBox()
        self.score.setRange(0, 50)
        self.score.setSingleStep(0.5)
        self.score.setDecimals(1)
        self.score.setPrefix("score ≥ ")
        self.score.setToolTip("Show the cases whose suspicion is at least this: the number below their thumbnails.")
        self.count = QLabel()
        self.count.setToolTip("How many cases are shown.")
        for place, widget in enumerate((self.structure, self.view, self.decided, self.sorting, self.score, self.count)):
            grid.addWidget(widget, place // 2, place % 2)
        for key, text in DECIDED.items():
            self.decided.addItem(text, key)
        for key, text in SORTING.items():
            self.sorting.addItem(text, key)
        for box in (self.structure, self.view, self.decided, self.sorting):
            box.currentIndexChanged.connect(lambda _: self.changed.emit(self.chosen))
        self.score.valueChanged.connect(lambda _: self.changed.emit(self.chosen))

    def offer(self, queue: ReviewQueue) -> None:
        """Offer the structures and views of a data set, nothing filtered out; `changed` does not come."""
        self.blockSignals(True)
        for box, first, values in (
            (self.structure, "all structures", [(s, display_name(s)) for s in queue.structures]),
            (self.view, "all views", [(v, v or "(not stated)") for v in queue.views if v or len(queue.views) > 1]),
        ):
            box.clear()
            box.addItem(first, "")
            for key, text in sorted(values, key=lambda pair: pair[1].casefold()):
                box.addItem(text, key)
        for box in (self.decided, self.sorting):
            box.setCurrentIndex(0)
        self.score.setValue(0)
        self.blockSignals(False)
        self.show_count(queue)

    def show_count(self, queue: ReviewQueue) -> None:
        """Say how many cases are shown."""
        self.count.setText(f"{len(queue.cases):,} of {len(queue.dataset.cases):,} cases")

    @property
    def chosen(self) -> Filter:
        """What is chosen."""
        return Filter(
            structure=self.structure.currentData() or "",
            view=self.view.currentData() or "",
            decided=self.decided.currentData() or "",
            score=self.score.value(),
            sorting=self.sorting.currentData() or "suspicion",
        )
