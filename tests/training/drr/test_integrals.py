import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.drr import Geometry, line_integrals
from training.drr.integrals import ramp_integrals
from training.errors import ChexanatomyError, ImpossibleGeometry
from training.images.types import CT

POSES = [(0, 0, 0), (180, 0, 0), (90, 0, 0), (0, 0, 90), (20, 10, 5), (-110, -15, 30), (5, 75, 0), (45, 0, 0)]


def volume(shape, spacing=(2.0, 2.0, 2.0)):
    z, y, x = shape
    origin = tuple(-(n - 1) / 2 * s for n, s in zip((x, y, z), spacing, strict=True))
    return CT(np.zeros(shape, np.int16), spacing, origin)


def coordinates(ct):
    z, y, x = ct.shape
    return np.meshgrid(
        *(ct.origin[a] + ct.spacing[a] * np.arange(n) for a, n in ((2, z), (1, y), (0, x))), indexing="ij", sparse=True
    )


def rays(geometry):
    """Source (x, y, z) and unit directions [row, column, 3]."""
    first, row, column = geometry.pixel_frame()
    r, c = np.meshgrid(np.arange(geometry.rows), np.arange(geometry.columns), indexing="ij")
    directions = first + r[..., None] * row + c[..., None] * column - geometry.source
    return geometry.source, directions / np.linalg.norm(directions, axis=-1, keepdims=True)


def chord(geometry, centre, radius):
    """Length of every ray within a sphere [mm]."""
    source, directions = rays(geometry)
    offset = np.asarray(centre) - source
    along = directions @ offset
    return 2 * np.sqrt(np.maximum(0, radius**2 - (offset @ offset - along**2)))


def path_in_box(geometry, low, high):
    source, directions = rays(geometry)
    with np.errstate(divide="ignore"):
        a, b = (low - source) / directions, (high - source) / directions
    return np.maximum(0, np.maximum(a, b).min(axis=-1) - np.minimum(a, b).max(axis=-1))


def view(ct, pose, size=96, field=260.0):
    return Geometry.view(ct, pose[0], pose[1], roll=float(pose[2]), rows=size, columns=size, spacing=(field / size, field / size))


@pytest.mark.parametrize("pose", POSES)
def test_a_smooth_ball_integrates_to_the_analytic_value(pose):
    ct = volume((110, 110, 110), (1.5, 1.5, 1.5))
    z, y, x = coordinates(ct)
    centre, sigma = (12.0, -9.0, 15.0), 16.0
    squared = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2
    geometry = view(ct, pose)
    seen = line_integrals(np.exp(-squared / (2 * sigma**2)).astype(np.float32), ct, geometry)
    half_chord = chord(geometry, centre, 1e4) / 2
    distance_squared = 1e8 - half_chord**2
    expected = np.sqrt(2 * np.pi) * sigma * np.exp(-distance_squared / (2 * sigma**2))
    assert np.sqrt(np.mean((seen - expected) ** 2)) < 0.002 * expected.max()


@pytest.mark.parametrize("pose", POSES)
def test_the_path_through_a_uniform_volume_is_that_between_its_outer_voxel_centres(pose):
    ct = volume((70, 60, 80), (2.0, 2.5, 1.5))
    geometry = view(ct, pose)
    expected = path_in_box(geometry, np.asarray(ct.origin), -np.asarray(ct.origin))
    seen = line_integrals(np.ones(ct.shape, np.uint8), ct, geometry)
    assert abs(seen.mean() / expected.mean() - 1) < 0.001
    deep = expected > 0.9 * expected.max()
    assert np.abs(seen[deep] / expected[deep] - 1).mean() < 0.005


def test_a_volume_of_one_slice_counts_to_its_faces():
    ct = volume((70, 1, 80))
    assert line_integrals(np.ones(ct.shape, np.uint8), ct, view(ct, (0, 0, 0)))[48, 48] == pytest.approx(2.0, rel=1e-3)
    assert line_integrals(np.ones(ct.shape, np.uint8), ct, view(ct, (90, 0, 0), field=200.0))[48, 48:52].sum() > 0


def reference_sum(values, ct, geometry):
    """The same Joseph sum ray by ray in numpy: slow, and without any shared code."""
    from scipy import ndimage

    source, directions = rays(geometry)
    spacing, origin = np.asarray(ct.spacing), np.asarray(ct.origin)
    steps = (geometry.beam / spacing)[::-1]
    march = int(np.argmax(np.abs(steps)))
    axis = 2 - march
    total = np.zeros(directions.shape[:2])
    for k in range(values.shape[march]):
        t = (origin[axis] + k * spacing[axis] - source[axis]) / directions[..., axis]
        index = ((source + t[..., None] * directions - origin) / spacing)[..., ::-1]
        index[..., march] = k
        inside = ((index >= 0) & (index <= np.array(values.shape) - 1)).all(axis=-1) & (t > 0)
        total += np.where(inside, ndimage.map_coordinates(values.astype(float), np.moveaxis(index, -1, 0), order=1), 0)
    return total * spacing[axis] / np.abs(directions[..., axis])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(POSES))
def test_random_volumes_agree_with_a_ray_by_ray_sum(seed, pose):
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    ct = volume(tuple(rng.integers(20, 40, 3)), tuple(rng.uniform(1.5, 4, 3)))
    values = ndimage.gaussian_filter(rng.standard_normal(ct.shape), 3).astype(np.float32)
    z, y, x = (np.hanning(n) for n in ct.shape)
    values *= (z[:, None, None] * y[:, None] * x).astype(np.float32)
    geometry = view(ct, pose, size=64, field=220.0)
    expected = reference_sum(values, ct, geometry)
    aligned = pose[0] % 90 == 0 and pose[1] == 0 and pose[2] % 90 == 0
    assert np.abs(line_integrals(values, ct, geometry) - expected).max() < (2e-4 if aligned else 0.03) * np.abs(expected).max()


def test_several_ramps_in_one_pass_equal_passes_of_their_own():
    rng = np.random.default_rng(5)
    ct = CT(rng.integers(-1000, 2000, (30, 30, 30)).astype(np.int16), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    geometry = view(ct, (15, 5, 0))
    ramps = ((-1000.0, 100.0, -1000.0), (100.0, 3000.0, 100.0))
    both = ramp_integrals(ct.hu, ct, geometry, ramps)
    for ramp, seen in zip(ramps, both, strict=True):
        alone = line_integrals(np.clip(ct.hu, ramp[0], ramp[1]) - np.float32(ramp[2]), ct, geometry)
        np.testing.assert_allclose(seen, alone, rtol=1e-4, atol=1e-2 * alone.max())
    assert both[0].max() != pytest.approx(both[1].max())


def test_integer_and_float_volumes_give_the_same():
    rng = np.random.default_rng(6)
    ct = CT(rng.integers(-1000, 2000, (20, 25, 30)).astype(np.int16), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    geometry = view(ct, (90, 0, 0))
    np.testing.assert_allclose(line_integrals(ct.hu, ct, geometry), line_integrals(ct.hu.astype(np.float32), ct, geometry))


def test_values_of_another_shape_are_refused():
    ct = volume((20, 20, 20))
    with pytest.raises(ChexanatomyError, match="shape"):
        line_integrals(np.ones((20, 20, 21), np.float32), ct, view(ct, (0, 0, 0)))


def test_a_source_in_the_volume_is_refused():
    ct = volume((60, 60, 60), (5.0, 5.0, 5.0))
    with pytest.raises(ImpossibleGeometry):
        line_integrals(np.ones(ct.shape, np.float32), ct, Geometry.pa(ct, sid=100.0))
