"""The gallery of a data set: thumbnails made and loaded as they come into sight, thousands of them as fluid as ten."""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from qtpy.compat import isalive
from qtpy.QtCore import QAbstractListModel, QModelIndex, QObject, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QImage, QPainter, QPalette
from qtpy.QtWidgets import QAbstractItemView, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem

from napari_chexanatomy.review_queue import ReviewQueue
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from training.dataset import Case, Thumbnails

logger = logging.getLogger(__name__)
PICTURE = 84
"""Room for a thumbnail [px]."""
TEXT = 32
"""Room for the two lines below it [px]."""
FRAME = 3
HELD = 2000
"""Thumbnails held in memory at most (16 kB each)."""
IDLE_PAUSE = 0.01
"""Seconds left to the window after each thumbnail that is made in advance."""
AT_A_TIME = 24
"""Thumbnails looked up in one go."""
COLOURS = {"accept": QColor("#3f9a4f"), "reject": QColor("#c8402f"), "flag": QColor("#d9a021")}

Index: TypeAlias = Any
"""QModelIndex or QPersistentModelIndex."""


class ThumbnailLoader(QObject):
    """A thread that reads thumbnails, the one asked for last first, and makes those that are not kept yet; in idle time, all."""

    loaded = Signal(str, object)
    """Case id and its QImage, into the GUI thread; a null image where the picture cannot be read."""

    def __init__(self, owner: QObject) -> None:
        """The thread starts when a data set is opened and ends with the owner."""
        super().__init__(owner)
        self._condition = threading.Condition()
        self._wanted: collections.OrderedDict[str, None] = collections.OrderedDict()
        self._rest: collections.deque[str] = collections.deque()
        self._queue: ReviewQueue | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def open(self, queue: ReviewQueue) -> None:
        """Go on with another data set."""
        with self._condition:
            self._wanted.clear()
            self._rest = collections.deque(case.id for case in queue.cases)
            self._queue = queue
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="chexanatomy-thumbnails", daemon=True)
            self._thread.start()

    def ask(self, case_id: str) -> list[str]:
        """Have this one next; returns those given up for it, which have been scrolled past."""
        given_up = []
        with self._condition:
            self._wanted[case_id] = None
            self._wanted.move_to_end(case_id)
            while len(self._wanted) > 4 * AT_A_TIME:
                given_up.append(self._wanted.popitem(last=False)[0])
            self._condition.notify()
        return given_up

    def close(self) -> None:
        """End the thread after the picture it is at."""
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _loop(self) -> None:
        from training.dataset import Thumbnails

        thumbnails, current = None, None
        while True:
            with self._condition:
                while not self._wanted and not self._rest and not self._closed:
                    self._condition.wait(0.5)
                    if not isalive(self):
                        return
                if self._closed:
                    return
                wanted = [self._wanted.popitem()[0] for _ in range(min(AT_A_TIME, len(self._wanted)))]
                queue, idle = self._queue, not wanted
                if idle:
                    wanted = [self._rest.popleft() for _ in range(min(AT_A_TIME, len(self._rest)))]
            if queue is None:
                continue
            if queue is not current:
                thumbnails, current = Thumbnails(queue.dataset), queue
            assert thumbnails is not None
            self._make(thumbnails, queue, wanted, idle)

    def _make(self, thumbnails: Thumbnails, queue: ReviewQueue, wanted: list[str], idle: bool) -> None:
        """Read or make thumbnails; in idle time they are only made, and put off when one is asked for."""
        cases = [queue.dataset.case(case_id) for case_id in wanted]
        kept = thumbnails.stored(cases)
        for number, case in enumerate(cases):
            if self._closed or not isalive(self) or queue is not self._queue:
                return
            if idle and self._wanted:
                self._rest.extendleft(c.id for c in reversed(cases[number:]))
                return
            if idle and case.id in kept:
                continue
            try:
                picture = kept[case.id] if case.id in kept else thumbnails.get(case)
            except (ChexanatomyError, OSError) as error:
                logger.info("No thumbnail of %s: %s", case.id, error)
                picture = b""
            if idle:
                time.sleep(IDLE_PAUSE)
                continue
            with contextlib.suppress(RuntimeError):  # the window closed meanwhile
                self.loaded.emit(case.id, QImage.fromData(picture))


