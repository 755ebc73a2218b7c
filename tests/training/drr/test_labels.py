import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.drr import Geometry, label_thickness, line_integrals, project_labels
from training.errors import UnknownStructure
from training.images.types import CT, LabelMap


def thorax_like():
    """Lungs, heart, liver and spine as boxes, 4 mm voxels; x to patient left, y to posterior, z up."""
    ids = np.zeros((60, 50, 70), np.uint8)
    ids[20:55, 10:40, 5:30] = 1
    ids[20:55, 10:40, 40:65] = 2
    ids[20:35, 12:28, 30:48] = 3
    ids[5:22, 8:42, 5:34] = 4
    ids[5:55, 38:48, 31:39] = 5
    members = {
        1: ("lung_upper_lobe_right",),
        2: ("lung_upper_lobe_left",),
        3: ("heart",),
        4: ("liver",),
        5: ("vertebrae_T5",),
        6: ("spleen",),
    }
    return LabelMap(ids, members, (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))


def size(geometry_of, labels, pixels=120):
    return geometry_of(labels, rows=pixels, columns=pixels)


def column(mask):
    return np.nonzero(mask)[1].mean()


def row(mask):
    return np.nonzero(mask)[0].mean()


@pytest.mark.parametrize("preset", [Geometry.pa, Geometry.ap])
def test_masks_fall_on_their_own_side_in_frontal_views(preset):
    masks = project_labels(thorax_like(), size(preset, thorax_like()))
    assert column(masks["lung_right"]) < column(masks["heart"]) < column(masks["lung_left"])
    assert row(masks["lung_right"]) < row(masks["liver"])


def test_composites_are_unions_of_their_parts():
    masks = project_labels(thorax_like(), size(Geometry.pa, thorax_like()))
    np.testing.assert_array_equal(masks["lungs"], masks["lung_upper_lobe_left"] | masks["lung_upper_lobe_right"])


def test_a_declared_structure_without_voxels_projects_to_nothing():
    assert not project_labels(thorax_like(), size(Geometry.pa, thorax_like()), ["spleen"])["spleen"].any()


def test_a_structure_the_map_cannot_make_is_an_error():
    with pytest.raises(UnknownStructure, match="colon"):
        project_labels(thorax_like(), size(Geometry.pa, thorax_like()), ["colon"])


def test_the_lung_field_leaves_out_the_heart_and_the_outline_keeps_the_lung_behind_it():
    geometry = size(Geometry.pa, thorax_like())
    masks = project_labels(thorax_like(), geometry)
    behind_heart = masks["lung_left"] & masks["heart"] & ~masks["spine"]
    assert behind_heart.sum() > 50
    assert not (masks["lung_field_left"] & masks["heart"]).any()
    assert (masks["lung_outline_left"] & behind_heart).sum() > 0.8 * behind_heart.sum()
    for drawn in ("lung_field_right", "lung_outline_right"):
        assert masks[drawn].any()
        assert (masks[drawn] & masks["liver"]).sum() < 0.02 * masks["liver"].sum()


def test_thickness_is_the_path_length_in_mm():
    labels = thorax_like()
    geometry = size(Geometry.pa, labels)
    ct = CT(np.zeros(labels.ids.shape, np.int16), labels.spacing, labels.origin)
    expected = line_integrals((labels.ids == 4).astype(np.float32), ct, geometry)
    seen = label_thickness(labels, geometry, ["liver"])["liver"]
    assert seen.max() == pytest.approx(34 * 4, rel=0.02)
    assert np.abs(seen - expected).mean() < 2.0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(0, 0), (180, 0), (90, 0), (-90, 0)]))
def test_masks_of_aligned_views_equal_a_voxel_walk_along_every_ray(seed, angles):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, rng.integers(8, 20, 3)).astype(np.uint8)
    ids[rng.random(ids.shape) < 0.7] = 0
    labels = LabelMap(ids, {i: (f"thing {i}",) for i in (1, 2, 3)}, tuple(rng.uniform(2, 5, 3)), (0.0, 0.0, 0.0))
    geometry = Geometry.view(labels, *angles, rows=40, columns=44, spacing=(3.0, 2.5))
    seen = project_labels(labels, geometry)
    first, row_step, column_step = geometry.pixel_frame()
    axis = int(np.argmax(np.abs(geometry.beam / np.asarray(labels.spacing))))
    expected = {name: np.zeros((40, 44), bool) for name in seen}
    for r in range(40):
        for c in range(44):
            direction = first + r * row_step + c * column_step - geometry.source
            for k in range(ids.shape[2 - axis]):
                t = (k * labels.spacing[axis] - geometry.source[axis]) / direction[axis]
                at = (geometry.source + t * direction) / np.asarray(labels.spacing)
                index = np.floor(at + 0.5).astype(int)[::-1]
                index[2 - axis] = k
                if t > 0 and (index >= 0).all() and (index < ids.shape).all() and ids[tuple(index)]:
                    expected[f"thing {ids[tuple(index)]}"][r, c] = True
    wrong = sum(int((seen[name] != expected[name]).sum()) for name in seen)
    assert wrong <= 2


def test_more_structures_than_bits_in_a_word_are_kept_apart():
    ids = np.zeros((4, 4, 150), np.uint8)
    ids[1, 1, 10:150] = np.arange(1, 141)
    labels = LabelMap(ids, {i: (f"thing {i}",) for i in range(1, 141)}, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    masks = project_labels(labels, Geometry.pa(labels, rows=400, columns=600))
    middles = [column(masks[f"thing {i}"]) for i in range(1, 141)]
    assert np.all(np.diff(middles) > 0)
