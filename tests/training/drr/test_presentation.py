from dataclasses import replace

import numpy as np
import pytest

from training.drr import PRESENTATIONS, Presentation, present
from training.drr.presentation import _eroded
from training.drr.smoothing import gaussian_blur
from training.errors import ChexanatomyError

PITCH = 2.0
RAW = PRESENTATIONS["raw"]


@pytest.fixture
def attenuation():
    """Air, chest wall, a lung with fine ribs, a mediastinum."""
    rows, columns = np.mgrid[:160, :200]
    image = np.where(np.abs(columns - 100) < 90, 2.5, 0.0)
    image = np.where((np.abs(columns - 60) < 30) & (np.abs(rows - 80) < 60), 1.2 + 0.15 * (np.sin(rows / 2) > 0.0), image)
    return np.where(np.abs(columns - 105) < 12, 4.5, image).astype(np.float32)


def test_raw_is_attenuation_on_a_straight_scale(attenuation):
    assert present(attenuation, PITCH, RAW) == pytest.approx(attenuation / attenuation.max(), abs=1e-6)


def test_without_the_logarithm_raw_is_the_signal_turned_over(attenuation):
    signal = 1 - np.exp(-attenuation)
    assert present(attenuation, PITCH, replace(RAW, log=False)) == pytest.approx(signal / signal.max(), abs=1e-6)


@pytest.mark.parametrize("look", PRESENTATIONS.values())
def test_lung_is_dark_mediastinum_bright_air_black_and_all_within_the_scale(attenuation, look):
    picture = present(attenuation, PITCH, look)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1
    assert picture[:, :5].max() == 0
    assert picture[80, 50] < picture[80, 100]


@pytest.mark.parametrize("change", [{"detail": 1.0}, {"equalisation": 0.6}])
def test_detail_and_equalisation_bring_out_ribs_against_the_mediastinum(attenuation, change):
    plain = replace(Presentation(), detail=0.0, equalisation=0.0, contrast=1.0)

    def ribs(look):
        picture = present(attenuation, PITCH, look)
        return picture[50:110, 60].std() / (picture[80, 105] - picture[50:110, 60].mean())

    assert ribs(replace(plain, **change)) > 1.15 * ribs(plain)


def test_the_window_is_a_straight_line_and_the_curve_the_sigmoid_of_dicom(attenuation):
    """PS3.3 C.11.2.1.3.1: 1 / (1 + exp(-4 (x - centre) / width))."""
    inside = attenuation > 1
    straight, curved = (
        present(attenuation, 3.0, replace(PRESENTATIONS["raw"], window=True, darkest=0.0, brightest=100.0, contrast=c))[inside]
        for c in (0.0, 1.0)
    )
    low, high = attenuation[inside].min(), attenuation.max()
    share = (attenuation[inside] - low) / (high - low)
    assert straight == pytest.approx(share, abs=1e-5)
    assert curved == pytest.approx(1 / (1 + np.exp(-4 * (share - 0.5))), abs=1e-5)


def test_nothing_in_the_beam_is_black():
    for look in PRESENTATIONS.values():
        assert not present(np.zeros((20, 20), np.float32), PITCH, look).any()


@pytest.mark.parametrize("look", PRESENTATIONS.values())
def test_a_body_smaller_than_what_decides_on_the_window_makes_a_picture(look):
    shadow = np.zeros((60, 60), np.float32)
    shadow[30, 30:32] = 0.5
    picture = present(shadow, 0.4, look)
    assert np.isfinite(picture).all()
    assert picture[30, 30] > picture[0, 0] == 0


@pytest.mark.parametrize("shape", [(4, 1), (1, 4)])
def test_pixels_that_are_not_square_show_the_same_picture(attenuation, shape):
    fine = np.repeat(np.repeat(attenuation, 4, 0), 4, 1)
    whole = present(fine, PITCH / 4)
    narrow = present(fine[:: shape[0], :: shape[1]], (PITCH / 4 * shape[0], PITCH / 4 * shape[1]))
    assert np.abs(narrow - whole[:: shape[0], :: shape[1]]).mean() < 0.01


@pytest.mark.parametrize("reach", [1, 4])
def test_the_rim_of_square_pixels_is_so_many_steps_wide(reach):
    from scipy import ndimage

    mask = np.random.default_rng(0).random((40, 50)) < 0.99
    assert np.array_equal(_eroded(mask, (reach, reach)), ndimage.binary_erosion(mask, iterations=reach))


@pytest.mark.parametrize(
    "values",
    [{"equalisation": 1.0}, {"detail": -1}, {"contrast": -0.5}, {"darkest": 99.9}, {"reach": 0.0}, {"detail_reach": 0.0}],
)
def test_a_senseless_presentation_is_refused(values):
    with pytest.raises(ChexanatomyError):
        Presentation(**values)


@pytest.mark.parametrize("sigma", [(0.3, 0.9), (2.0, 2.0), (9.0, 14.0), (30.0, 5.0)])
def test_the_blur_is_a_gaussian(sigma):
    from scipy import ndimage

    image = np.random.default_rng(0).normal(size=(150, 211)).astype(np.float32)
    image[40:90, 60:140] += 3
    exact = ndimage.gaussian_filter(image, sigma, mode="constant", truncate=6)
    assert np.abs(gaussian_blur(image, sigma, dark_outside=True) - exact).max() < 0.03
    assert gaussian_blur(np.ones((50, 60), np.float32), sigma) == pytest.approx(1)


def test_the_blur_of_a_field_smaller_than_its_reach_loses_what_leaves_it():
    """Most of a Gaussian of sigma 60 over a field of 40 lies beside it."""
    from scipy.special import erf

    share = erf(20 / 60 / np.sqrt(2)) ** 2
    blurred = gaussian_blur(np.ones((160, 160), np.float32), (240.0, 240.0), dark_outside=True)
    assert blurred[80, 80] == pytest.approx(share, rel=0.06)
