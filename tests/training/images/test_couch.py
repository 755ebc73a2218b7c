import numpy as np
import pytest

from training.images import read_ct, read_labels, without_couch
from training.images.types import CT


def scanned(couch=True):
    """A trunk with lungs behind a wall of 9 mm, an arm apart, a couch of foam in a thin shell; [HU], and what is patient."""
    _, y, x = np.mgrid[:6, :200, :260] * 2.0
    trunk = ((x - 260) / 160) ** 2 + ((y - 180) / 110) ** 2 < 1
    lung = ((np.abs(x - 260) - 75) / 60) ** 2 + ((y - 180) / 84) ** 2 < 1
    arm = (x - 60) ** 2 + (y - 200) ** 2 < 30**2
    hu = np.where(trunk | arm, 30, -1000)
    hu = np.where(lung, -850, hu)
    if couch:
        hu = np.where((y > 292) & (y < 330) & ~trunk, -900, hu)
        hu = np.where(((np.abs(y - 294) < 3) | (np.abs(y - 330) < 3)) & ~trunk, 200, hu)
    return CT(hu.astype(np.int16), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0)), trunk | arm


def test_the_couch_goes_and_trunk_lungs_and_arms_stay():
    ct, patient = scanned()
    clean = without_couch(ct)
    assert np.array_equal(clean.hu[patient], ct.hu[patient])
    away = (ct.hu > -950) & ~patient
    assert (clean.hu[away] > -950).mean() < 0.05
    assert "couch" in clean.notes[-1]


def test_nothing_happens_to_a_body_in_air():
    ct, _ = scanned(couch=False)
    assert np.array_equal(without_couch(ct).hu, ct.hu)


def test_a_ct_of_nobody_stays_as_it_is():
    air = CT(np.full((3, 40, 40), -1000, np.int16), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    assert without_couch(air) is air


def test_a_body_that_reaches_out_of_the_field_keeps_its_cut_edges():
    ct = CT(np.full((2, 60, 60), 40, np.int16), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    assert np.array_equal(without_couch(ct).hu, ct.hu)


@pytest.mark.network
def test_the_sample_loses_its_couch_and_no_labelled_voxel(sample_ct):
    ct = read_ct(sample_ct / "ct.nii.gz")
    labels = read_labels(sample_ct / "labels.nii.gz", ct, sample_ct / "label_names.csv")
    clean = without_couch(ct)
    assert (clean.hu != ct.hu)[labels.ids > 0].mean() < 1e-5
    assert (ct.hu[:, 450:, :] > -300).sum() > 1000
    assert (clean.hu[:, 450:, :] > -300).sum() == 0
