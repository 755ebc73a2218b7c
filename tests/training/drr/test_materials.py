import numpy as np
import pytest
import xraydb

from training.drr.materials import (
    CT_ENERGY,
    ENERGIES,
    TISSUE_RAMPS,
    attenuation_per_hu,
    cortical_bone_hu,
    mass_attenuation,
)


@pytest.mark.parametrize("energy", [20.5, 60.5, 100.5])
def test_the_table_says_what_xraydb_says(energy):
    for material, formula in (("aluminium", "Al"), ("copper", "Cu"), ("CsI", "CsI"), ("Gd2O2S", "Gd2O2S"), ("water", "H2O")):
        known = xraydb.material_mu(formula, energy * 1e3, density=1.0)
        assert mass_attenuation(material, energy) == pytest.approx(known, rel=2e-4), material


def test_tissues_attenuate_as_nist_tabulates_them():
    # NIST X-ray mass attenuation coefficients, tables of ICRU-44 tissues [cm2/g].
    for material, at_60, at_100 in (
        ("water", 0.2059, 0.1707),
        ("soft_tissue", 0.2048, 0.1693),
        ("cortical_bone", 0.3148, 0.1855),
    ):
        assert mass_attenuation(material, 60.0) == pytest.approx(at_60, rel=0.01), material
        assert mass_attenuation(material, 100.0) == pytest.approx(at_100, rel=0.01), material


def test_at_the_scanners_energy_every_hu_counts_the_same():
    per_hu = attenuation_per_hu(CT_ENERGY)
    assert per_hu == pytest.approx(mass_attenuation("water", CT_ENERGY) / 10 / 1000, rel=1e-9)


def test_a_voxel_of_cortical_bone_attenuates_as_cortical_bone_at_every_energy():
    hu = cortical_bone_hu()
    parts = [np.clip(hu, low, high) - zero for low, high, zero in TISSUE_RAMPS]
    assert parts @ attenuation_per_hu(ENERGIES) == pytest.approx(1.92 * mass_attenuation("cortical_bone") / 10, rel=1e-9)


def test_bone_attenuates_at_every_energy_and_low_ones_most():
    soft, bone = attenuation_per_hu(ENERGIES[ENERGIES > 15])
    assert (bone > 0).all()
    assert (np.diff(bone / soft) < 0).all()
