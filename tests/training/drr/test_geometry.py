import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.drr import Geometry
from training.errors import ImpossibleGeometry
from training.images.types import CT


@pytest.fixture
def ct():
    return CT(np.zeros((30, 40, 50), np.int16), (4.0, 5.0, 6.0), (-100.0, -120.0, 30.0))


def place(geometry, ct, left=0.0, posterior=0.0, superior=0.0):
    """Detector pixel (row, column) of a point that far from the centre of the volume [mm]."""
    return geometry.project(np.add(ct.centre, (left, posterior, superior)))[0]


@pytest.mark.parametrize("preset", [Geometry.pa, Geometry.ap])
def test_frontal_views_show_patient_right_on_image_left_and_the_head_up(ct, preset):
    geometry = preset(ct)
    assert place(geometry, ct, left=50)[1] > place(geometry, ct)[1] + 50
    assert place(geometry, ct, superior=50)[0] < place(geometry, ct)[0] - 50


def test_the_left_lateral_view_shows_the_chest_to_image_left_and_the_head_up(ct):
    geometry = Geometry.lateral(ct)
    assert place(geometry, ct, posterior=-50)[1] < place(geometry, ct)[1] - 50
    assert place(geometry, ct, superior=50)[0] < place(geometry, ct)[0] - 50


@pytest.mark.parametrize("primary", [70, 90, 100, 120])
def test_turning_past_the_lateral_view_does_not_flip_the_picture(ct, primary):
    geometry = Geometry.view(ct, primary)
    assert place(geometry, ct, posterior=-50)[1] < place(geometry, ct)[1] - 50


def test_the_source_stands_behind_the_back_for_pa_in_front_for_ap_and_on_the_right_for_left_lateral(ct):
    centre = np.asarray(ct.centre)
    assert (Geometry.pa(ct).source - centre)[1] == pytest.approx(1600)
    assert (Geometry.ap(ct).source - centre)[1] == pytest.approx(-1600)
    assert (Geometry.lateral(ct).source - centre)[0] == pytest.approx(-1600)


def test_cranial_angulation_moves_the_detector_to_the_head_and_lao_to_the_patients_left(ct):
    centre = np.asarray(ct.centre)
    assert (Geometry.view(ct, 0, 20).detector_centre - centre)[2] > 50
    assert (Geometry.view(ct, 30, 0).detector_centre - centre)[0] > 50


@pytest.mark.parametrize("primary", [0, 180])
def test_roll_turns_the_picture_clockwise(ct, primary):
    upright, turned = Geometry.view(ct, primary), Geometry.view(ct, primary, roll=90.0)
    up = place(upright, ct, superior=50) - place(upright, ct)
    now = place(turned, ct, superior=50) - place(turned, ct)
    assert up[0] < -50
    assert now == pytest.approx([0, -up[0]], abs=1e-6)


def test_magnification_is_the_ratio_of_distances_to_the_source(ct):
    geometry = Geometry.pa(ct, sdd=1500.0, sid=1000.0)
    shift = (place(geometry, ct, left=40) - place(geometry, ct))[1] * geometry.spacing[1]
    assert shift == pytest.approx(40 * 1500 / 1000)
    nearer = (place(geometry, ct, left=40, posterior=100) - place(geometry, ct, posterior=100))[1] * geometry.spacing[1]
    assert nearer == pytest.approx(40 * 1500 / 900)


def test_a_source_inside_the_patient_is_refused_and_the_distance_that_works_is_named(ct):
    geometry = Geometry.pa(ct, sid=60.0)
    with pytest.raises(ImpossibleGeometry, match="inside the patient") as refusal:
        geometry.check(ct)
    needed = float(str(refusal.value).split("at least ")[1].split(" mm")[0])
    Geometry.pa(ct, sid=needed).check(ct)


def test_a_beam_that_misses_the_volume_is_refused(ct):
    with pytest.raises(ImpossibleGeometry, match="passes the volume by"):
        Geometry.pa(ct, isocentre=(5000.0, 0.0, 0.0)).check(ct)


def test_a_turned_detector_beside_the_volume_is_refused_and_one_that_its_corner_meets_is_not():
    """A cube of 100 mm and a detector of 100 mm on its corner: along the detector's axes their shadows overlap long before."""
    cube = CT(np.zeros((20, 20, 20), np.int16), (5.0, 5.0, 5.0), (-47.5, -47.5, -47.5))

    def beside(across):
        return Geometry(roll=45.0, isocentre=(across, 0.0, 0.0), rows=100, columns=100, spacing=(1.125, 1.125))

    beside(114.0).check(cube)
    with pytest.raises(ImpossibleGeometry, match="passes the volume by"):
        beside(140.0).check(cube)


