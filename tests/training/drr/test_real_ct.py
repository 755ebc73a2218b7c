import numpy as np
import pytest

from training.drr import Geometry, project_labels, render
from training.images import read_ct, read_labels


@pytest.fixture(scope="module")
def patient(sample_ct):
    """The sample CT and its labels."""
    ct = read_ct(sample_ct / "ct.nii.gz")
    return ct, read_labels(sample_ct / "labels.nii.gz", ct, sample_ct / "label_names.csv")


@pytest.mark.parametrize("preset", [Geometry.pa, Geometry.ap])
def test_a_real_chest_has_its_liver_on_image_left_and_the_tip_of_its_heart_on_image_right(patient, preset):
    masks = project_labels(
        patient[1], preset(patient[1], rows=256, columns=256), ["liver", "spleen", "heart", "spine", "clavicula_left"]
    )
    column = {name: np.nonzero(mask)[1].mean() for name, mask in masks.items()}
    row = {name: np.nonzero(mask)[0].mean() for name, mask in masks.items()}
    assert column["liver"] < column["spine"] < column["spleen"]
    assert row["clavicula_left"] < row["heart"] < row["liver"]
    heart = masks["heart"]
    lower = heart[int(row["heart"]) :]
    reach = np.flatnonzero(lower.any(axis=0))
    assert reach[-1] - column["spine"] > column["spine"] - reach[0]


def test_lungs_are_darker_than_the_heart_and_the_spine_on_a_real_radiograph(patient):
    ct, labels = patient
    geometry = Geometry.pa(ct, rows=256, columns=256)
    pixels = render(ct, geometry).pixels
    masks = project_labels(labels, geometry, ["lung_field_left", "lung_field_right", "heart", "spine"])
    fields = masks["lung_field_left"] | masks["lung_field_right"]
    assert np.median(pixels[fields]) < 0.5 * np.median(pixels[masks["heart"]])
    assert np.median(pixels[masks["heart"]]) < np.median(pixels[masks["heart"] & masks["spine"]])
