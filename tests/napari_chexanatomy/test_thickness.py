from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_chexanatomy.thickness import ray_at
from training.drr import label_thickness
from training.errors import ImpossibleGeometry
from training.images.types import CT, LabelMap


@pytest.mark.parametrize("primary", [0.0, 35.0])
def test_a_ray_passes_what_the_thickness_map_says(body, pose, primary):
    ct, labels = body
    turned = replace(pose, primary=primary)
    known = [s for s in labels.structures if s in ("heart", "body", "lung_lower_lobe_left", "lung_upper_lobe_left")]
    maps = label_thickness(labels, turned, known)
    row, column = (int(v) for v in np.unravel_index(np.argmax(maps["heart"]), maps["heart"].shape))
    found = dict(ray_at(ct, labels, turned, row, column).crossings)
    for structure in known:
        assert found.get(structure, 0.0) == pytest.approx(float(maps[structure][row, column]), abs=6.0)
    assert found["heart"] > 50
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_a_ray_through_a_slab_has_its_thickness_and_weakens_as_so_much_water():
    hu = np.full((20, 40, 30), -1000, np.int16)
    hu[:, 10:30] = 0
    ids = np.zeros(hu.shape, np.uint8)
    ids[:, 15:20] = 1
    ct = CT(hu, (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    labels = LabelMap(ids, {1: ("heart",)}, ct.spacing, ct.origin)
    from training.drr import Geometry

    geometry = Geometry.pa(ct, rows=101, columns=101)
    ray = ray_at(ct, labels, geometry, 50.0, 50.0)
    assert ray.water == pytest.approx(40.0, rel=0.01)
    assert dict(ray.crossings)["heart"] == pytest.approx(10.0, rel=0.01)
    assert ray_at(ct, None, geometry, 50.0, 50.0).crossings == ()
    assert "spine" not in dict(ray_at(ct, labels, geometry, 50.0, 50.0, besides=("spine",)).crossings)


def test_a_ray_from_within_the_patient_is_refused(body, pose):
    with pytest.raises(ImpossibleGeometry):
        ray_at(body[0], body[1], replace(pose, sid=50.0), 10.0, 10.0)
