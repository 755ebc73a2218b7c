"""The adapters of the comparison take the same picture; each other projector is tested where it is installed."""

import numpy as np
import pytest

from benchmarks.drr.bodies import _ninety, store
from benchmarks.drr.engines import ENGINES
from benchmarks.drr.turns import POSES, Cell, Result, compare, start
from training.images.types import CT, LabelMap

FARTHEST = {"RTK": 0.005, "nanodrr": 0.02, "plastimatch": 0.06}
"""Relative difference to ours that the methods make at 6 mm voxels; one moved by a pixel is 0.14 off."""


def body():
    """A lop-sided smooth body, 6 mm voxels, values from 0 on."""
    z, y, x = np.mgrid[-1:1:36j, -1:1:40j, -1:1:44j]
    values = 2000 * np.exp(-(((x - 0.2) / 0.3) ** 2) - ((y + 0.1) / 0.3) ** 2 - ((z - 0.15) / 0.35) ** 2)
    return CT(values.astype(np.int16), (6.0, 6.0, 6.0), (-130.0, -118.0, -106.0))


@pytest.mark.parametrize("name", FARTHEST)
def test_other_projectors_see_what_ours_sees(name, tmp_path):
    ct = body()
    stored = store(tmp_path, ct.hu, np.ones(ct.shape, np.uint8), ct.spacing, ct.origin)
    workers, missing = start(["ours", name], threads=1, body=stored)
    try:
        if missing:
            pytest.skip(f"{name} is not installed")
        for view in POSES:
            ours, theirs = compare(Cell((44, 40, 36), 1, 64, view, ()), stored, ct, workers)
            assert (theirs if ours.error is None else ours).error < FARTHEST[name], view
            assert theirs.best > 0
    finally:
        for worker in workers.values():
            worker.end()


def test_rtk_ends_a_body_that_is_cut_off_by_its_volume_where_ours_does(tmp_path):
    ct = body()
    cut = np.ascontiguousarray(ct.hu[8:28, 8:-8, 8:-8])
    stored = store(tmp_path, cut, np.ones(cut.shape, np.uint8), ct.spacing, (-80.0, -70.0, -60.0))
    workers, missing = start(["ours", "RTK"], threads=1, body=stored)
    try:
        if missing:
            pytest.skip("RTK is not installed")
        for view in POSES:
            ours, _ = compare(Cell((28, 24, 20), 1, 64, view, ()), stored, stored.ct(), workers)
            assert ours.error < 0.005, view
    finally:
        for worker in workers.values():
            worker.end()


def test_masks_are_those_of_the_structures_in_their_order():
    ct = body()
    ids = np.zeros(ct.shape, np.uint8)
    ids[:, :, :20], ids[:, :, 24:] = 1, 2
    engine = ENGINES["ours"]()
    engine.prepare(ct)
    engine.label(LabelMap(ids, {1: ("group 1",), 2: ("group 2",)}, ct.spacing, ct.origin))
    right, left = engine.masks(Cell((44, 40, 36), 1, 64, "PA", ()).geometry(ct)).picture
    assert right[:, :20].any()
    assert left[:, -20:].any()
    assert not right[:, -20:].any()
    assert not left[:, :20].any()


def test_workers_take_turns_and_report_time_memory_and_difference(tmp_path):
    ct = body()
    stored = store(tmp_path, ct.hu, _ninety((ct.hu > 100).astype(np.uint8)), ct.spacing, ct.origin)
    cell = Cell((44, 40, 36), 1, 48, "oblique", (10,))
    workers, missing = start(["ours"], threads=1, body=stored)
    try:
        results = list(compare(cell, stored, ct, workers))
    finally:
        for worker in workers.values():
            worker.end()
    assert not missing
    assert [r.labels for r in results] == [0, 10]
    assert all(0 < r.best <= r.median for r in results)
    assert Result.read(results[0].line()) == results[0]


def test_every_body_has_ninety_structures():
    ids = np.zeros((20, 30, 40), np.uint8)
    ids[4:16, 5:25, 5:35] = 1
    ids[8, 8, 8] = 7
    assert np.unique(_ninety(ids)).tolist() == list(range(91))
