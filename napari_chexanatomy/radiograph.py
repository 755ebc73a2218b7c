"""The Radiograph widget: turn the tube around a CT and see the radiograph and the shadow of every structure follow the hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QGroupBox, QHBoxLayout, QPushButton, QSlider, QVBoxLayout

from napari_chexanatomy.desk import DeskWidget, LayerChooser, plainly
from napari_chexanatomy.jobs import LatestWins, Outcome
from napari_chexanatomy.layers import KEY, core_of, from_radiograph, is_ct, is_labels, look_at
from napari_chexanatomy.overlay import CompositeOverlay
from napari_chexanatomy.picture import Order, Picture, PictureTaker, makeable
from napari_chexanatomy.pose_controls import PoseControls
from napari_chexanatomy.structure_list import StructureList
from training.drr import Geometry
from training.errors import ChexanatomyError, ImpossibleGeometry
from training.images.types import CT, LabelMap
from training.progress import ProgressCallback, report

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Layer

SETTLE_MS = 200
"""How long the sliders must rest before the picture is taken at full quality [ms]."""
FIRST_TICKED = ("lung_left", "lung_right", "heart", "spine", "clavicula_left", "clavicula_right")
NO_CT = "No CT yet: open one with File > Open, or File > Open Sample > CheXanatomy"
PRESETS = {
    "PA": (0.0, "The usual standing chest radiograph: beam from the back, detector in front of the chest."),
    "AP": (180.0, "As taken in bed: beam from the front, detector behind the back."),
    "Left lateral": (90.0, "Left side at the detector."),
    "RAO 45": (-45.0, "Right anterior oblique, 45°."),
    "LAO 45": (45.0, "Left anterior oblique, 45°."),
}


class RadiographWidget(DeskWidget):
    """Radiographs from a CT layer, with the shadows of its label map as one overlay."""

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        """Napari passes the viewer."""
        super().__init__(viewer)
        self._taker = PictureTaker()
        self._queue = LatestWins(self)
        self._queue.delivered.connect(self._deliver)
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self._order_full)
        self._layer: Layer | None = None
        self._overlay = CompositeOverlay(self.viewer, "projected structures")
        self._started = False
        self.picture: Picture | None = None
        self._build()
        self._labels_changed()

    # Building -------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.ct_chooser = LayerChooser(self.viewer, is_ct, "no CT open")
        self.ct_chooser.setToolTip("The CT that is radiographed.")
        self.labels_chooser = LayerChooser(self.viewer, is_labels, "no label map open", optional="no label map")
        self.labels_chooser.setToolTip("The label map whose structures are projected onto the detector.")
        self.ct_chooser.chosen_changed.connect(self._order_preview)
        self.labels_chooser.chosen_changed.connect(self._labels_changed)
        form = QFormLayout()
        form.addRow("CT", self.ct_chooser)
        form.addRow("Labels", self.labels_chooser)
        self.body.addLayout(form)

        presets = QHBoxLayout()
        self.preset_buttons: dict[str, QPushButton] = {}
        for name, (angle, tip) in PRESETS.items():
            button = QPushButton(name)
            button.setToolTip(f"{tip} Takes the radiograph.")
            button.clicked.connect(lambda _=False, angle=angle: self.take(angle))
            presets.addWidget(button)
            self.preset_buttons[name] = button
        self.body.addLayout(presets)
        self.pose = PoseControls()
        self.pose.moved.connect(self._order_preview)
        self.body.addWidget(self.pose)

        box = QGroupBox("Structures on the detector")
        inside = QVBoxLayout(box)
        self.structures = StructureList("to see its shadow on the detector")
        self.structures.changed.connect(self._order_full)
        self.structures.pointed.connect(lambda _: self._order_full())
        inside.addWidget(self.structures)
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
        self.opacity.valueChanged.connect(self._set_opacity)
        look.addWidget(self.style)
        look.addWidget(self.opacity, 1)
        inside.addLayout(look)
        self.body.addWidget(box)

        row = QHBoxLayout()
        for text, tip, slot in (
            ("Keep", "Keep this radiograph as it is; the sliders go on with a new one.", self.keep),
            ("Save …", "Write radiograph.png, geometry.json and one mask per ticked structure into a folder.", self._ask_save),
            ("Load pose …", "Put the sliders where a saved geometry.json says.", self._ask_load),
        ):
            button = QPushButton(text)
            button.setToolTip(tip)
            button.clicked.connect(slot)
            row.addWidget(button)
            self.disable_while_busy(button)
        self.body.addLayout(row)
        self.say(NO_CT if self.ct is None else "Press PA to take a radiograph, then move the sliders.")

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
        return self._layer if self._layer is not None and self._layer in self.viewer.layers else None

    @property
    def settled(self) -> bool:
        """True when the picture shown is the full quality of what the controls ask for."""
        return self._queue.idle and not self._settle.isActive() and self.picture is not None and self.picture.order.full

    def _labels_changed(self) -> None:
        before = self.structures.structures()
        self.structures.set_structures(makeable(self.labels))
        if not before and not self.structures.checked():
            self.structures.set_checked(FIRST_TICKED)
        elif self._started:
            self._order_full()

    # Taking pictures ------------------------------------------------------------------------------------------------

    @plainly
    def take(self, primary: float) -> None:
        """Turn to a preset and take a radiograph; it appears as a layer."""
        if self.ct is None:
            raise ChexanatomyError(NO_CT + ".")
        self._started = True
        self.pose.turn_to(Geometry(primary=primary), self.ct)

    def _order_preview(self) -> None:
        if self._started:
            self._order(full=False)
            self._settle.start()

    def _order_full(self) -> None:
        self._settle.stop()
        if self._started:
            self._order(full=True)

    def _order(self, full: bool) -> None:
        ct, labels = self.ct, self.labels
        if ct is None:
            self.say(NO_CT)
            return
        try:
            if labels is not None and (labels.ids.shape != ct.hu.shape or labels.origin != ct.origin):
                labels = None
                self.complain("This label map belongs to another CT: choose the one that was opened with it.")
            geometry = self.pose.geometry_for(ct)
            geometry.check(ct)
        except ImpossibleGeometry as error:
            self.complain(str(error))
            return
        style = self.style.currentData()
        ticked = tuple(self.structures.checked()) if labels is not None else ()
        order = Order(ct, labels, geometry, ticked, style, None, full)
        taker = self._taker
        self._queue.submit(lambda: taker.take(order))

    def _deliver(self, outcome: Outcome) -> None:
        if outcome.error:
            self.complain(outcome.error)
            return
        picture: Picture = outcome.value
        if not self._started:
            return
        self.picture = picture
        self._show(picture)
        geometry = picture.order.geometry
        magnification = geometry.sdd / geometry.sid
        self.say(f"{geometry.view_name}: enlarged {magnification:.2f} times at the isocentre.")

    def adopt(self, picture: Picture) -> None:
        """Show a picture that was taken elsewhere, with the sliders and ticks where it says; its CT is among the layers."""
        self._started = False
        self.pose.show_geometry(picture.order.geometry, picture.order.ct)
        self.structures.set_checked(picture.order.structures)
        self._started, self.picture = True, picture
        self._show(picture)

    def _show(self, picture: Picture) -> None:
        data, keywords, _ = from_radiograph(picture.radiograph, picture.order.geometry, picture.masks)
        layer = self.layer
        if layer is None or layer.data.shape != data.shape:
            place = self.viewer.layers.index(layer) if layer is not None else None
            if layer is not None:
                self.viewer.layers.remove(layer)
            self._layer = self.viewer.add_image(data, **keywords)
            if place is not None:
                self.viewer.layers.move(self.viewer.layers.index(self._layer), place)
            self._first_look(self._layer)
        else:
            shown = core_of(layer).radiograph
            if shown is not None and layer.name == shown.name:  # the user has not renamed it
                layer.name = keywords["name"]
            layer.data = data
            if tuple(layer.scale) != keywords["scale"]:
                layer.scale = keywords["scale"]
            layer.metadata[KEY] = keywords["metadata"][KEY]
        if picture.overlay is None:
            self._overlay.remove()
        elif self._layer is not None:
            self._overlay.show(picture.overlay, self._layer, picture.masks)
            self._set_opacity(self.opacity.value())

    def _first_look(self, layer: Layer) -> None:
        for other in self.viewer.layers:
            if other.ndim == 3:
                other.visible = False
        look_at(self.viewer, layer)

    def _set_opacity(self, percent: int) -> None:
        if self._overlay.present and self._overlay.layer is not None:
            self._overlay.layer.opacity = percent / 100

    # Keeping and saving ---------------------------------------------------------------------------------------------

    @plainly
    def keep(self, *_: Any) -> None:
        """Leave the present radiograph in the viewer as it is; the sliders go on with a new layer."""
        if self.layer is None:
            raise ChexanatomyError("There is no radiograph to keep: press PA to take one.")
        self.layer.name = f"{self.layer.name} (kept)"
        if self._overlay.present and self._overlay.layer is not None:
            self._overlay.layer.name = f"structures of {self.layer.name}"
            self._overlay.layer.visible = False
        self._layer, self._overlay.layer = None, None
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
        order = picture.order
        final = Order(order.ct, order.labels, order.geometry, tuple(self.structures.checked()), order.style, None, True)

        def work(progress: ProgressCallback) -> Path:
            return write_picture(PictureTaker().take(final), folder, progress)

        self.start("Saving", work, lambda where: self.say(f"Saved in {where}."))

    def _ask_load(self) -> None:
        name = QFileDialog.getOpenFileName(self, "geometry.json", "", "Geometry (*.json)")[0]
        if name:
            self.load_pose(Path(name))

    @plainly
    def load_pose(self, path: Path) -> None:
        """Put the sliders where a geometry file says."""
        geometry = Geometry.load(path)
        self._started = self._started or self.ct is not None
        self.pose.show_geometry(geometry, self.ct)

    def shut_down(self) -> None:
        """End the preview thread with the widget."""
        super().shut_down()
        self._settle.stop()
        self._queue.close()


def write_picture(picture: Picture, folder: Path, progress: ProgressCallback | None = None) -> Path:
    """Write radiograph.png (16 bit), geometry.json and masks/<structure>.png; returns the folder."""
    from training.images import write_mask_png, write_radiograph_png

    folder.mkdir(parents=True, exist_ok=True)
    write_radiograph_png(picture.radiograph, folder / "radiograph.png")
    (folder / "geometry.json").write_text(json.dumps(picture.order.geometry.to_dict(), indent=1) + "\n", encoding="utf-8")
    for done, (structure, mask) in enumerate(picture.masks.items()):
        (folder / "masks").mkdir(exist_ok=True)
        report(progress, done, len(picture.masks), structure)
        write_mask_png(mask, folder / "masks" / f"{structure}.png")
    return folder
