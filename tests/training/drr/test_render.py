import numpy as np
import pytest

from training.drr import Geometry, Physics, render
from training.errors import ChexanatomyError
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


@pytest.mark.parametrize("values", [{"attenuation": 0.0}, {"equalisation": 1.0}, {"contrast": 0.5}, {"darkest": 99.9}])
def test_senseless_physics_is_refused(values):
    with pytest.raises(ChexanatomyError):
        Physics(**values)
