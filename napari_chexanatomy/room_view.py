"""Radiograph or room: the two buttons, napari's own 2D/3D button, and the thread that makes the patient's mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari.utils.events import EventEmitter
from qtpy.compat import isalive
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QWidget

from napari_chexanatomy.jobs import LatestWins, Outcome
from napari_chexanatomy.patient_mesh import PatientMesher
from napari_chexanatomy.picture import Picture, fits
from napari_chexanatomy.room import Room
from training.drr import Geometry
from training.images.types import CT, LabelMap

if TYPE_CHECKING:
    from napari.components import ViewerModel


class RoomView(QWidget):
    """Two buttons, of which one is pressed. `wanted` says what the user asks for, `failed` why the patient cannot be drawn.

    following: napari's own 2D/3D button is heard as well.
    """

    wanted = Signal(bool)
    failed = Signal(str)

    def __init__(self, viewer: ViewerModel) -> None:
        """The radiograph is shown first."""
        super().__init__()
        self.room = Room(viewer)
        self.following = False
        self._mesher = PatientMesher()
        self._meshes = LatestWins(self)
        self._meshes.delivered.connect(self._draw_patient)
        self.flat_button, self.room_button = QPushButton("Radiograph"), QPushButton("Room in 3D")
        self.flat_button.setToolTip("Show the radiograph.")
        self.room_button.setToolTip("Show tube, beam and detector around the patient, with the radiograph on the detector.")
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        views = QButtonGroup(self)
        for button, shown in ((self.flat_button, False), (self.room_button, True)):
            button.setCheckable(True)
            views.addButton(button)
            row.addWidget(button)
            button.clicked.connect(lambda _=False, shown=shown: self.wanted.emit(shown))
        self.flat_button.setChecked(True)
        # An emitter of napari's own kind is heard before napari slices its layers: in 2D it cannot draw what is turned.
        self._display = EventEmitter(type_name="ndisplay")
        self._display.connect(self._follow_display)
        viewer.dims.events.ndisplay.connect(self._display, position="first")
        self._viewer = viewer

    @property
    def shown(self) -> bool:
        """True while the room is shown."""
        return self.room.shown

    def enter(self, ct: CT, geometry: Geometry, picture: Picture | None) -> None:
        """Show the room around a CT."""
        if not self.shown:
            self.room.enter(ct, geometry, picture)
        self.press()

    def leave(self) -> None:
        """Show the radiograph."""
        self.room.leave()
        self.press()

    def press(self) -> None:
        """Press the button of what is shown."""
        (self.room_button if self.shown else self.flat_button).setChecked(True)

    def order_patient(self, ct: CT | None, labels: LabelMap | None, structures: Sequence[str]) -> None:
        """Draw the patient with these structures as soon as the mesh is made."""
        if not self.shown or ct is None:
            return
        mesher, own = self._mesher, labels if fits(labels, ct) else None
        ticked = tuple(structures)
        self._meshes.submit(lambda: mesher.mesh(ct, own, ticked))

    def close_room(self) -> None:
        """End the thread and take the room away."""
        self._meshes.close()
        self._viewer.dims.events.ndisplay.disconnect(self._display)
        self.room.leave()

    def _follow_display(self, event: Any) -> None:
        # The viewer may outlive the widget.
        if isalive(self) and self.following and self.shown != (event.value == 3):
            self.wanted.emit(event.value == 3)

    def _draw_patient(self, outcome: Outcome) -> None:
        if outcome.error:
            self.failed.emit(outcome.error)
        else:
            self.room.show_patient(outcome.value)
