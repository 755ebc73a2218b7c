from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_chexanatomy.overlay import CompositeOverlay, compose, cut, edge, hazy, patches
from napari_chexanatomy.structure_colours import colour_of


def square(size: int, top: int, left: int, edge_length: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + edge_length, left : left + edge_length] = True
    return mask


def test_a_mask_is_cut_to_its_bounding_box_and_an_empty_one_is_left_out():
    patch = cut("heart", square(20, 3, 5, 4))
    assert patch is not None
    assert (patch.corner, patch.crop.shape, patch.pixels) == ((3, 5), (4, 4), 16)
    assert cut("heart", np.zeros((4, 4), bool)) is None
    assert [p.structure for p in patches({"a": square(9, 0, 0, 2), "b": square(9, 0, 0, 5), "c": np.zeros((9, 9), bool)})] == [
        "b",
        "a",
    ]


def test_nothing_is_painted_outside_the_masks():
    picture = compose((20, 20), patches({"heart": square(20, 5, 5, 6)}))
    assert picture.dtype == np.uint8
    assert not picture[~square(20, 5, 5, 6)].any()
    assert (picture[square(20, 5, 5, 6)][:, 3] > 0).all()


def test_outlines_leave_the_inside_free_and_carry_the_structure_s_colour():
    picture = compose((20, 20), patches({"heart": square(20, 5, 5, 6)}), "outline")
    assert picture[8, 8, 3] == 0
    assert tuple(picture[5, 5, :3]) == colour_of("heart")
    assert picture[5, 5, 3] == 255


def test_where_two_masks_overlap_both_colours_show():
    one, two = square(30, 2, 2, 15), square(30, 9, 9, 15)
    picture = compose((30, 30), patches({"heart": one, "liver": two})).astype(int)
    assert (picture[12, 12, :3] != picture[5, 5, :3]).any()
    assert (picture[12, 12, :3] != picture[20, 20, :3]).any()
    assert picture[12, 12, 3] > picture[5, 5, 3]


def test_the_highlighted_structure_is_edged_in_white():
    picture = compose((20, 20), patches({"heart": square(20, 5, 5, 6)}), "outline", "heart")
    assert tuple(picture[5, 5]) == (255, 255, 255, 255)
    assert picture[8, 8, 3] > 0


def test_probabilities_are_denser_the_surer_and_have_boxes_as_well():
    sure = np.zeros((20, 20), np.uint8)
    sure[5:11, 5:8], sure[5:11, 8:11] = 100, 250
    plain = hazy((20, 20), patches({"heart": sure}))
    assert plain[7, 9, 3] > plain[7, 6, 3] > 0
    boxed = hazy((20, 20), patches({"heart": sure}), boxes={"heart": (3, 3, 13, 13)})
    assert plain[3, 3, 3] == 0
    assert tuple(boxed[3, 3]) == (*colour_of("heart"), 255)


def test_the_edge_of_a_mask_is_inside_it_and_as_wide_as_asked():
    mask = square(20, 4, 4, 10)
    thin, thick = edge(mask, 1), edge(mask, 2)
    assert (thin & ~mask).sum() == 0
    assert thin.sum() == 36
    assert thick.sum() == 64
    assert edge(np.ones((5, 5), bool), 1).sum() == 16


def test_the_overlay_is_one_layer_that_comes_back_after_deletion():
    viewer = ViewerModel()
    base = viewer.add_image(np.zeros((10, 10)), scale=(2, 2))
    overlay = CompositeOverlay(viewer, "structures")
    picture = np.zeros((10, 10, 4), np.uint8)
    overlay.show(picture, base, {})
    overlay.show(picture, base, {})
    assert len(viewer.layers) == 2
    np.testing.assert_allclose(viewer.layers[1].scale, (2, 2))
    viewer.layers.pop(1)
    overlay.show(picture, base, {})
    assert len(viewer.layers) == 2
    overlay.remove()
    overlay.remove()
    assert len(viewer.layers) == 1
