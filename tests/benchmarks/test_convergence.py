import pytest

from benchmarks.convergence import BODIES, VIEWS, errors


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("body", BODIES)
def test_line_integrals_converge_to_the_exact_ones(body, view):
    coarse, fine = errors(body, view, voxel=4.0, pixels=96), errors(body, view, voxel=2.0, pixels=96)
    assert fine.inside < 0.005
    assert fine.total < 0.002
    assert fine.everywhere < 0.7 * coarse.everywhere
