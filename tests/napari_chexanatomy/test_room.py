from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_chexanatomy.layers import from_ct, from_radiograph
from napari_chexanatomy.machine_mesh import (
    CORNERS,
    layer_affine,
    machine,
    size,
    texture,
    texture_places,
    tilted,
    world_from_machine,
)
from napari_chexanatomy.patient_mesh import PatientMesher
from napari_chexanatomy.picture import Order, Picture
from napari_chexanatomy.pointer import in_picture, on_detector
from napari_chexanatomy.room import Room, painted, patient_axes
from training.drr import Geometry

POSES = [(0, 0, 0), (180, 0, 0), (90, 0, 0), (-45, 20, 30), (0, 0, 90)]


@pytest.fixture
def turned(body):
    return [Geometry.view(body[0], p, s, roll=r, rows=60, columns=40, spacing=(7.0, 9.0)) for p, s, r in POSES]


def test_the_detector_is_drawn_where_its_pixels_are(turned):
    for geometry in turned:
        mesh, affine = tilted(machine(size(geometry))), layer_affine(world_from_machine(geometry))
        corners = mesh.vertices[-4:] @ affine[:3, :3].T + affine[:3, 3]
        outer = [(-0.5, -0.5), (59.5, -0.5), (59.5, 39.5), (-0.5, 39.5)]
        np.testing.assert_allclose(geometry.project(corners[:, ::-1]), outer, atol=1e-3)
        rays = mesh.vertices @ affine[:3, :3].T + affine[:3, 3]
        assert np.linalg.norm(rays[:, ::-1] - geometry.source, axis=1).min() < 80


def test_no_usual_pose_makes_a_layer_that_napari_cannot_draw_in_2d(turned):
    for geometry in turned:
        affine = layer_affine(world_from_machine(geometry))
        assert abs(np.linalg.det(affine[1:3, 1:3])) > 0.1


def test_the_machine_turns_red_where_no_radiograph_can_be_taken_and_the_picture_keeps_its_colours(turned):
    good, bad = machine(size(turned[0])), machine(size(turned[0]), possible=False)
    assert len(np.unique(good.colours[:-4], axis=0)) > 3
    assert len(np.unique(bad.colours[:-4], axis=0)) == 1
    assert (bad.colours[-4:] == 1).all()
    assert good.faces.max() == len(good.vertices) - 1
    np.testing.assert_allclose(good.vertices[-4:], CORNERS * size(turned[0]))


def test_only_the_detector_s_face_takes_its_colour_from_the_picture():
    picture = np.zeros((30, 20, 3), np.float32)
    whole = texture(picture)
    places = texture_places(10, 30)
    rows = np.clip(((1 - places[:, 1]) * len(whole)).astype(int), 0, len(whole) - 1)
    assert (whole[rows[:6], 5] == 1).all()
    assert sorted(round(float(v) * len(whole)) for v in places[6:, 1]) == [4, 4, 34, 34]


def test_a_look_at_the_detector_meets_the_pixel(turned):
    for geometry in turned:
        first, row_step, column_step = geometry.pixel_frame()
        pixel = first + 12 * row_step + 31 * column_step
        eye = pixel + np.array([400.0, -300.0, 120.0])
        found = on_detector(geometry, eye[::-1], (pixel - eye)[::-1])
        np.testing.assert_allclose(found, (12, 31), atol=1e-6)
    along = np.cross(turned[0].beam, [0, 0, 1.0])
    assert on_detector(turned[0], (0, 0, 0), along[::-1]) is None


def test_a_click_on_a_preview_means_the_same_pixel_as_on_the_full_picture(radiograph, pose, add):
    full = add(ViewerModel(), from_radiograph(radiograph, pose))
    assert in_picture(full, pose, full.data_to_world((20, 30))) == pytest.approx((20, 30))
    coarse = add(ViewerModel(), from_radiograph(replace(radiograph, pixels=radiograph.pixels[::2, ::2].copy()), pose))
    assert in_picture(coarse, pose, coarse.data_to_world((10, 15))) == pytest.approx((20.5, 30.5))


def test_the_patient_lies_where_the_ct_lies_with_its_structures_in_colour(body):
    ct, labels = body
    mesher = PatientMesher()
    plain, coloured = mesher.mesh(ct, None, ()), mesher.mesh(ct, labels, ("heart", "lung_left"))
    for mesh in (plain, coloured):
        assert mesh.faces.max() < len(mesh.vertices)
        low, high = np.array(ct.centre) - np.array(ct.size) / 2, np.array(ct.centre) + np.array(ct.size) / 2
        points = mesh.vertices[:, ::-1]
        assert (points.min(axis=0) > low - 15).all()
        assert (points.max(axis=0) < high + 15).all()
    heart = PatientMesher().mesh(ct, labels, ("heart",))
    where = np.argwhere(labels.mask("heart")).mean(axis=0) * ct.spacing[::-1] + ct.origin[::-1]
    red = heart.vertices[heart.colours[:, 0] > 1.8 * heart.colours[:, 1]]
    np.testing.assert_allclose(red.mean(axis=0), where, atol=12)


def test_the_detector_shows_the_picture_with_its_structures(radiograph, pose, body):
    overlay = np.zeros((*radiograph.pixels.shape, 4), np.uint8)
    overlay[5, 6] = (255, 0, 0, 255)
    order = Order(*body, pose, (), "fill", None, True)
    colours = painted(Picture(order, radiograph, {}, overlay))
    np.testing.assert_allclose(colours[5, 6], (1, 0, 0))
    np.testing.assert_allclose(colours[7, 7], radiograph.pixels[7, 7])


def test_the_patient_is_not_seen_in_a_mirror(body, pose, add):
    viewer = ViewerModel()
    add(viewer, from_ct(body[0]))
    room = Room(viewer)
    room.enter(body[0], pose, None)
    camera = viewer.scene.camera
    camera.set_view_direction((0.0, 1.0, 0.0), up_direction=(1.0, 0.0, 0.0))
    # Of the camera's frame (depth, down, right) in (z, y, x): seen from before, the patient's left is at the right.
    assert [str(way) for way in camera.orientation] == ["away", "down", "right"]
    places, letters = patient_axes(body[0])
    at = dict(zip(letters, places, strict=True))
    ahead, up = np.array(camera.view_direction), np.array(camera.up_direction)
    right_of_patient_frame = np.cross(ahead[::-1], up[::-1])[::-1]
    assert (at["L"] - at["R"]) @ right_of_patient_frame > 0
    room.leave()
    assert [layer.name for layer in viewer.layers] == [body[0].name]
    assert viewer.dims.ndisplay == 2
