import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from training.drr import Geometry, label_thickness, line_integrals, project_labels
from training.drr.integrals import path_per_slice
from training.drr.labels import BESIDE_SPINE
from training.drr.traversal import VoxelPose
from training.errors import ImpossibleGeometry, UnknownStructure
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
    beside_spine = ndimage.maximum_filter1d(masks["spine"], 1 + 2 * round(BESIDE_SPINE / geometry.spacing[1]), axis=1)
    behind_heart = masks["lung_left"] & masks["heart"] & ~beside_spine
    assert behind_heart.sum() > 50
    assert not (masks["lung_outline_left"] & masks["spine"]).any()
    inner = masks["lung_left"] & beside_spine
    assert (masks["lung_outline_left"] & inner).sum() < 0.1 * inner.sum()
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


def walk_every_ray(labels, geometry):
    """Slices that every ray meets of every id: {id: int [row, column]}, and which rays graze no voxel's face."""
    spacing, shape = np.asarray(labels.spacing), labels.ids.shape[::-1]
    axis = int(np.argmax(np.abs(geometry.beam / spacing)))
    first, row_step, column_step = geometry.pixel_frame()
    rows, columns = np.mgrid[: geometry.rows, : geometry.columns]
    direction = first + rows[..., None] * row_step + columns[..., None] * column_step - geometry.source
    slices = np.arange(shape[axis])
    with np.errstate(divide="ignore"):
        reach = (slices * spacing[axis] - geometry.source[axis]) / direction[..., axis, None]
    at = (geometry.source + reach[..., None] * direction[..., None, :]) / spacing
    at[..., axis] = slices
    clear = (np.abs((at - 0.5) - np.round(at - 0.5)) > 1e-7)[..., [a for a in range(3) if a != axis]].all(axis=(2, 3))
    index = np.floor(at + 0.5).astype(int)
    met = (reach > 0) & ((index >= 0) & (index < shape)).all(axis=3)
    x, y, z = np.moveaxis(np.clip(index, 0, np.array(shape) - 1), 3, 0)
    found = np.where(met, labels.ids[z, y, x], 0)
    return {i: (found == i).sum(axis=2) for i in labels.members}, clear


def scattered_labels(seed):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 4, rng.integers(8, 24, 3)).astype(np.uint8)
    ids[rng.random(ids.shape) < 0.7] = 0
    ids = np.repeat(ids, rng.integers(1, 5), axis=int(rng.integers(0, 3)))
    return LabelMap(ids, {i: (f"thing {i}",) for i in (1, 2, 3)}, tuple(rng.uniform(2, 5, 3)), (0.0, 0.0, 0.0))


PRESETS = [(0.0, 0.0, 0.0), (180.0, 0.0, 0.0), (90.0, 0.0, 0.0), (-90.0, 0.0, 90.0), (0.0, 90.0, 0.0)]


@settings(max_examples=400, deadline=None)
@given(
    st.integers(0, 2**31),
    st.one_of(st.sampled_from(PRESETS), st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))),
    st.sampled_from([(1600.0, 1800.0, 3.0), (180.0, 300.0, 3.0), (130.0, 190.0, 9.0)]),
)
def test_masks_and_thickness_equal_a_voxel_walk_along_every_ray(seed, angles, distances):
    labels = scattered_labels(seed)
    primary, secondary, roll = angles
    sid, sdd, pitch = distances
    geometry = Geometry.view(
        labels, primary, secondary, roll=roll, sid=sid, sdd=sdd, rows=40, columns=70, spacing=(pitch, 0.9 * pitch)
    )
    try:
        geometry.check(labels)
    except ImpossibleGeometry:
        assume(False)
    slices, clear = walk_every_ray(labels, geometry)
    masks = project_labels(labels, geometry)
    thickness = label_thickness(labels, geometry, list(masks))
    step = path_per_slice(geometry, VoxelPose.of(geometry, labels))
    assert clear.mean() > 0.9
    for i, count in slices.items():
        np.testing.assert_array_equal(masks[f"thing {i}"][clear], count[clear] > 0)
        np.testing.assert_allclose(thickness[f"thing {i}"][clear], (count * step)[clear], rtol=1e-5)


def test_rays_through_less_than_the_thinnest_do_not_count():
    labels = thorax_like()
    geometry = size(Geometry.pa, labels)
    liver = label_thickness(labels, geometry, ["liver"])["liver"]
    np.testing.assert_array_equal(project_labels(labels, geometry, ["liver"], thinnest=100.0)["liver"], liver >= 100.0)


def test_more_structures_than_bits_in_a_word_are_kept_apart():
    ids = np.zeros((4, 4, 150), np.uint8)
    ids[1, 1, 10:150] = np.arange(1, 141)
    labels = LabelMap(ids, {i: (f"thing {i}",) for i in range(1, 141)}, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    masks = project_labels(labels, Geometry.pa(labels, rows=400, columns=600))
    middles = [column(masks[f"thing {i}"]) for i in range(1, 141)]
    assert np.all(np.diff(middles) > 0)
