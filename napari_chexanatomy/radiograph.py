"""The Radiograph widget: turn the tube around a CT and see the radiograph and the shadow of every structure follow the hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFormLayout

from napari_chexanatomy.desk import DeskWidget, LayerChooser, plainly
from napari_chexanatomy.exposure_controls import ExposureControls
from napari_chexanatomy.jobs import LatestWins, Outcome, interruptible
from napari_chexanatomy.keeping import KeepingRow, write_picture
from napari_chexanatomy.layers import Core, core_of, is_ct, is_labels
from napari_chexanatomy.picture import Order, Picture, PictureTaker, fits, makeable
from napari_chexanatomy.picture_layers import PictureLayers
from napari_chexanatomy.pointer import Clicks
from napari_chexanatomy.pose_controls import PoseControls, PresetRow
from napari_chexanatomy.preview import Previewer
from napari_chexanatomy.ray_list import RayList
from napari_chexanatomy.room_view import RoomView
from napari_chexanatomy.structure_section import StructureSection
from napari_chexanatomy.thickness import ray_at
from napari_chexanatomy.unit_slider import UnitSlider
from training.drr import Geometry
from training.errors import ChexanatomyError, ImpossibleGeometry
from training.images.types import CT, LabelMap
from training.results import write_json

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

HAND_RESTS_MS = 250
"""A hand on the slider that rests so long gets the picture at full quality [ms]."""
TYPED_MS = 60
"""After a number was typed or a button pressed, the preview has so long before the full picture is taken [ms]."""
FIRST_TICKED = ("lung_left", "lung_right", "heart", "spine", "clavicula_left", "clavicula_right")
NO_CT = "No CT yet: open one with File > Open, or File > Open Sample > CheXanatomy"
FOREIGN_LABELS = "The label map belongs to another CT and is left out: choose the one that was opened with this CT."


class RadiographWidget(DeskWidget):
    """Radiographs from a CT layer, with the shadows of its label map as one overlay."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self._taker = PictureTaker()
        self._previewer = Previewer(self)
        self._previewer.delivered.connect(self._deliver)
        self._queue = LatestWins(self)
        self._queue.delivered.connect(self._deliver)
        self._rest = QTimer(self, singleShot=True)
        self._rest.timeout.connect(self._order_full)
        self._shown = PictureLayers(self.viewer)
        self._started, self._stands, self._keep_asked = False, True, False
        self.picture: Picture | None = None
        self._wanted: Order | None = None
        self._probes, self._clicks = LatestWins(self), Clicks(self.viewer, lambda: self.layer, self.probe)
        self._probes.delivered.connect(self._show_ray)
        self._clicked: tuple[float, float] | None = None
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
        presets = PresetRow()
        presets.chosen.connect(self.take)
        self.preset_buttons = presets.buttons
        self.body.addWidget(presets)
        self.room_view = RoomView(self.viewer)
        self.room_view.wanted.connect(self.show_room)
        self.room_view.failed.connect(self.complain)
        self.body.addWidget(self.room_view)
        self.pose = PoseControls()
        self.exposure = ExposureControls()
        for controls in (self.pose, self.exposure):
            controls.moved.connect(self._order_preview)
            controls.released.connect(self._order_full)
            self.body.addWidget(controls)
        self.ray_list = RayList()
        self.body.addWidget(self.ray_list)
        self._painting = StructureSection()
        self._painting.changed.connect(self._structures_changed)
        self._painting.opacity_changed.connect(self._shown.set_opacity)
        self.structures = self._painting.list
        self.body.addWidget(self._painting, 1)
        self.body.addWidget(self._keeping_row())

    def _keeping_row(self) -> KeepingRow:
        row = KeepingRow()
        slots = {row.keep: self.keep, row.pose_from_layer: self.pose_from_layer, row.usual_pose: self.usual_pose}
        slots |= {row.save: self._ask_save, row.pose_from_file: self.load_pose, row.pose_to_file: self.save_pose}
        for signal, slot in slots.items():
            signal.connect(slot)
        self.disable_while_busy(row)
        return row

    # What is chosen -------------------------------------------------------------------------------------------------

    @property
    def ct(self) -> CT | None:
        """The chosen CT."""
        return core_of(self.ct_chooser.chosen).ct

    def _need_ct(self) -> CT:
        if self.ct is None:
            raise ChexanatomyError(NO_CT + ".")
        return self.ct

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
        picture = self.picture
        return picture is not None and picture.order.full and picture.order is self._wanted and not self._rest.isActive()

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

    def _structures_changed(self) -> None:
        self._order_full()
        self._order_patient()

    # Taking pictures ------------------------------------------------------------------------------------------------

    @plainly
    def take(self, primary: float) -> None:
        """Turn to a preset and take a radiograph; it appears as a layer."""
        self._need_ct()
        self._started = self.room_view.following = True
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
            self._stands = self._keep_asked = False
            self._rest.stop()
            self._thaw()
            self.complain(str(error))
            if geometry is not None:
                self.room_view.room.show_pose(geometry, possible=False)
                if self._held is None:
                    self.room_view.room.keep_in_view(geometry)
            return
        self._stands = True
        if labels is not None and not fits(labels, ct):
            labels = None
        ticked = tuple(self.structures.checked()) if labels is not None else ()
        look = self.exposure.physics, self.exposure.presentation
        order = Order(ct, labels, geometry, ticked, self._painting.style_of_masks, None, full, *look)
        self._wanted = order
        taker, previewer, queue = self._taker, self._previewer, self._queue
        if full:
            previewer.forget()
            queue.submit(lambda: taker.take(order, lambda: queue.outdated))
        elif not (queue.idle and previewer.post(order)):
            queue.submit(lambda: previewer.take(order))

    def _deliver(self, outcome: Outcome) -> None:
        self._thaw()
        picture = outcome.value
        # A preview that comes when the full picture is on its way would only delay it.
        late = picture is not None and self._wanted is not None and self._wanted.full > picture.order.full
        if outcome.cancelled or late or not self._started:
            return
        if outcome.error:
            self._keep_asked = False
            self.complain(outcome.error)
            return
        self.picture = picture
        self._show(picture)

    def adopt(self, picture: Picture) -> None:
        """Show a picture that was taken elsewhere, with the sliders and ticks where it says; its CT is among the layers."""
        self._started = False
        self.pose.show_geometry(picture.order.geometry, picture.order.ct)
        self.structures.set_checked(picture.order.structures)
        self._started = self.room_view.following = True
        self.picture, self._wanted = picture, picture.order
        self._show(picture)

    def _show(self, picture: Picture) -> None:
        self._shown.show(picture)
        if not self._stands:
            return
        geometry, room = picture.order.geometry, self.room_view.room
        room.show_picture(picture)
        if picture.order.full:
            room.keep_in_view(geometry)
            if self._clicked is not None:
                self._follow_ray(picture.order.ct, picture.order.labels, geometry, *self._clicked)
        if self.labels is not None and picture.order.labels is None:
            self.complain(FOREIGN_LABELS)
        else:
            self.say(f"{geometry.view_name}: enlarged {geometry.sdd / geometry.sid:.2f} times at the isocentre.")
        if picture.exposure is not None:
            self.exposure.show_reading(picture.exposure)
        if self._keep_asked and self.settled:
            self.keep()

    # The room in 3D -------------------------------------------------------------------------------------------------

    @plainly
    def show_room(self, shown: bool = True) -> None:
        """Show tube, beam and detector around the patient in napari's 3D view, or go back to the radiograph."""
        if not shown:
            self.room_view.leave()
            if self.picture is not None:
                self._shown.show(self.picture)
            return
        self.room_view.press()
        ct = self._need_ct()
        self.room_view.enter(ct, self.pose.geometry_for(ct), self.picture)
        self._order_patient()
        if not self._started:
            self.take(0.0)

    def _order_patient(self) -> None:
        self.room_view.order_patient(self.ct, self.labels, self.structures.checked())

    # Under the pointer ----------------------------------------------------------------------------------------------

    @plainly
    def probe(self, core: Core, row: float, column: float) -> None:
        """List the structures that the ray through a radiograph's pixel passes in its own CT, with their thickness."""
        ct, labels = core.sources()
        if ct is None or core.geometry is None:
            raise ChexanatomyError("The CT of this radiograph is not open: open it and take the radiograph again.")
        self.ray_list.unfold()
        self._follow_ray(ct, labels, core.geometry, row, column)

    def _follow_ray(self, ct: CT, labels: LabelMap | None, geometry: Geometry, row: float, column: float) -> None:
        self._clicked = (row, column)
        ticked = tuple(self.structures.checked())
        self._probes.submit(lambda: (ray_at(ct, labels, geometry, row, column, ticked), labels is not None))

    def _show_ray(self, outcome: Outcome) -> None:
        if outcome.error:
            self.complain(outcome.error)
        else:
            self.ray_list.show_ray(*outcome.value)

    # Keeping and saving ---------------------------------------------------------------------------------------------

    @plainly
    def keep(self, *_: Any) -> None:
        """Leave the present radiograph, at full quality, in the viewer as it is; the sliders go on with a new layer."""
        if self.layer is None:
            raise ChexanatomyError("There is no radiograph to keep: press PA to take one.")
        if not self.settled and not self._stands:
            raise ChexanatomyError("This is only a preview: move the tube to where a radiograph can be taken, then press Keep.")
        self._keep_asked = not self.settled
        if self._keep_asked:
            self._order_full()
            self.say("It is kept as soon as the full picture is there.")
            return
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

        take = PictureTaker().take
        self.start_saving(lambda progress: write_picture(interruptible(lambda: take(final), progress, "Saving"), folder))

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

    @plainly
    def usual_pose(self) -> None:
        """Put the sliders at a standing PA radiograph, the detector's resolution stays."""
        pixels = int(self.pose.pixels.currentData())
        self._pose_from(Geometry.pa(self._need_ct(), rows=pixels, columns=pixels))

    def _pose_from(self, geometry: Geometry) -> None:
        self._started = self.room_view.following = self._started or self.ct is not None
        self.pose.show_geometry(geometry, self.ct)

    @plainly
    def save_pose(self, path: Path) -> None:
        """Write where the sliders stand as a geometry JSON file."""
        write_json(path, self.pose.geometry_for(self._need_ct()).to_dict())
        self.say(f"Saved in {path}.")

    def warm_up(self) -> bool:
        """Get ready for a hand on the sliders; true once that is done."""
        self._previewer.start()
        return self._previewer.ready

    def enterEvent(self, event: Any) -> None:  # noqa: N802 - Qt's name
        """The pointer comes: a slider may be dragged soon."""
        super().enterEvent(event)
        if self.ct is not None:
            self.warm_up()

    def shut_down(self) -> None:
        """End the preview thread with the widget."""
        super().shut_down()
        self._rest.stop()
        self._queue.close()
        self._previewer.close()
        self._probes.close()
        self._clicks.close()
        self.room_view.close_room()
