"""The room in napari's 3D view: the patient between tube and detector, the radiograph on the detector, the axes named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_chexanatomy.layers import KEY, VOLUME_AXES, Core
from napari_chexanatomy.machine_mesh import layer_affine, machine, size, texture, texture_places, tilted, world_from_machine
from napari_chexanatomy.patient_mesh import Mesh
from napari_chexanatomy.picture import Picture
from training.drr import Geometry
from training.images.types import CT

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

LARGEST_TEXTURE = 512
"""Longer edge of the picture on the detector [pixels]."""
NAME_COLOUR = (0.95, 0.55, 0.10)
NAME_DISTANCE = 35.0
"""From the CT's faces to the letters [mm]."""
MARGIN = 0.9
"""Share of the canvas that tube, patient and detector fill at first."""
FIRST_LOOK = (-0.32, 0.36, -0.88)
"""Where the camera looks at first (z, y, x): from above the patient's left front, across the beam of a PA view."""
UPWARDS = (1.0, 0.0, 0.0)
PATIENT_ORIENTATION = ("away", "down", "right")
"""Of the axes (z, y, x). With napari's own, which takes (z, y, x) for right-handed, the patient would be seen in a mirror."""


class Room:
    """The layers of the 3D view. They are there while it is shown, and go with it."""

    def __init__(self, viewer: ViewerModel) -> None:
        """Nothing shown yet."""
        self._viewer = viewer
        self._layers: dict[str, Layer] = {}
        self._hidden: list[Layer] = []
        self._camera: dict[str, Any] = {}
        self._fitted: tuple[Any, ...] = ()
        self._axes = np.zeros((0, 3))
        self._shape: tuple[Any, ...] = ()
        self._rows = 0
        self.shown = False

    def enter(self, ct: CT, geometry: Geometry, picture: Picture | None) -> None:
        """Turn the viewer to 3D and put the machine around the CT."""
        viewer = self._viewer
        self.shown = True
        camera = viewer.scene.camera
        self._camera = {name: getattr(camera, name) for name in ("orientation", "angles", "center", "zoom")}
        self._hidden = [layer for layer in viewer.layers if layer.ndim == 2 and layer.visible]
        active = viewer.layers.selection.active
        for layer in self._hidden:
            layer.visible = False
        viewer.dims.ndisplay = 3  # before the layers come: in 2D napari cannot draw what is turned
        self._add(ct, geometry)
        viewer.layers.selection.active = active
        camera.orientation = PATIENT_ORIENTATION
        camera.set_view_direction(FIRST_LOOK, up_direction=UPWARDS)
        self._axes = patient_axes(ct)[0]
        self._fit(geometry)
        if picture is not None:
            self.show_picture(picture)

    def leave(self) -> None:
        """Take the layers of the room away and go back to the flat picture."""
        if not self.shown:
            return
        self.shown = False
        viewer = self._viewer
        there = [layer for layer in self._layers.values() if layer in viewer.layers]
        for layer in there:  # napari's own 2D button may have been pressed, and in 2D it cannot draw what is turned
            with layer.events.blocker_all():
                layer.affine = np.eye(4)
        for layer in there:
            viewer.layers.remove(layer)
        self._layers.clear()
        viewer.dims.ndisplay = 2
        for layer in self._hidden:
            if layer in viewer.layers:
                layer.visible = True
        self._hidden = []
        for name, value in self._camera.items():
            setattr(viewer.scene.camera, name, value)

    def show_pose(self, geometry: Geometry, possible: bool = True) -> None:
        """Move tube, rays and detector; they turn red where no radiograph can be taken."""
        layer = self._there("machine")
        if layer is None:
            return
        shape = (*size(geometry), possible)
        if shape != self._shape:
            self._shape = shape
            mesh = tilted(machine(size(geometry), possible))
            layer.data = (mesh.vertices, mesh.faces)
            layer.vertex_colors = mesh.colours
        _set(layer, "affine", layer_affine(world_from_machine(geometry)))

    def show_picture(self, picture: Picture) -> None:
        """Put a picture on the detector, where it was taken."""
        self.show_pose(picture.order.geometry)
        layer = self._there("machine")
        if layer is not None:
            shown = painted(picture)
            _set(layer, "texture", texture(shown))
            if self._rows != len(shown):
                self._rows = len(shown)
                _set(layer, "texcoords", texture_places(len(layer.vertices), self._rows))

    def show_patient(self, mesh: Mesh | None) -> None:
        """Draw the patient; None takes it away."""
        if not self.shown:
            return
        layer = self._layers.pop("patient", None)
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        if mesh is not None:
            active = self._viewer.layers.selection.active
            self._layers["patient"] = self._surface("patient", mesh)
            self._viewer.layers.selection.active = active

    def _there(self, name: str) -> Layer | None:
        layer = self._layers.get(name) if self.shown else None
        return layer if layer is not None and layer in self._viewer.layers else None

    def _add(self, ct: CT, geometry: Geometry) -> None:
        self._shape = (*size(geometry), True)
        mesh = tilted(machine(size(geometry)))
        grey = np.full((2, 2, 3), 0.3, np.float32)
        self._rows = len(grey)
        places = texture_places(len(mesh.vertices), self._rows)
        self._layers["machine"] = self._surface("X-ray tube and detector", mesh, texture=texture(grey), texcoords=places)
        self.show_pose(geometry)
        corners, letters = patient_axes(ct)
        self._layers["names"] = self._viewer.add_points(
            corners, name="patient axes", size=1, face_color="transparent", border_color="transparent",
            features={"letter": letters}, text={"string": "{letter}", "size": 16, "color": NAME_COLOUR}, **_place(),
        )  # fmt: skip

    def _surface(self, name: str, mesh: Mesh, **keywords: Any) -> Layer:
        data = (mesh.vertices, mesh.faces)
        return self._viewer.add_surface(
            data, vertex_colors=mesh.colours, name=name, shading="none", blending="translucent", **keywords, **_place()
        )

    def keep_in_view(self, geometry: Geometry) -> None:
        """Take the camera back far enough to see all, unless the user has moved it."""
        camera = self._viewer.scene.camera
        if self.shown and (camera.center, camera.zoom) == self._fitted:
            self._fit(geometry)

    def _fit(self, geometry: Geometry) -> None:
        camera, canvas = self._viewer.scene.camera, self._viewer.canvas
        frame = world_from_machine(geometry)
        points = np.concatenate([machine(size(geometry)).vertices @ frame[:3, :3].T + frame[:3, 3], self._axes])
        up, ahead = np.array(camera.up_direction), np.array(camera.view_direction)
        across = np.cross(up, ahead)
        low, high = ([function(points @ axis) for axis in (up, across, ahead)] for function in (np.min, np.max))
        camera.center = tuple(np.add(low, high) / 2 @ np.stack([up, across, ahead]))
        spans = np.subtract(high, low)
        camera.zoom = MARGIN * min(canvas.size[0] / spans[0], canvas.size[1] / spans[1])
        self._fitted = (camera.center, camera.zoom)


