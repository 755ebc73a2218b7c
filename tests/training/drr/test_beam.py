from dataclasses import replace

import numpy as np
import pytest

from training.drr import PHYSICS, Physics
from training.drr.beam import beam_of
from training.drr.materials import ENERGIES, attenuation_per_hu, mass_attenuation
from training.drr.physics import DETECTORS
from training.drr.spectrum import tube_spectrum


def paths(soft, bone):
    return np.stack(np.broadcast_arrays(soft, bone)).astype(np.float32)


@pytest.mark.parametrize(
    "physics", [Physics(), Physics(kvp=62.5), PHYSICS["bedside"], Physics(kvp=80, copper=0.2, detector="Gd2O2S")]
)
def test_hardening_is_that_of_a_direct_integration_over_the_spectrum(physics):
    """Slabs of water with 0 to 60 mm of cortical bone, integrated energy by energy in the detector's plane."""
    soft, bone = np.meshgrid(np.linspace(3e3, 450e3, 13), np.linspace(0, 85e3, 9))
    answer, quantum = beam_of(physics).respond(paths(soft, bone))
    panel = DETECTORS[physics.detector]
    absorbed = ENERGIES * (1 - np.exp(-mass_attenuation(panel.material) * panel.coverage))
    weights = tube_spectrum(physics.kvp, physics.aluminium, physics.copper) * absorbed
    soft_per_hu, bone_per_hu = attenuation_per_hu()
    left = weights * np.exp(-soft[..., None] * soft_per_hu - bone[..., None] * bone_per_hu)
    assert answer == pytest.approx(-np.log(left.sum(axis=-1) / weights.sum()), rel=0.005)
    assert quantum == pytest.approx((left * ENERGIES).sum(axis=-1) / left.sum(axis=-1), rel=0.005)


@pytest.mark.parametrize("physics", [*PHYSICS.values(), Physics(hardening=False)])
def test_more_tissue_never_gives_more_signal(physics):
    grid = np.linspace(0, 1500e3, 401)
    for soft, bone in ((grid, 0.0), (100e3, grid / 2)):
        attenuation, _ = beam_of(physics).respond(paths(np.atleast_2d(soft), np.atleast_2d(bone)))
        assert (np.diff(attenuation) > 0).all()


def test_a_hardening_beam_attenuates_less_per_millimetre_the_deeper_it_goes():
    depths = np.linspace(0, 400e3, 100)
    attenuation, quantum = beam_of(Physics()).respond(paths(depths[None], np.zeros((1, 100))))
    assert (np.diff(attenuation[0], 2) < 1e-4).all()
    assert attenuation[0, 1] / depths[1] > 1.12 * attenuation[0, -1] / depths[-1]
    assert (np.diff(quantum[0]) > 0).all()


def test_without_hardening_twice_the_tissue_attenuates_twice():
    once, _ = beam_of(Physics(hardening=False)).respond(paths(np.full((1, 1), 90e3), 7e3))
    twice, _ = beam_of(Physics(hardening=False)).respond(paths(np.full((1, 1), 180e3), 14e3))
    assert twice == pytest.approx(2 * once)
    hard_once, _ = beam_of(Physics()).respond(paths(np.full((1, 1), 90e3), 7e3))
    hard_twice, _ = beam_of(Physics()).respond(paths(np.full((1, 1), 180e3), 14e3))
    assert hard_twice[0, 0] < 1.97 * hard_once[0, 0]


def test_a_beam_of_one_energy_follows_the_exponential_law():
    water = mass_attenuation("water", 60.0) / 10
    attenuation, quantum = beam_of(PHYSICS["ideal"]).respond(paths(np.full((1, 1), 200e3), 0.0))
    assert attenuation[0, 0] == pytest.approx(200 * water, rel=0.01)
    assert quantum == 60


def test_fewer_kilovolts_show_more_contrast_of_bone():
    def contrast(kvp):
        attenuation, _ = beam_of(Physics(kvp=kvp)).respond(paths(np.full((1, 2), 200e3), [[0.0, 10e3]]))
        return attenuation[0, 1] - attenuation[0, 0]

    assert contrast(70) > 1.15 * contrast(120)


def test_settings_that_do_not_shape_the_beam_share_one():
    assert beam_of(Physics(seed=4, exposure_index=None, blur=False)) is beam_of(Physics())
    assert beam_of(replace(Physics(), kvp=124.0)) is not beam_of(Physics())
