"""The Review widget: walk through a data set, most suspicious case first, and accept, reject or repair masks by keyboard."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtGui import QKeyEvent, QKeySequence
from qtpy.QtWidgets import QFileDialog

from napari_chexanatomy.desk import DeskWidget, plainly
from napari_chexanatomy.jobs import LatestWins, Outcome, attempt
from napari_chexanatomy.review_canvas import CaseCanvas, Shown
from napari_chexanatomy.review_judging import judged_anew
from napari_chexanatomy.review_panel import KEYS, VERDICTS, ReviewPanel
from napari_chexanatomy.review_queue import Filter, Opened, ReviewQueue, open_queue
from napari_chexanatomy.review_repair import RepairBrush
from napari_chexanatomy.structure_colours import display_name
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    import napari.viewer


class ReviewWidget(DeskWidget):
    """One case at a time on the canvas: radiograph, masks as one overlay, decisions on disk as they are made."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self.queue: ReviewQueue | None = None
        self.opened: Opened | None = None
        self._index = 0
        self._wanted: str | None = None
        self._moved = False
        self._brush = RepairBrush(self.viewer)
        self._select_then = ""
        self._canvas = CaseCanvas(self.viewer, self)
        self._canvas.failed.connect(self.complain)
        self._loader = LatestWins(self)
        self._loader.delivered.connect(self._take)
        self.panel = ReviewPanel()
        self.reviewer, self.comment = self.panel.reviewer, self.panel.comment
        self.masks, self.done_bar = self.panel.masks, self.panel.done_bar
        self.body.addWidget(self.panel)
        self._connect()
        self._bind(True)
        self.say("Open a data set to begin.")

    @property
    def settled(self) -> bool:
        """True when nothing is being loaded or painted."""
        return not self.busy and self._loader.idle and self._canvas.idle and self._wanted is None

    def _connect(self) -> None:
        panel = self.panel
        panel.open_button.clicked.connect(self._ask_open)
        panel.report_button.clicked.connect(self._ask_report)
        self.disable_while_busy(panel.open_button, panel.report_button)
        panel.reviewer.editingFinished.connect(self._reviewer_changed)
        panel.filter.changed.connect(self._filter)
        panel.gallery.opened.connect(self.go_to)
        panel.agreement.opened.connect(self.go_to)
        panel.tabs.currentChanged.connect(self._tab_changed)
        panel.masks.selected.connect(self._repaint)
        for box in (panel.style_box, panel.shown):
            box.currentIndexChanged.connect(lambda _: self._repaint())
        panel.repair_button.clicked.connect(self.repair)
        panel.save_button.clicked.connect(self.save_repair)
        panel.discard_button.clicked.connect(self.discard_repair)
        for name, button in panel.buttons.items():
            button.clicked.connect(functools.partial(self._pressed, name))
        for part in (panel.gallery, panel.masks, panel.agreement.table):
            part.installEventFilter(self)
        panel.comment.returnPressed.connect(panel.masks.setFocus)

    def _pressed(self, action: str, _: bool = False) -> None:
        self.act(action)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802 - Qt's name
        """The keys of the review, where a list has the keyboard; text fields keep their letters."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            action = KEYS.get(QKeySequence(event.keyCombination()).toString())
            if action is not None and self.queue is not None:
                self.act(action.name)
                return True
        return super().eventFilter(watched, event)

    def _bind(self, ours: bool) -> None:
        """Take the canvas's keys, or give them back: while a mask is repaired they belong to napari's brush."""
        for key, action in KEYS.items():
            taken = ours or (action.name == "save" and bool(self._brush.structure))
            self.viewer.bind_key(key.replace("+", "-"), _key_handler(self, action.name) if taken else None, overwrite=True)

    # Opening --------------------------------------------------------------------------------------------------------

    def _ask_open(self) -> None:
        folder = self.ask_folder("Data set folder (it holds cases.jsonl)")
        if folder is not None:
            self.open(folder)

    @plainly
    def open(self, folder: Path) -> None:
        """Open a data set and show its most suspicious case; a large one is judged while its first case is on screen."""
        name = self.panel.name
        self._leave_repair()
        self.start("Opening the data set", lambda progress: open_queue(folder, name, progress), self._show_queue)

    def _show_queue(self, queue: ReviewQueue) -> None:
        self._leave_repair()
        self.queue, self.opened, self._moved = queue, None, False
        self.panel.filter.offer(queue)
        self.panel.gallery.show_queue(queue)
        self._load(queue.first_undecided())
        QTimer.singleShot(0, functools.partial(self._judge, queue))  # when this job has ended

    def _judge(self, queue: ReviewQueue) -> None:
        """Measure and judge in a child process what has changed, then order the queue by it."""
        if self.busy or queue is not self.queue:
            return

        def show(judged: Any) -> None:
            if judged is None or queue is not self.queue:
                return
            queue.judge(judged)
            self.panel.filter.show_count(queue)
            self.panel.gallery.show_queue(queue)
            if self._moved and self.opened is not None and not self._brush.structure:
                self._index = queue.place(self.opened.case.id) or 0
                self._request(self.opened.case.id)
            elif not self._brush.structure:
                self._load(queue.first_undecided())
            self.say("The masks are checked: the most suspicious case comes first.")

        self.start("Looking for suspicious masks", functools.partial(judged_anew, queue), show, quiet=True)

    def _reviewer_changed(self) -> None:
        if self.queue is not None and self.queue.reviewer != self.panel.name:
            self.queue.change_reviewer(self.panel.name)
            self._filter(self.panel.filter.chosen)

    def _filter(self, chosen: Filter) -> None:
        queue = self.queue
        if queue is None:
            return
        queue.apply(chosen)
        self.panel.filter.show_count(queue)
        self.panel.gallery.show_queue(queue)
        self._refresh_lists()
        if not queue.cases:
            self.say("No case is like that: choose another filter.")
        elif self.opened is None or (queue.place(self.opened.case.id) is None and not self._brush.structure):
            self._load(queue.first_undecided())
        else:
            self._index = queue.place(self.opened.case.id) or 0
            if chosen.structure:
                self.panel.masks.select(chosen.structure)

    def _tab_changed(self, _: int) -> None:
        if self.queue is not None and self.panel.tabs.currentWidget() is self.panel.agreement:
            self.panel.agreement.show_queue(self.queue)

    # Walking --------------------------------------------------------------------------------------------------------

    @plainly
    def go_to(self, case_id: str, structure: str = "") -> None:
        """Open a case, with one of its masks selected."""
        if self.queue is None:
            return
        self._request(case_id)
        self._moved = True
        place = self.queue.place(case_id)
        self._index = self._index if place is None else place
        self._select_then = structure
        self.panel.tabs.setCurrentWidget(self.panel.case)

    def _load(self, index: int) -> None:
        """Load the case at a place of the queue."""
        cases = self._need_queue().cases
        if cases:
            place = index % len(cases)
            self._request(cases[place].id)
            self._index = place

    def _request(self, case_id: str) -> None:
        queue = self._need_queue()
        self._leave_repair()
        self._wanted = case_id
        self._loader.submit(lambda: (case_id, attempt(lambda: queue.load(case_id))))

    def _take(self, outcome: Outcome) -> None:
        """Show the case that was loaded, and have the next one read in advance."""
        queue = self.queue
        case_id, loaded = outcome.value
        if queue is None or case_id != self._wanted:
            return  # read in advance, or overtaken
        self._wanted = None
        if loaded.error:
            self.complain(loaded.error)
            return
        self._show_case(loaded.value)
        following = [queue.cases[(self._index + step) % len(queue.cases)].id for step in (1, -1)] if queue.cases else []
        self._loader.submit(lambda: ("", [attempt(functools.partial(queue.load, case_id)) for case_id in following]))

    def _show_case(self, opened: Opened) -> None:
        self.opened = opened
        self._canvas.show(opened)
        self.panel.gallery.go_to(opened.case.id)
        self.panel.masks.blockSignals(True)
        self._refresh_lists(anew=True)
        structure = self._select_then or (self.queue.filter.structure if self.queue else "")
        self._select_then = ""
        if not structure or not self.panel.masks.select(structure):
            self.panel.masks.select_worst()
        self.panel.masks.blockSignals(False)
        self._repaint()

    def _refresh_lists(self, anew: bool = False) -> None:
        queue, opened = self.queue, self.opened
        if queue is None:
            return
        self.panel.show_progress(queue)
        self.panel.gallery.cases.refresh()
        if opened is None:
            return
        self.panel.show_title(queue, opened)
        if anew:
            self.panel.masks.show_masks(opened, queue)
        else:
            self.panel.masks.show_decisions(opened, queue)

    def _repaint(self) -> None:
        opened, structure = self.opened, self.panel.masks.structure
        if opened is None:
            return
        if structure:
            reasons = opened.reasons.get(structure, ())
            self.say(f"{display_name(structure)}: " + (" ".join(reasons) or "nothing suspicious found."))
        else:
            self.say("No mask is selected: a decision is about the whole case.")
        shown: Shown = "none" if self._brush.structure else self.panel.shown.currentData()
        self._canvas.paint(opened, structure, shown, self.panel.style_box.currentData())

    # Deciding -------------------------------------------------------------------------------------------------------

    @plainly
    def act(self, action: str) -> None:
        """Do what a key or a button says."""
        queue = self.queue
        if queue is None or (self.opened is None and not queue.cases):
            raise ChexanatomyError("Open a data set first.")
        if action in VERDICTS:
            self._decide(queue, action, whole=False)
        elif action.removesuffix(" case") in VERDICTS:
            self._decide(queue, action.removesuffix(" case"), whole=True)
        elif action in ("next", "previous"):
            self._moved = True
            self._load(self._index + (1 if action == "next" else -1))
        elif action == "undo":
            self._undo(queue)
        elif action in ("repair", "save"):
            (self.repair if action == "repair" else self.save_repair)()
        else:
            self.panel.act(action)

    def _decide(self, queue: ReviewQueue, verdict: str, whole: bool) -> None:
        self._leave_repair()
        self._reviewer_changed()  # buttons leave the keyboard in the field, where typing has not ended
        many = self.panel.gallery.chosen if self.panel.tabs.currentWidget() is self.panel.overview else []
        ids = many or [self._need_case().case.id]
        structure = "" if whole else (queue.filter.structure if many else self.panel.masks.structure) or ""
        queue.decide(ids, structure, verdict, self.panel.comment.text().strip())  # type: ignore[arg-type]
        self.panel.comment.clear()
        self._moved = True
        self._refresh_lists()
        what = display_name(structure) if structure else "The whole case"
        if many:
            what = f"{display_name(structure)} of {len(many)} cases" if structure else f"{len(many)} whole cases"
            what = what if len(many) > 1 else what.replace("cases", "case")
        elif not structure or queue.filter.structure == structure:
            self._load(self._index + 1)
        elif not self.panel.masks.select_next_undecided():
            self.panel.masks.clearSelection()
        self.say(f"{what}: {VERDICTS[verdict]}. U takes it back.")

    def _undo(self, queue: ReviewQueue) -> None:
        self._leave_repair()
        self._reviewer_changed()
        case_id = queue.undo()
        if case_id is None:
            raise ChexanatomyError("There is nothing to take back.")
        self._index = queue.place(case_id) if queue.place(case_id) is not None else self._index  # type: ignore[assignment]
        self._refresh_lists()
        self._request(case_id)

    def _need_queue(self) -> ReviewQueue:
        if self.queue is None:
            raise ChexanatomyError("Open a data set first.")
        return self.queue

    def _need_case(self) -> Opened:
        """The case on screen. Raises ChexanatomyError while another is on its way: a key is not about the one that is left."""
        self._need_queue()
        if self.opened is None or self._wanted is not None:
            raise ChexanatomyError("The case is not in view yet.")
        return self.opened

    # Repairing ------------------------------------------------------------------------------------------------------

    @plainly
    def repair(self, *_: Any) -> None:
        """Put the selected mask into a Labels layer with the brush in hand."""
        opened = self._need_case()
        structure = self.panel.masks.structure
        if not structure:
            raise ChexanatomyError("Select the mask to repair in the list first.")
        layer = self._canvas.layer
        if layer is None:
            raise ChexanatomyError("The radiograph of this case was closed: go to the next case and back.")
        self._leave_repair()
        self._brush.begin(opened, structure, layer)
        self._bind(False)
        self.panel.show_repair(True)
        self._repaint()
        self.say("Paint, or erase with napari's tools, then save (S). Until then the other keys are the brush's.")

    @plainly
    def save_repair(self, *_: Any) -> None:
        """Store the repaired mask as a correction beside the original."""
        queue, (opened, structure, mask) = self._need_queue(), self._brush.drawn()
        self._reviewer_changed()
        self._moved = True
        self.opened = queue.correct(opened, structure, mask)
        self.discard_repair()
        self._refresh_lists()
        self._repaint()
        self.say(f"{display_name(structure)}: the correction is saved; the original is kept. U takes it back.")

    def _leave_repair(self) -> None:
        """Put an unused brush away. Raises ChexanatomyError while a drawing would go with it."""
        if self._brush.changed:
            raise ChexanatomyError("The repair is not saved: save it (S) or discard it first.")
        self.discard_repair()

    def discard_repair(self, *_: Any) -> None:
        """Put the brush away without saving."""
        if not self._brush.structure:
            return
        self._brush.put_away()
        self.panel.show_repair(False)
        self._bind(True)
        self._repaint()

    # Reporting ------------------------------------------------------------------------------------------------------

    @plainly
    def _ask_report(self, *_: Any) -> None:
        self._need_queue()
        name, _kind = QFileDialog.getSaveFileName(self, "Report", "review.html", "Report (*.html)")
        if name:
            self.report(Path(name))

    @plainly
    def report(self, path: Path) -> None:
        """Write the HTML report, and the table beside it as CSV."""
        from training.dataset.review_report import write_report

        work = functools.partial(write_report, self._need_queue().dataset.folder, path)

        def show(written: tuple[Path, Path]) -> None:
            self.say(" and ".join(p.name for p in written) + " are written.")

        self.start("Writing the report", work, show, writes=True)

    def shut_down(self) -> None:
        """End the threads and give the keys back."""
        super().shut_down()
        self._loader.close()
        self._canvas.close()
        self.panel.gallery.shut_down()
        self._brush.structure = ""
        self._bind(False)


def _key_handler(widget: ReviewWidget, action: str) -> Callable[[Any], None]:
    """A napari key handler that does nothing once the widget is gone."""
    held = weakref.ref(widget)

    def handler(viewer: Any) -> None:
        target = held()
        if target is not None and isalive(target) and target.queue is not None:
            target.act(action)

    return handler