def patient_axes(ct: CT) -> tuple[np.ndarray, list[str]]:
    """Where the letters stand, float [6, 3] (z, y, x) [mm], and which: L, R, P, A, S (head), I (feet)."""
    middle, half = np.array(ct.centre), np.array(ct.size) / 2 + NAME_DISTANCE
    letters = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    return np.array([(middle + half * np.array(way))[::-1] for way in letters.values()]), list(letters)


def painted(picture: Picture) -> np.ndarray:
    """The radiograph with its structures over it, float32 [row, column, RGB] 0..1, at most LARGEST_TEXTURE pixels long."""
    step = -(-max(picture.radiograph.pixels.shape) // LARGEST_TEXTURE)
    grey = np.clip(picture.radiograph.pixels[::step, ::step], 0, 1)
    colours = np.repeat(grey[..., None], 3, axis=2)
    if picture.overlay is not None:
        over = picture.overlay[::step, ::step].astype(np.float32) / 255
        colours += over[..., 3:] * (over[..., :3] - colours)
    return colours


def _set(layer: Layer, name: str, value: Any) -> None:
    """Set one property and let only what draws it know: told of all, napari slices and compiles every surface again."""
    with layer.events.blocker_all():
        setattr(layer, name, value)
    with layer.events.blocker():
        getattr(layer.events, name)(value=value)


def _place() -> dict[str, Any]:
    return {"units": ("mm",) * 3, "axis_labels": VOLUME_AXES, "metadata": {KEY: Core(role="room")}}
