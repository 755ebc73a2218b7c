"""A widget that has a labelling project open: what is in hand, drawn, saved of itself, undone, and put away cleanly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np
from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtGui import QHideEvent, QShowEvent

from napari_chexanatomy.desk import DeskWidget, LayerChooser, plainly
from napari_chexanatomy.drawing import Drawing
from napari_chexanatomy.labelling import Item, Project
from napari_chexanatomy.layers import drawn_mask
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QCheckBox

    from napari_chexanatomy.image_list import ImageList

AUTOSAVE_MS = 1000
"""How often a drawing is compared with what is on disk [ms]; a kill loses no more than this."""
NO_PROJECT = "Start a new project or open one first."
NO_IMAGE = "Select an image in the list first."
_desks: WeakSet[ProjectDesk] = WeakSet()


class ProjectDesk(DeskWidget):
    """Keeps the open project, the image in hand and its drawing; a subclass builds the controls named here."""

    images: ImageList
    layers: LayerChooser
    drawings: LayerChooser
    absent: QCheckBox

    def __init__(self, viewer: ViewerModel) -> None:
        """No project yet."""
        super().__init__(viewer)
        self.project: Project | None = None
        self.drawing: Drawing | None = None
        self._current: Item | None = None
        self._autosave = QTimer(self)
        self._autosave.setInterval(AUTOSAVE_MS)
        self._autosave.timeout.connect(self.flush)
        self._autosave.start()
        _desks.add(self)

    def _refresh(self) -> None:
        """Say again what is in the project, in every list."""
        raise NotImplementedError

    def _take_up(self, project: Project) -> None:
        """Have this project open from now on. Raises ChexanatomyError when it is open elsewhere."""
        if self.busy:
            raise ChexanatomyError("Something is still running here: wait for it or press Cancel.")
        for other in _desks:
            theirs = other.project if other is not self and isalive(other) else None
            if theirs is not None and theirs.folder.resolve() == project.folder.resolve():
                raise ChexanatomyError("This project is open in another window: draw on there, or close that window first.")
        self._save_first()
        self._forget_current()
        self.project = project

    def _need_project(self) -> Project:
        if self.project is None:
            raise ChexanatomyError(NO_PROJECT)
        return self.project

    def _keep(self, changed: Item) -> None:
        if self._current is not None and self._current.name == changed.name:
            self._current = changed

    def _need_item(self) -> Item:
        if self._current is None:
            raise ChexanatomyError(NO_IMAGE)
        return self._current

    # Drawing --------------------------------------------------------------------------------------------------------

    @plainly
    def _image_picked(self, name: str) -> None:
        item = self.project.item(name) if self.project is not None else None
        if item is None or (self._current is not None and item.name == self._current.name):
            return
        self._save_first()
        self._open_item(item)
        self.say("Draw the structure. It is saved as you draw; Ctrl+Z, or Undo, takes a stroke back.")

    def _open_item(self, item: Item) -> None:
        project = self._need_project()
        radiograph, mask, others = project.image(item), project.mask(item), project.others(item)
        self._forget_current()
        self._current = item
        self.drawing = Drawing(self.viewer, radiograph, project.structure, mask, others, self.undo)
        self.layers.refresh()
        self._show_absent()

    def _show_again(self) -> None:
        """The structure in hand is another one."""
        if self._current is not None and self.project is not None:
            item = self.project.item(self._current.name)
            if item is not None:
                self._open_item(item)
        self._refresh()

    def _show_absent(self) -> None:
        self.absent.blockSignals(True)
        self.absent.setChecked(self.project is not None and self._current is not None and self.project.absent(self._current))
        self.absent.blockSignals(False)

    def _forget_current(self) -> None:
        drawing, self.drawing, self._current = self.drawing, None, None
        if drawing is not None:
            drawing.close()

    def _need_drawing(self) -> Drawing:
        self._need_project()
        if self.drawing is None or not self.drawing.present:
            raise ChexanatomyError(NO_IMAGE)
        return self.drawing

    @plainly
    def draw_freely(self, *_: Any) -> None:
        """Take the brush."""
        self._need_drawing().draw_freely()
        self.say("Draw with the brush. It is saved as you draw.")

    @plainly
    def draw_outline(self, *_: Any) -> None:
        """Take the outline tool."""
        self._need_drawing().draw_outline()
        self.say("Draw around the structure with the mouse button held down. The inside counts as drawn.")

    @plainly
    def undo(self, *_: Any) -> None:
        """Take the last change back: a stroke, or else what was saved after the state before."""
        drawing, project = self._need_drawing(), self._need_project()
        self._save()
        if drawing.undo():
            self._save(undone=True)
            return
        mask = project.take_back(self._need_item())
        if mask is None or mask.shape != drawing.shape:
            raise ChexanatomyError("There is nothing to take back.")
        drawing.replace(mask)
        drawing.saved = mask
        self._after_drawing()
        self.say("This is what was saved before.")

    @plainly
    def take_over(self, *_: Any) -> None:
        """Use what is drawn in another layer."""
        drawing = self._need_drawing()
        layer = self.drawings.chosen
        if layer is None:
            raise ChexanatomyError("There is no other Labels or Shapes layer: draw in one, or open a mask, first.")
        mask = drawn_mask(layer, drawing.shape)
        self._save()
        drawing.replace(mask)
        self._save()
        self.say(f"“{layer.name}” is the drawing of this image now; that layer stays as it is.")

    @plainly
    def set_absent(self, absent: bool) -> None:
        """The structure is not in the image in hand, or it is."""
        if self.project is not None and self._current is not None and self.project.absent(self._current) != absent:
            self._current = self.project.set_absent(self._current, absent)
            self._after_drawing()

    @plainly
    def flush(self) -> None:
        """Put the drawing on disk when it differs from what is there."""
        self._save()

    def _save_first(self) -> None:
        """Save what is about to leave the screen. Where that fails all stays as it is; raises what `_save` raises."""
        try:
            self._save()
        except (ChexanatomyError, OSError):
            QTimer.singleShot(0, self._refresh)  # the lists show again what is in hand
            raise

    def _save(self, undone: bool = False) -> None:
        """The same as `flush`; undone: a stroke was taken back. Raises ChexanatomyError or OSError when it cannot be written."""
        drawing, item = self.drawing, self._current
        if self.project is None or item is None or drawing is None:
            return
        if not drawing.present:
            self._forget_current()
            self.images.setCurrentRow(-1)
            self.say("The drawing layer was closed; what you drew is saved. Select the image to go on.")
            return
        mask = drawing.mask
        if not np.array_equal(mask, drawing.saved):
            self.project.set_mask(item, mask, undone)
            drawing.saved = mask
            if mask.any() and self.project.absent(item):
                self._current = self.project.set_absent(item, False)
                self._show_absent()
            self._after_drawing()

    def _after_drawing(self) -> None:
        chosen = self.project.hold_one_out() if self.project is not None else None
        if chosen is not None:
            self.say(f"“{chosen.title}” is held out, to measure on: tick another one if you prefer.")
            self._keep(chosen)
        self._refresh()

    # A clean end ----------------------------------------------------------------------------------------------------

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Save again of itself, also after having been taken out of the window and put back."""
        self._autosave.start()
        super().showEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 - Qt's name
        """Save before the window closes."""
        self.flush()
        super().hideEvent(event)

    def shut_down(self) -> None:
        """Save, and put the drawing away with the widget: what is drawn later would not be saved any more.

        A drawing that cannot be saved stays in the layer list.
        """
        try:
            self._save()
        except (ChexanatomyError, OSError) as error:
            from napari.utils.notifications import show_error

            show_error(f"The drawing could not be put on disk ({error}): it stays in the layer list, save the layer from there.")
            drawing, self.drawing = self.drawing, None
            if drawing is not None:
                drawing.let_go()
        self._forget_current()
        self.images.setCurrentRow(-1)
        self._autosave.stop()
        super().shut_down()
        _desks.discard(self)
