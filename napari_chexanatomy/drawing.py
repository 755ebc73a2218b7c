"""The image in hand and what is drawn on it: brush, outlines, and the other structures of the project as outlines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_chexanatomy.layers import KEY, Core, drawn_mask, from_radiograph, label_colormap, look_at, plane_of
from napari_chexanatomy.overlay import CompositeOverlay, compose, patches
from napari_chexanatomy.structure_colours import colour_of, display_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.components import ViewerModel
    from napari.layers import Layer

    from training.images.types import Radiograph

ROLE = "drawing"
OTHERS = "other structures"
UNDO_KEY = "Control-Z"


class Drawing:
    """The layers of one image. `saved` is what is on disk, bool [row, column]."""

    def __init__(
        self,
        viewer: ViewerModel,
        radiograph: Radiograph,
        structure: str,
        mask: np.ndarray | None,
        others: Mapping[str, np.ndarray],
        undo: Callable[[Layer], None],
    ) -> None:
        """Put the image and the drawing into the viewer. others: drawings of other structures, shown but not touched.

        undo: what Ctrl+Z does in a layer of the drawing.
        """
        self._viewer = viewer
        self._undo = undo
        self._structure = structure or "structure"
        data, keywords, _ = from_radiograph(radiograph)
        self.image: Layer = viewer.add_image(data, **keywords)
        self.shape: tuple[int, int] = data.shape
        self._others = CompositeOverlay(viewer, OTHERS)
        if others:
            self._others.show(compose(self.shape, patches(others), "outline"), self.image, others)
        drawing = np.zeros(self.shape, np.uint8) if mask is None else mask.astype(np.uint8)
        self.brush: Layer = viewer.add_labels(
            drawing, name=f"draw {display_name(self._structure)}", colormap=label_colormap({1: self._structure}),
            opacity=0.5, metadata={KEY: Core(role=ROLE)}, **plane_of(self.image),
        )  # fmt: skip
        self.brush.brush_size = max(3, max(self.shape) // 60)
        self.brush.mode = "paint"
        self.brush.bind_key(UNDO_KEY, undo)
        self.outline: Layer | None = None
        self._outlined: np.ndarray | None = None
        self.saved = drawing > 0
        viewer.layers.selection.active = self.brush
        look_at(viewer, self.image)

    @property
    def present(self) -> bool:
        """True while image and brush layer are in the viewer."""
        return self.brush in self._viewer.layers and self.image in self._viewer.layers

    @property
    def mask(self) -> np.ndarray:
        """Everything drawn, bool [row, column]: the brush's and the outlines'. Raises ChexanatomyError for a replaced layer."""
        mask = drawn_mask(self.brush, self.shape)
        if self.outline is not None and self.outline in self._viewer.layers:
            if self._outlined is None:
                self._outlined = drawn_mask(self.outline, self.shape)
            mask = mask | self._outlined
        return mask

    def draw_outline(self) -> None:
        """Take the polygon tool in hand, in a Shapes layer of its own."""
        if self.outline is None or self.outline not in self._viewer.layers:
            colour = "#{:02x}{:02x}{:02x}".format(*colour_of(self._structure))
            self.outline = self._viewer.add_shapes(
                ndim=2, name=f"outline {display_name(self._structure)}", edge_color=colour, face_color=colour, opacity=0.5,
                metadata={KEY: Core(role=ROLE)}, **plane_of(self.image),
            )  # fmt: skip
            self.outline.bind_key(UNDO_KEY, self._undo)
            self.outline.events.set_data.connect(self._outline_changed)
        self.outline.mode = "add_polygon_lasso"
        self._viewer.layers.selection.active = self.outline

    def draw_freely(self) -> None:
        """Take the brush in hand."""
        self.brush.mode = "paint"
        self._viewer.layers.selection.active = self.brush

    def replace(self, mask: np.ndarray) -> None:
        """Show another drawing; what was there before is among the project's earlier states, not in napari's own undo."""
        self._drop_outline()
        self.brush.data = mask.astype(self.brush.data.dtype)
        self.brush._reset_history()

    def undo(self) -> bool:
        """Take the last stroke back; False where there is none, or where an outline may have come after it."""
        if self.outline is not None and self.outline in self._viewer.layers:
            return False
        before = self.brush.data.copy()
        self.brush.undo()
        return not np.array_equal(before, self.brush.data)

    def rename(self, structure: str) -> None:
        """Show the structure's name and colour."""
        self._structure = structure
        self.brush.name = f"draw {display_name(structure)}"
        self.brush.colormap = label_colormap({1: structure})

    def let_go(self) -> None:
        """Leave the layers to the user, with napari's own undo."""
        for layer in (self.outline, self.brush):
            if layer is not None:
                layer.bind_key(UNDO_KEY, None, overwrite=True)

    def close(self) -> None:
        """Take the layers out of the viewer."""
        self._others.remove()
        for layer in (self.outline, self.brush, self.image):
            if layer is not None and layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _drop_outline(self) -> None:
        if self.outline is not None and self.outline in self._viewer.layers:
            self._viewer.layers.remove(self.outline)
            self._viewer.layers.selection.active = self.brush
        self.outline = self._outlined = None

    def _outline_changed(self, _event: Any = None) -> None:
        self._outlined = None