@pytest.mark.parametrize(
    "values",
    [
        {"sid": 1900.0},
        {"sid": -5.0},
        {"secondary": 100.0},
        {"rows": 1},
        {"spacing": (0.0, 1.0)},
        {"spacing": (1e-300, 1e-300)},
        {"primary": float("nan")},
        {"isocentre": (0.0, 1.0)},
        {"sdd": 1e308, "sid": 1e307},
        {"isocentre": (0.0, -1e200, 0.0)},
    ],
)
def test_impossible_values_are_refused(values):
    with pytest.raises(ImpossibleGeometry):
        Geometry(**values)


def test_json_keeps_a_geometry_exactly(ct):
    geometry = Geometry.view(ct, 12.5, -7.0, roll=3.3, sdd=1712.0)
    assert Geometry.from_dict(geometry.to_dict()) == geometry


@pytest.mark.parametrize(
    "change",
    [
        *({"sdd": "wide"}, {"sdd": "1800"}, {"sdd": True}, {"sdd": 10**400}, {"isocentre": 3}, {"isocentre": "123"}),
        *({"rows": None}, {"rows": 64.7}, {"rows": float("inf")}),
    ],
)
def test_malformed_json_values_are_refused(ct, change):
    with pytest.raises(ImpossibleGeometry):
        Geometry.from_dict(Geometry.pa(ct).to_dict() | change)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"rows": ' + "9" * 5000 + "}"])
def test_a_file_that_is_no_geometry_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "geometry.json").write_text(text)
    with pytest.raises(ImpossibleGeometry, match=r"geometry\.json is not a geometry") as refusal:
        Geometry.load(tmp_path / "geometry.json")
    assert "sys." not in str(refusal.value)


def test_resizing_keeps_the_field_of_view(ct):
    small = Geometry.pa(ct).resized(100, 200)
    assert (small.rows * small.spacing[0], small.columns * small.spacing[1]) == pytest.approx((430, 430))


@pytest.mark.parametrize(
    ("primary", "secondary", "name"),
    [
        (0, 0, "PA"),
        (-10, 5, "PA"),
        (185, 0, "AP"),
        (-180, 0, "AP"),
        (90, 0, "LATERAL"),
        (-95, 0, "LATERAL"),
        (45, 0, "OBLIQUE"),
        (0, 40, "OBLIQUE"),
    ],
)
def test_views_are_named(ct, primary, secondary, name):
    assert Geometry.view(ct, primary, secondary).view_name == name


@pytest.mark.parametrize("pose", [(0, 0, 0), (180, 0, 20), (90, 0, 0), (-35, 25, 160)])
def test_the_ray_through_a_pixel_keeps_the_source_and_meets_the_pixel(pose):
    primary, secondary, roll = pose
    geometry = Geometry(primary=primary, secondary=secondary, roll=roll, isocentre=(5.0, -7.0, 30.0), rows=300, columns=200)
    ray = geometry.through(20.0, 170.0)
    np.testing.assert_allclose(ray.source, geometry.source, atol=1e-6)
    np.testing.assert_allclose(geometry.project(ray.detector_centre[None]), [[20.0, 170.0]], atol=1e-6)


POSES = st.builds(
    lambda sdd, part, primary, secondary, roll, isocentre, rows, columns, pitch: Geometry(
        sdd, part * sdd, primary, secondary, roll, isocentre, rows, columns, (pitch, 1.5 * pitch)
    ),
    st.floats(500, 3000),
    st.floats(0.3, 0.95),
    st.floats(-180, 180),
    st.floats(-80, 80),
    st.floats(-180, 180),
    st.tuples(*[st.floats(-300, 300)] * 3),
    st.integers(2, 512),
    st.integers(2, 512),
    st.floats(0.1, 4),
)


@settings(deadline=None)
@given(POSES, st.floats(0, 1), st.floats(0, 1), st.floats(0.2, 1.5))
def test_every_point_of_a_ray_falls_on_its_pixel(pose, down, across, way):
    pixel = np.array([down * (pose.rows - 1), across * (pose.columns - 1)])
    first, row_step, column_step = pose.pixel_frame()
    on_detector = first + pixel[0] * row_step + pixel[1] * column_step
    point = pose.source + way * (on_detector - pose.source)
    assert np.allclose(pose.project(point)[0], pixel, atol=1e-5 * max(pose.rows, pose.columns))


@settings(deadline=None)
@given(POSES)
def test_any_pose_survives_its_dictionary_and_its_axes_stand_upright_on_each_other(pose):
    assert Geometry.from_dict(pose.to_dict()) == pose
    frame = np.stack([*pose.axes, pose.beam])
    assert np.allclose(frame @ frame.T, np.eye(3), atol=1e-9)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*Geometry().to_dict(), "other"]), st.one_of(st.none(), st.floats(), st.text(max_size=3))))
def test_what_is_no_pose_is_refused_in_one_sentence(values):
    with pytest.raises(ImpossibleGeometry) as refusal:
        Geometry.from_dict(values)
    assert str(refusal.value).isprintable()
