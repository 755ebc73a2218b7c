from dataclasses import replace

import numpy as np
import pytest

from training.drr import (
    PHYSICS,
    PRESENTATIONS,
    Geometry,
    attenuation_image,
    expose,
    line_integrals,
    present,
    render,
    tissue_paths,
)
from training.drr.materials import CT_ENERGY, mass_attenuation
from training.images.types import CT


@pytest.fixture
def chest():
    """A water block with a lung on patient right and a bone on patient left, air around."""
    hu = np.full((50, 50, 60), -1000, np.int16)
    hu[:, 10:40, 5:55] = 0
    hu[10:40, 15:35, 10:25] = -850
    hu[10:40, 20:26, 40:45] = 1000
    return CT(hu, (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))


def test_bone_is_bright_lung_is_dark_and_air_black(chest):
    picture = render(chest, Geometry.pa(chest, rows=128, columns=128)).pixels
    middle = picture[64]
    lung, bone = middle[30:45].mean(), middle[80:100].max()
    assert lung < middle[60] < bone
    assert picture[64, 0] == 0
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1


def test_the_view_and_the_pixel_pitch_are_told(chest):
    geometry = Geometry.ap(chest, rows=64, columns=64)
    radiograph = render(chest, geometry)
    assert (radiograph.view, radiograph.spacing) == ("AP", geometry.spacing)


def test_more_pixels_show_the_same_picture(chest):
    coarse = render(chest, Geometry.pa(chest, rows=100, columns=100)).pixels
    fine = render(chest, Geometry.pa(chest, rows=400, columns=400)).pixels
    assert np.abs(fine.reshape(100, 4, 100, 4).mean(axis=(1, 3)) - coarse).mean() < 0.02


def test_a_beam_of_one_energy_gives_the_line_integral(chest):
    geometry = Geometry.pa(chest, rows=64, columns=64)
    attenuation = attenuation_image(chest, geometry, replace(PHYSICS["ideal"], energy=CT_ENERGY))
    water = float(mass_attenuation("water", CT_ENERGY)) / 10
    expected = water / 1000 * line_integrals(chest.hu + np.int16(1000), chest, geometry)
    assert attenuation == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_look_and_the_physics_are_independent(chest):
    geometry = Geometry.pa(chest, rows=64, columns=64)
    shot = expose(tissue_paths(chest, geometry), geometry, PHYSICS["bedside"])
    film = render(chest, geometry, PHYSICS["bedside"], PRESENTATIONS["film"])
    assert np.array_equal(film.pixels, present(shot.attenuation, geometry.spacing, PRESENTATIONS["film"]))
