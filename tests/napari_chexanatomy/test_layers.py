from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_chexanatomy.layers import (
    core_of,
    drawn_mask,
    from_ct,
    from_labels,
    from_radiograph,
    is_ct,
    is_radiograph,
    place,
    radiograph_of,
)
from napari_chexanatomy.structure_colours import display_name
from training.errors import ChexanatomyError
from training.images.types import Radiograph


def test_a_ct_layer_lies_where_the_ct_lies(body, add):
    ct, _ = body
    layer = add(ViewerModel(), from_ct(ct))
    z, y, x = 3, 5, 7
    expected = [ct.origin[2] + z * ct.spacing[2], ct.origin[1] + y * ct.spacing[1], ct.origin[0] + x * ct.spacing[0]]
    np.testing.assert_allclose(layer.data_to_world((z, y, x)), expected)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    assert core_of(layer).ct is ct
    assert is_ct(layer)


def test_labels_share_the_ct_grid_and_name_what_is_under_the_pointer(body, add):
    ct, labels = body
    viewer = ViewerModel()
    ct_layer, layer = add(viewer, from_ct(ct)), add(viewer, from_labels(labels))
    np.testing.assert_allclose(layer.extent.world, ct_layer.extent.world)
    number = next(i for i, names in labels.members.items() if "lung_upper_lobe_left" in names)
    z, y, x = (int(np.median(v)) for v in np.nonzero(labels.ids == number))
    number = int(labels.ids[z, y, x])
    pointer = layer.data_to_world((z + 0.2, y + 0.2, x + 0.2))
    viewer.dims.set_point(0, pointer[0])  # the status is that of the slice which is shown
    status = layer.get_status(pointer, world=True)
    assert number > 0
    for name in labels.members[number]:
        assert display_name(name) in status["value"]


def test_units_survive_a_ct_and_its_radiograph_in_one_viewer(body, radiograph, add):
    viewer = ViewerModel()
    add(viewer, from_ct(body[0]))
    add(viewer, from_radiograph(radiograph))
    assert {str(unit) for unit in viewer.layers.extent.units} == {"millimeter"}


def test_a_radiograph_without_spacing_is_in_pixels(add):
    layer = add(ViewerModel(), from_radiograph(Radiograph(np.zeros((4, 6), np.float32))))
    assert [str(unit) for unit in layer.units] == ["pixel"] * 2


def test_the_radiograph_of_a_layer_is_the_one_it_was_made_from(radiograph, add):
    assert radiograph_of(add(ViewerModel(), from_radiograph(radiograph))) is radiograph


def test_a_layer_whose_pixels_were_replaced_is_read_anew(radiograph, add):
    layer = add(ViewerModel(), from_radiograph(radiograph))
    layer.data = radiograph.pixels[10:90, 20:100].copy()
    again = radiograph_of(layer)
    assert again.pixels.shape == (80, 80)
    assert again.spacing == radiograph.spacing


def test_a_picture_of_other_origin_becomes_grey_from_0_to_1():
    viewer = ViewerModel()
    colour = np.zeros((8, 9, 3), np.uint8)
    colour[2:5] = (255, 255, 255)
    found = radiograph_of(viewer.add_image(colour, rgb=True))
    assert found.pixels.dtype == np.float32
    assert found.pixels.shape == (8, 9)
    assert (found.pixels.min(), found.pixels.max()) == (0, 1)
    assert found.spacing is None
    deep = radiograph_of(viewer.add_image(np.arange(12, dtype=np.uint16).reshape(3, 4) * 1000))
    assert (deep.pixels.min(), deep.pixels.max()) == (0, 1)


@pytest.mark.parametrize("data", [np.zeros((3, 4, 5), np.float32), np.full((3, 4), np.nan, np.float32)])
def test_what_is_no_radiograph_is_refused_in_words(data):
    layer = ViewerModel().add_image(data, name="odd")
    with pytest.raises(ChexanatomyError, match="odd"):
        radiograph_of(layer)


def test_without_a_layer_the_error_says_how_to_get_one():
    with pytest.raises(ChexanatomyError, match="File > Open"):
        radiograph_of(None)


def test_an_overlay_is_not_offered_as_a_radiograph(radiograph):
    from napari_chexanatomy.overlay import CompositeOverlay

    viewer = ViewerModel()
    base = viewer.add_image(radiograph.pixels)
    overlay = CompositeOverlay(viewer, "structures")
    overlay.show(np.zeros((*radiograph.pixels.shape, 4), np.uint8), base, {})
    assert is_radiograph(base)
    assert not is_radiograph(overlay.layer)


def test_a_drawing_of_another_size_is_refused():
    layer = ViewerModel().add_labels(np.ones((4, 4), np.uint8), name="elsewhere")
    with pytest.raises(ChexanatomyError, match="elsewhere"):
        drawn_mask(layer, (5, 5))


def test_shapes_are_drawings_too():
    layer = ViewerModel().add_shapes([np.array([[1, 1], [1, 5], [5, 5], [5, 1]])], shape_type="rectangle")
    mask = drawn_mask(layer, (10, 10))
    assert mask[3, 3]
    assert not mask[8, 8]


def test_place_moves_a_layer_onto_another(radiograph, add):
    viewer = ViewerModel()
    base = add(viewer, from_radiograph(replace(radiograph)))
    base.translate = (5, 7)
    other = viewer.add_image(np.zeros((4, 4)))
    place(other, base)
    np.testing.assert_allclose(other.scale, base.scale)
    np.testing.assert_allclose(other.translate, (5, 7))
