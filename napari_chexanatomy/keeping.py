"""The row of buttons that keep a radiograph, save it, and carry a pose from one picture to another."""

from __future__ import annotations

from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QPushButton, QWidget

from napari_chexanatomy.picture import Picture, exposure_settings
from training.results import write_json, write_view

GEOMETRY_FILES = "Geometry (*.json)"


class KeepingRow(QWidget):
    """Keep, Pose and Save; the files are asked for here."""

    keep = Signal()
    save = Signal()
    pose_from_layer = Signal()
    pose_from_file = Signal(Path)
    usual_pose = Signal()
    pose_to_file = Signal(Path)

    def __init__(self) -> None:
        """Nothing is done before a click."""
        super().__init__()
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        for text, tip, slot in (
            ("From the selected layer", "Put the sliders where the selected radiograph was taken.", self.pose_from_layer.emit),
            ("From a file …", "Put the sliders where a saved geometry.json says.", self._ask_load),
            ("Back to the usual chest pose", "PA at 1800 mm on a detector of 430 mm, centred on the CT.", self.usual_pose.emit),
            ("Save to a file …", "Write where tube and detector stand into a geometry.json.", self._ask_save),
        ):
            action = menu.addAction(text)
            action.setToolTip(tip)
            action.triggered.connect(lambda _=False, slot=slot: slot())
        keep, pose, save = QPushButton("Keep"), QPushButton("Pose"), QPushButton("Save …")
        keep.setToolTip("Keep this radiograph as it is; the sliders go on with a new one.")
        pose.setToolTip("Take over where tube and detector stand from a radiograph or a file, or save it.")
        pose.setMenu(menu)
        save.setToolTip("Write radiograph.png, geometry.json, exposure.json and one mask per ticked structure into a folder.")
        keep.clicked.connect(lambda: self.keep.emit())
        save.clicked.connect(lambda: self.save.emit())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        for button in (keep, pose, save):
            row.addWidget(button, 1)

    def _ask_load(self) -> None:
        name = QFileDialog.getOpenFileName(self, "geometry.json", "", GEOMETRY_FILES)[0]
        if name:
            self.pose_from_file.emit(Path(name))

    def _ask_save(self) -> None:
        name = QFileDialog.getSaveFileName(self, "Save where tube and detector stand", "geometry.json", GEOMETRY_FILES)[0]
        if name:
            self.pose_to_file.emit(Path(name))


def write_picture(picture: Picture, folder: Path) -> Path:
    """Write what `chexanatomy render` writes, and exposure.json with beam, dose and look; returns the folder."""
    write_view(folder, picture.radiograph, picture.order.geometry, picture.masks)
    write_json(folder / "exposure.json", exposure_settings(picture.order))
    return folder
