import numpy as np
import pytest
import spekpy

from training.drr.materials import ENERGIES
from training.drr.spectrum import air_kerma, filter_transmission, tube_spectrum


def test_a_tabulated_spectrum_is_the_one_spekpy_computes():
    tube = spekpy.Spek(kvp=90, th=12, dk=1.0)
    tube.filter("Al", 3.0).filter("Cu", 0.1)
    energies, fluence = tube.get_spectrum(edges=False)
    ours = tube_spectrum(90, 3.0, 0.1)
    assert ours.sum() == pytest.approx(fluence.sum() / 100, rel=0.01)
    assert air_kerma(ours) == pytest.approx(tube.get_kerma(), rel=0.01)
    assert np.sum(ours * ENERGIES) / ours.sum() == pytest.approx(np.sum(fluence * energies) / fluence.sum(), rel=0.003)


def test_the_standard_beam_holds_the_quanta_the_standard_says():
    """IEC 62220-1, RQA5: 70 kV, 21 mm Al added to the tube's own, half-value layer 7.1 mm, 30174 quanta per mm2 and uGy."""
    beam = tube_spectrum(70, 23.5)
    assert beam.sum() / air_kerma(beam) == pytest.approx(30174, rel=0.03)
    left = air_kerma(beam * filter_transmission("aluminium", 7.1)) / air_kerma(beam)
    assert left == pytest.approx(0.5, abs=0.03)


def test_no_photon_has_more_energy_than_the_tube_gives():
    assert tube_spectrum(60, 2.5)[ENERGIES > 60].sum() == 0
    assert tube_spectrum(60, 2.5)[ENERGIES < 60].sum() > 0


def test_more_kilovolts_and_less_filter_give_more_photons():
    outputs = [tube_spectrum(kvp, 3.0).sum() for kvp in np.linspace(40, 150, 45)]
    assert (np.diff(outputs) > 0).all()
    assert tube_spectrum(100, 3.0, 0.2).sum() < tube_spectrum(100, 4.0).sum() < tube_spectrum(100, 3.0).sum()
