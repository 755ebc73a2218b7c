"""The Radiograph widget: turn the tube around a CT and see the radiograph and the shadow of every structure follow the hand."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QMenu,
    QPushButton,
    QSlider,
)

from napari_chexanatomy.desk import DeskWidget, LayerChooser, plainly
from napari_chexanatomy.exposure_controls import ExposureControls
from napari_chexanatomy.jobs import LatestWins, Outcome
from napari_chexanatomy.layers import core_of, is_ct, is_labels
from napari_chexanatomy.patient_mesh import PatientMesher
from napari_chexanatomy.picture import Order, Picture, PictureTaker, exposure_settings, fits, makeable
from napari_chexanatomy.picture_layers import PictureLayers
from napari_chexanatomy.pose_controls import PoseControls
from napari_chexanatomy.room import Room
from napari_chexanatomy.section import Section
from napari_chexanatomy.structure_list import StructureList
from napari_chexanatomy.unit_slider import UnitSlider
from training.drr import Geometry
from training.errors import ChexanatomyError, ImpossibleGeometry
from training.images.types import CT, LabelMap
from training.results import write_json, write_view

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

HAND_RESTS_MS = 120
"""A hand on the slider that rests so long gets the picture at full quality [ms]."""
TYPED_MS = 30
"""After a number was typed or a button pressed, the preview has so long before the full picture is taken [ms]."""
FIRST_TICKED = ("lung_left", "lung_right", "heart", "spine", "clavicula_left", "clavicula_right")
NO_CT = "No CT yet: open one with File > Open, or File > Open Sample > CheXanatomy"
FOREIGN_LABELS = "The label map belongs to another CT and is left out: choose the one that was opened with this CT."
PRESETS = {
    "PA": (0.0, "The usual standing chest radiograph: beam from the back, detector in front of the chest."),
    "AP": (180.0, "As taken in bed: beam from the front, detector behind the back."),
    "L lat": (90.0, "Left lateral: the left side at the detector."),
    "R lat": (-90.0, "Right lateral: the right side at the detector."),
    "RAO 45": (-45.0, "Right anterior oblique, 45°: the right front at the detector."),
    "LAO 45": (45.0, "Left anterior oblique, 45°: the left front at the detector."),
}


class RadiographWidget(DeskWidget):
    """Radiographs from a CT layer, with the shadows of its label map as one overlay."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self._taker = PictureTaker()
        self._queue = LatestWins(self)
        self._queue.delivered.connect(self._deliver)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.timeout.connect(self._order_full)
        self._shown = PictureLayers(self.viewer)
        self._room = Room(self.viewer)
        self._mesher = PatientMesher()
        self._meshes = LatestWins(self)
        self._meshes.delivered.connect(self._draw_patient)
        self.viewer.dims.events.ndisplay.connect(self._follow_display)
        self._started = False
        self._stands = True
        self.picture: Picture | None = None
        self._build()
        self._ct_changed()
        self._labels_changed()

    # Building -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.body.setSpacing(4)
        self.ct_chooser = LayerChooser(self.viewer, is_ct, "no CT open")
        self.ct_chooser.setToolTip("The CT that is radiographed.")
        self.labels_chooser = LayerChooser(self.viewer, is_labels, "no label map open", optional="no label map")
        self.labels_chooser.setToolTip("The label map whose structures are projected onto the detector.")
        self.ct_chooser.chosen_changed.connect(self._ct_changed)
        self.labels_chooser.chosen_changed.connect(self._labels_changed)
        form = QFormLayout()
        form.setVerticalSpacing(3)
        form.addRow("CT", self.ct_chooser)
        form.addRow("Labels", self.labels_chooser)
        self.body.addLayout(form)

        presets = QHBoxLayout()
        presets.setSpacing(3)
        self.preset_buttons: dict[str, QPushButton] = {}
        for name, (angle, tip) in PRESETS.items():
            button = QPushButton(name)
            button.setToolTip(f"{tip} Takes the radiograph.")
            button.setMinimumWidth(30)
            button.clicked.connect(functools.partial(self._preset, angle))
            presets.addWidget(button)
            self.preset_buttons[name] = button
        self.body.addLayout(presets)

        self.body.addLayout(self._view_row())
        self.pose = PoseControls()
        self.exposure = ExposureControls()
        for controls in (self.pose, self.exposure):
            controls.moved.connect(self._order_preview)
            controls.released.connect(self._order_full)
            self.body.addWidget(controls)
        self.body.addWidget(self._structure_section(), 1)
        self.body.addLayout(self._keeping_row())

    def _view_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setSpacing(0)
        self.flat_button, self.room_button = QPushButton("Radiograph"), QPushButton("Room in 3D")
        self.flat_button.setToolTip("Show the radiograph.")
        self.room_button.setToolTip("Show tube, beam and detector around the patient, with the radiograph on the detector.")
        views = QButtonGroup(self)
        for button in (self.flat_button, self.room_button):
            button.setCheckable(True)
            views.addButton(button)
            row.addWidget(button)
        self.flat_button.setChecked(True)
        self.flat_button.clicked.connect(lambda: self.show_room(False))
        self.room_button.clicked.connect(lambda: self.show_room(True))
        return row

    def _structure_section(self) -> Section:
        section = Section("Structures on the detector", "Which structures of the label map fall onto the picture, and how.")
        self.structures = StructureList("to see its shadow on the detector")
        self.structures.changed.connect(self._order_full)
        self.structures.changed.connect(self._order_patient)
        self.structures.pointed.connect(lambda _: self._order_full())
        section.body.addWidget(self.structures, 1)
        look = QHBoxLayout()
        self.style = QComboBox()
        self.style.addItem("Filled", "fill")
        self.style.addItem("Outlines", "outline")
        self.style.setToolTip("Paint structures as areas or as outlines.")
        self.style.currentIndexChanged.connect(lambda _: self._order_full())
        self.opacity = QSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.opacity.setValue(100)
        self.opacity.setToolTip("Opacity of the structures over the radiograph.")
        self.opacity.valueChanged.connect(lambda percent: self._shown.set_opacity(percent / 100))
        look.addWidget(self.style)
        look.addWidget(self.opacity, 1)
        section.body.addLayout(look)
        return section

    def _keeping_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for text, tip, slot in (
            (
                "From the selected layer",
                "Put the sliders where the radiograph selected in the layer list was taken.",
                self.pose_from_layer,
            ),
            ("From a file …", "Put the sliders where a saved geometry.json says.", self._ask_load),
            ("Save to a file …", "Write where tube and detector stand into a geometry.json.", self._ask_save_pose),
        ):
            action = menu.addAction(text)
            action.setToolTip(tip)
            action.triggered.connect(lambda _=False, slot=slot: slot())
        keep, pose, save = QPushButton("Keep"), QPushButton("Pose"), QPushButton("Save …")
        pose.setToolTip("Take over where tube and detector stand from a radiograph or a file, or save it.")
        pose.setMenu(menu)
        keep.setToolTip("Keep this radiograph as it is; the sliders go on with a new one.")
        save.setToolTip("Write radiograph.png, geometry.json, exposure.json and one mask per ticked structure into a folder.")
        keep.clicked.connect(self.keep)
        save.clicked.connect(self._ask_save)
        for widget in (keep, pose, save):
            row.addWidget(widget, 1)
            self.disable_while_busy(widget)
        return row

    # What is chosen -------------------------------------------------------------------------------------------------

    @property
    def ct(self) -> CT | None:
        """The chosen CT."""
        return core_of(self.ct_chooser.chosen).ct

    @property
    def labels(self) -> LabelMap | None:
        """The chosen label map."""
        return core_of(self.labels_chooser.chosen).labels

    @property
    def layer(self) -> Layer | None:
        """The layer that shows the radiograph; None before the first one and after the user deleted it."""
        return self._shown.layer

    @property
    def settled(self) -> bool:
        """True when the picture shown is the full quality of what the controls ask for."""
        return self._queue.idle and not self._rest.isActive() and self.picture is not None and self.picture.order.full

    def _ct_changed(self) -> None:
        ct, labels = self.ct, self.labels
        if ct is not None and labels is not None and not fits(labels, ct):
            own = [layer for layer in self.viewer.layers if is_labels(layer) and fits(core_of(layer).labels, ct)]
            if own:
                self.labels_chooser.choose(own[-1])
        if not self._started:
            self.say(NO_CT if ct is None else "Press PA to take a radiograph, then move the sliders.")
        self._order_preview()
        self._order_patient()

    def _labels_changed(self) -> None:
        before = self.structures.structures()
        self.structures.set_structures(makeable(self.labels))
        if not before and not self.structures.checked():
            self.structures.set_checked(FIRST_TICKED)
        elif self._started:
            self._order_full()
        self._order_patient()

    # Taking pictures ------------------------------------------------------------------------------------------------

    @plainly
    def _preset(self, primary: float, *_: Any) -> None:
        self.take(primary)

    @plainly
    def take(self, primary: float) -> None:
        """Turn to a preset and take a radiograph; it appears as a layer."""
        if self.ct is None:
            raise ChexanatomyError(NO_CT + ".")
        self._started = True
        self.pose.turn_to(primary)

    def _order_preview(self) -> None:
        if self._started:
            self._rest.start(HAND_RESTS_MS if self._held else TYPED_MS)
            self._order(full=False)

    def _order_full(self) -> None:
        self._rest.stop()
        if self._started:
            self._order(full=True)

    @property
    def _held(self) -> UnitSlider | None:
        """The slider that the hand is on."""
        return self.pose.held or self.exposure.held

    def _thaw(self) -> None:
        if self._held is not None:
            self._held.thaw()

    def _order(self, full: bool) -> None:
        ct, labels = self.ct, self.labels
        if ct is None:
            self.say(NO_CT)
            return
        geometry = None
        try:
            geometry = self.pose.geometry_for(ct)
            geometry.check(ct)
        except ImpossibleGeometry as error:
            self._stands = False
            self._rest.stop()
            self._thaw()
            self.complain(str(error))
            if geometry is not None:
                self._room.show_pose(geometry, possible=False)
            return
        self._stands = True
        if labels is not None and not fits(labels, ct):
            labels = None
        ticked = tuple(self.structures.checked()) if labels is not None else ()
        order = Order(
            ct, labels, geometry, ticked, self.style.currentData(), None, full, self.exposure.physics, self.exposure.presentation
        )
        taker, queue = self._taker, self._queue
        queue.submit(lambda: taker.take(order, lambda: queue.outdated))

    def _deliver(self, outcome: Outcome) -> None:
        self._thaw()
        if outcome.cancelled or not self._started:
            return
        if outcome.error:
            self.complain(outcome.error)
            return
        self.picture = outcome.value
        self._show(outcome.value)

    def adopt(self, picture: Picture) -> None:
        """Show a picture that was taken elsewhere, with the sliders and ticks where it says; its CT is among the layers."""
        self._started = False
        self.pose.show_geometry(picture.order.geometry, picture.order.ct)
        self.structures.set_checked(picture.order.structures)
        self._started, self.picture = True, picture
        self._show(picture)

    def _show(self, picture: Picture) -> None:
        self._shown.show(picture)
        if not self._stands:
            return
        self._room.show_picture(picture)
        if picture.order.full:
            self._room.keep_in_view(picture.order.geometry)
        geometry = picture.order.geometry
        if self.labels is not None and picture.order.labels is None:
            self.complain(FOREIGN_LABELS)
        else:
            self.say(f"{geometry.view_name}: enlarged {geometry.sdd / geometry.sid:.2f} times at the isocentre.")
        if picture.exposure is not None and picture.order.full:
            self.exposure.show_reading(picture.exposure)

    # The room in 3D -------------------------------------------------------------------------------------------------

    @plainly
    def show_room(self, shown: bool = True) -> None:
        """Show tube, beam and detector around the patient in napari's 3D view, or go back to the radiograph."""
        if shown and not self._room.shown:
            if self.ct is None:
                self.flat_button.setChecked(True)
                raise ChexanatomyError(NO_CT + ".")
            try:
                geometry = self.pose.geometry_for(self.ct)
            except ImpossibleGeometry:
                self.flat_button.setChecked(True)
                raise
            self._room.enter(self.ct, geometry, self.picture)
            self._order_patient()
            if not self._started:
                self.take(self.pose.sliders["primary"].value())
        elif not shown:
            self._room.leave()
        (self.room_button if self._room.shown else self.flat_button).setChecked(True)

    def _follow_display(self, event: Any) -> None:
        """Napari's own 2D/3D button goes between radiograph and room as well."""
        if isalive(self) and self._started and self._room.shown != (event.value == 3):
            self.show_room(event.value == 3)

    def _order_patient(self) -> None:
        ct, labels, mesher = self.ct, self.labels, self._mesher
        if self._room.shown and ct is not None:
            labels = labels if fits(labels, ct) else None
            ticked = tuple(self.structures.checked()) if labels is not None else ()
            self._meshes.submit(lambda: mesher.mesh(ct, labels, ticked))

    def _draw_patient(self, outcome: Outcome) -> None:
        if outcome.error:
            self.complain(outcome.error)
        else:
            self._room.show_patient(outcome.value)

    # Keeping and saving ---------------------------------------------------------------------------------------------

    @plainly
    def keep(self, *_: Any) -> None:
        """Leave the present radiograph in the viewer as it is; the sliders go on with a new layer."""
        if self.layer is None:
            raise ChexanatomyError("There is no radiograph to keep: press PA to take one.")
        self._shown.keep()
        self.say("Kept. The next move of a slider starts a new radiograph.")

    def _ask_save(self) -> None:
        folder = self.ask_folder("Folder for the radiograph, its geometry and masks")
        if folder is not None:
            self.save(folder)

    @plainly
    def save(self, folder: Path) -> None:
        """Write what is shown, at full quality, as `chexanatomy render` would."""
        picture = self.picture
        if picture is None or self.layer is None:
            raise ChexanatomyError("There is no radiograph to save: press PA to take one.")
        final = replace(picture.order, structures=tuple(self.structures.checked()), full=True)
        if final.labels is None:
            final = replace(final, structures=())

        self.start(
            "Saving", lambda _: write_picture(PictureTaker().take(final), folder), lambda where: self.say(f"Saved in {where}.")
        )

    def _ask_load(self) -> None:
        name = QFileDialog.getOpenFileName(self, "geometry.json", "", "Geometry (*.json)")[0]
        if name:
            self.load_pose(Path(name))

    @plainly
    def load_pose(self, path: Path) -> None:
        """Put the sliders where a geometry file says."""
        self._pose_from(Geometry.load(path))

    @plainly
    def pose_from_layer(self) -> None:
        """Put the sliders where the radiograph selected in the layer list was taken."""
        layer = self.viewer.layers.selection.active
        geometry = core_of(layer).geometry
        if geometry is None:
            name = f"“{layer.name}”" if layer is not None else "No layer is selected and it"
            raise ChexanatomyError(f"{name} carries no geometry: select a radiograph that was taken here.")
        self._pose_from(geometry)

    def _pose_from(self, geometry: Geometry) -> None:
        self._started = self._started or self.ct is not None
        self.pose.show_geometry(geometry, self.ct)

    def _ask_save_pose(self) -> None:
        name = QFileDialog.getSaveFileName(self, "Save where tube and detector stand", "geometry.json", "Geometry (*.json)")[0]
        if name:
            self.save_pose(Path(name))

    @plainly
    def save_pose(self, path: Path) -> None:
        """Write where the sliders stand as a geometry JSON file."""
        if self.ct is None:
            raise ChexanatomyError(NO_CT + ".")
        write_json(path, self.pose.geometry_for(self.ct).to_dict())
        self.say(f"Saved in {path}.")

    def shut_down(self) -> None:
        """End the preview thread with the widget."""
        super().shut_down()
        self._rest.stop()
        self._queue.close()
        self._meshes.close()
        self._room.leave()


def write_picture(picture: Picture, folder: Path) -> Path:
    """Write what `chexanatomy render` writes, and exposure.json with beam, dose and look; returns the folder."""
    write_view(folder, picture.radiograph, picture.order.geometry, picture.masks)
    write_json(folder / "exposure.json", exposure_settings(picture.order))
    return folder
