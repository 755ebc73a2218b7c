from dataclasses import replace

import numpy as np
import pytest

from training.drr import PHYSICS, Geometry, Physics, expose
from training.errors import ChexanatomyError

OFF = replace(Physics(), exposure_index=None, scatter=False, blur=False)


def geometry(pixels=96, pitch=1.0):
    return Geometry(rows=pixels, columns=pixels, spacing=(pitch, pitch))


def water(pixels=96, depth=150e3):
    """A slab of water [HU mm] with a bone in its middle."""
    paths = np.zeros((2, pixels, pixels), np.float32)
    paths[0] = depth
    paths[1, pixels // 3 : pixels // 2, pixels // 3 : pixels // 2] = 9e3
    return paths


def test_with_every_stage_off_the_signal_is_the_beams_alone():
    from training.drr.beam import beam_of

    shot = expose(water(), geometry(), OFF)
    assert np.array_equal(shot.attenuation, beam_of(OFF).respond(water())[0])
    assert (shot.mas, shot.dap, shot.exposure_index) == (None, None, None)


@pytest.mark.parametrize("stage", [{"scatter": True}, {"exposure_index": 250.0}, {"blur": True}])
def test_each_stage_acts_on_its_own(stage):
    plain, changed = (expose(water(), geometry(96, 0.2), replace(OFF, **s)).attenuation for s in ({}, stage))
    assert not np.array_equal(plain, changed)
    assert changed.mean() < plain.mean() * 1.001


def noise(index, pitch=1.0, depth=150e3, **changes):
    physics = replace(OFF, exposure_index=index, **changes)
    paths = np.zeros((2, 200, 200), np.float32)
    paths[0] = depth
    return expose(paths, geometry(200, pitch), physics).attenuation.std()


@pytest.mark.parametrize("factor", [0.25, 4.0, 16.0])
def test_noise_falls_with_the_square_root_of_dose_and_of_area(factor):
    assert noise(250 * factor) == pytest.approx(noise(250) / np.sqrt(factor), rel=0.02)
    assert noise(250, pitch=np.sqrt(factor)) == pytest.approx(noise(250) / np.sqrt(factor), rel=0.02)


def test_noise_is_that_of_the_counted_quanta():
    """IEC 62220-1, RQA5: 30174 quanta per mm2 and uGy, all counted by an ideal detector; 250 is 2.5 uGy."""
    aluminium_like = noise(250, kvp=70, aluminium=23.5, detector="ideal", depth=9e3)
    assert aluminium_like == pytest.approx(1 / np.sqrt(30174 * 2.5), rel=0.05)


def test_the_same_dose_reaches_the_detector_through_thick_and_thin():
    assert noise(250, depth=300e3) == pytest.approx(noise(250, depth=100e3), rel=0.1)
    thin, thick = (expose(water(depth=d), geometry(), Physics()) for d in (100e3, 300e3))
    assert thick.mas > 5 * thin.mas
    assert thick.dap / thin.dap == pytest.approx(thick.mas / thin.mas)


def test_the_tube_load_follows_the_inverse_square_law():
    near, far = (expose(water(), replace(geometry(), sdd=d, sid=0.8 * d), Physics()) for d in (900.0, 1800.0))
    assert far.mas == pytest.approx(4 * near.mas)
    assert far.dap == pytest.approx(near.dap)


def test_a_beam_of_one_energy_has_noise_but_no_tube_load():
    shot = expose(water(), geometry(), Physics(energy=60.0))
    assert shot.mas is None
    assert shot.attenuation[:20, :20].std() > 0


def test_the_same_seed_gives_the_same_noise():
    first, again, other = (expose(water(), geometry(), Physics(seed=s)).attenuation for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def fraction(paths, grid):
    physics = replace(OFF, scatter=True, grid=grid)
    view = geometry(96, 4.0)
    return 1 - np.exp(expose(paths, view, physics).attenuation - expose(paths, view, OFF).attenuation)


def test_scatter_veils_thick_parts_most_and_a_grid_takes_most_of_it():
    """A chest: lungs as 80 mm of water, between them 200 mm; Niklason 1981: 90 % scatter in the mediastinum without a grid."""
    paths = np.zeros((2, 96, 96), np.float32)
    paths[0] = 80e3
    paths[0, :, 40:56] = 200e3
    without, behind = fraction(paths, False), fraction(paths, True)
    assert without[48, 48] == pytest.approx(0.92, abs=0.04)
    assert without[48, 15] == pytest.approx(0.5, abs=0.15)
    assert 0.5 < behind[48, 48] < 0.8
    assert behind[48, 15] < 0.25


def test_air_scatters_nothing():
    air = np.zeros((2, 64, 64), np.float32)
    assert np.array_equal(expose(air, geometry(64), replace(OFF, scatter=True)).attenuation, air[0])
    assert np.isfinite(expose(air, geometry(64), Physics()).attenuation).all()


@pytest.mark.parametrize(("detector", "half"), [("CsI", 1.29), ("Gd2O2S", 1.1)])
def test_the_detector_halves_contrast_at_its_frequency(detector, half):
    pitch, count = 0.1, 400
    waves = round(count * pitch * half)
    paths = np.zeros((2, count, count), np.float32)
    paths[0] = 100e3 + 2e3 * np.sin(2 * np.pi * waves * np.arange(count) / count)
    sharp, soft = (
        expose(paths, geometry(count, pitch), replace(OFF, detector=detector, blur=b)).attenuation[200, 50:350]
        for b in (False, True)
    )
    assert np.ptp(soft) / np.ptp(sharp) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("physics", PHYSICS.values())
@pytest.mark.parametrize("depth", [0.0, 40e3, 600e3])
def test_every_preset_gives_numbers_for_thin_and_for_huge_patients(physics, depth):
    assert np.isfinite(expose(water(depth=depth), geometry(), physics).attenuation).all()


@pytest.mark.parametrize(
    "values",
    [
        {"kvp": 30},
        {"kvp": float("nan")},
        {"aluminium": 0},
        {"copper": 3},
        {"energy": 5},
        {"exposure_index": 0},
        {"detector": "film"},
        {"seed": -1},
    ],
)
def test_senseless_physics_is_refused(values):
    with pytest.raises(ChexanatomyError):
        Physics(**values)