class CaseModel(QAbstractListModel):
    """The shown cases of a queue as rows; pictures are asked for when a row is painted."""

    def __init__(self, owner: QObject) -> None:
        """Empty until `show`."""
        super().__init__(owner)
        self.queue: ReviewQueue | None = None
        self._cases: list[Case] = []
        self._pictures: collections.OrderedDict[str, QImage] = collections.OrderedDict()
        self._asked: set[str] = set()
        self.loader = ThumbnailLoader(self)
        self.loader.loaded.connect(self._take)

    def show(self, queue: ReviewQueue) -> None:
        """Show what the queue shows now."""
        self.beginResetModel()
        if queue is not self.queue:
            self._pictures.clear()
            self._asked.clear()
            self.loader.open(queue)
        self.queue, self._cases = queue, list(queue.cases)
        self.endResetModel()

    def refresh(self) -> None:
        """Paint decisions anew."""
        if self._cases:
            self.dataChanged.emit(self.index(0), self.index(len(self._cases) - 1), [Qt.ItemDataRole.ToolTipRole])

    def case(self, index: Index) -> Case:
        """The case of a row."""
        return self._cases[index.row()]

    def picture(self, case_id: str) -> QImage | None:
        """The thumbnail, None while it is on its way."""
        if case_id in self._pictures:
            self._pictures.move_to_end(case_id)
            return self._pictures[case_id]
        self._asked.add(case_id)
        self._asked.difference_update(self.loader.ask(case_id))
        return None

    def _take(self, case_id: str, picture: QImage) -> None:
        self._asked.discard(case_id)
        self._pictures[case_id] = picture
        while len(self._pictures) > HELD:
            self._pictures.popitem(last=False)
        place = self.queue.place(case_id) if self.queue is not None else None
        if place is not None:
            self.dataChanged.emit(self.index(place), self.index(place), [Qt.ItemDataRole.DecorationRole])

    @property
    def waiting(self) -> bool:
        """Whether a picture that was asked for is still on its way."""
        return bool(self._asked)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: N802, B008 - Qt's names and signature
        """Number of cases shown."""
        return 0 if parent.isValid() else len(self._cases)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Id for reading aloud and searching, and a tooltip; the delegate paints from the queue itself."""
        if not index.isValid() or self.queue is None or index.row() >= len(self._cases):
            return None
        case = self._cases[index.row()]
        if role == Qt.ItemDataRole.DisplayRole:
            return case.id
        if role == Qt.ItemDataRole.ToolTipRole:
            worst = self.queue.judged.of(case.id)[:3] if self.queue.judged else []
            found = "\n".join(f"{s.structure}: {' '.join(s.reasons)}" for s in worst if s.reasons)
            return f"{case.id}, {case.view}\n{found or 'Nothing suspicious found.'}"
        return None


class CaseDelegate(QStyledItemDelegate):
    """Paints a case: thumbnail framed in the colour of the decision, its number, view, score, and decisions on single masks."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:  # noqa: N802 - Qt's name
        """The same for all."""
        return QSize(PICTURE + 2 * FRAME + 4, PICTURE + TEXT + 2 * FRAME + 4)

    def paint(self, painter: QPainter | None, option: QStyleOptionViewItem, index: Index) -> None:
        """Paint one row."""
        model = index.model()
        if painter is None or not isinstance(model, CaseModel) or model.queue is None:
            return
        queue, case = model.queue, model.case(index)
        painter.save()
        area = option.rect.adjusted(2, 2, -2, -2)
        selected = bool(option.state & QStyle.StateFlag.State_Selected)
        if selected:
            painter.fillRect(area, option.palette.color(QPalette.ColorRole.Highlight))
        frame = QRect(area.left(), area.top(), area.width(), PICTURE + 2 * FRAME)
        inner = frame.adjusted(FRAME, FRAME, -FRAME, -FRAME)
        verdict = queue.verdict(case.id, queue.filter.structure)
        if verdict:
            painter.fillRect(frame, COLOURS[verdict])
        painter.fillRect(inner, Qt.GlobalColor.black)
        picture = model.picture(case.id)
        if picture is not None and not picture.isNull():
            size = picture.size().scaled(inner.size(), Qt.AspectRatioMode.KeepAspectRatio)
            place = QRect(0, 0, size.width(), size.height())
            place.moveCenter(inner.center())
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(place, picture)
        elif picture is not None:
            painter.setPen(Qt.GlobalColor.white)
            painter.drawText(inner, Qt.AlignmentFlag.AlignCenter, "no picture")
        self._describe(
            painter, option, queue, case.id, case.view, QRect(area.left(), frame.bottom(), area.width(), TEXT), selected
        )
        painter.restore()

    @staticmethod
    def _describe(
        painter: QPainter, option: QStyleOptionViewItem, queue: ReviewQueue, case_id: str, view: str, area: QRect, selected: bool
    ) -> None:
        role = QPalette.ColorRole.HighlightedText if selected else QPalette.ColorRole.Text
        painter.setPen(option.palette.color(role))
        font = painter.font()
        font.setPointSizeF(max(6.5, font.pointSizeF() * 0.85))
        painter.setFont(font)
        upper, lower = (QRect(area.left() + 2, area.top() + i * TEXT // 2, area.width() - 4, TEXT // 2) for i in (0, 1))
        name = painter.fontMetrics().elidedText(case_id, Qt.TextElideMode.ElideLeft, upper.width())
        painter.drawText(upper, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, name)
        masks = queue.mask_verdicts(case_id)
        marks = " ".join(f"{sign}{masks[v]}" for v, sign in (("accept", "✓"), ("reject", "✗"), ("flag", "⚑")) if masks[v])
        score = queue.score(case_id)
        short = view.capitalize() if len(view) > 2 else view
        width = lower.width() - painter.fontMetrics().horizontalAdvance(f"{marks} ")
        said = (f"{short} {score:.1f}" if score > 0 else short, f"{score:.1f}" if score > 0 else "", "")
        left = next((text for text in said if painter.fontMetrics().horizontalAdvance(text) <= width), "")
        painter.drawText(lower, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, left)
        painter.drawText(lower, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, marks)


class Gallery(QListView):
    """Thumbnails in rows. Double-click or Enter opens a case; with several selected, a decision is about all of them."""

    opened = Signal(str)

    def __init__(self) -> None:
        """Empty until `show_queue`."""
        super().__init__()
        self.cases = CaseModel(self)
        self.setModel(self.cases)
        self.setItemDelegate(CaseDelegate(self))
        self.setFlow(QListView.Flow.LeftToRight)
        self.setWrapping(True)
        self.setUniformItemSizes(True)
        self.setResizeMode(QListView.ResizeMode.Adjust)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumHeight(170)
        self.setToolTip("")
        self.activated.connect(lambda index: self.opened.emit(self.cases.case(index).id))

    def show_queue(self, queue: ReviewQueue) -> None:
        """Show the queue's cases, keeping the selection where it still stands."""
        before = self.chosen
        self.cases.show(queue)
        for case_id in before[:1]:
            self.go_to(case_id)

    def go_to(self, case_id: str) -> None:
        """Select a case and bring it into sight, without opening it."""
        place = self.cases.queue.place(case_id) if self.cases.queue is not None else None
        if place is not None:
            index = self.cases.index(place)
            self.setCurrentIndex(index)
            self.scrollTo(index)

    @property
    def chosen(self) -> list[str]:
        """Ids of the selected cases, in their order."""
        return [self.cases.case(index).id for index in sorted(self.selectedIndexes(), key=lambda i: i.row())]

    def shut_down(self) -> None:
        """End the loading of thumbnails."""
        self.cases.loader.close()

    def keyboardSearch(self, search: str | None) -> None:  # noqa: N802 - Qt's name
        """Letters are the keys of the review, not a search for ids."""
