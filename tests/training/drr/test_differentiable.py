import numpy as np
import pytest
import torch

from training.drr import Geometry, differentiable, line_integrals
from training.errors import ImpossibleGeometry
from training.images.types import CT

VIEWS = [(0.0, 0.0, 0.0), (180.0, 0.0, 0.0), (90.0, 0.0, 0.0), (30.0, -20.0, 15.0), (-160.0, 10.0, 0.0)]


def soft_body():
    """A smooth lop-sided body, 5 mm voxels."""
    z, y, x = np.mgrid[-1:1:24j, -1:1:30j, -1:1:36j]
    body = 3000 * np.exp(-(((x - 0.1) / 0.3) ** 2) - (y / 0.28) ** 2 - ((z + 0.1) / 0.32) ** 2)
    return CT(body.astype(np.int16), (5.0, 5.0, 5.0), (10.0, -20.0, 5.0))


@pytest.mark.parametrize("angles", VIEWS)
def test_the_torch_projector_gives_the_numbers_of_the_compiled_one(angles):
    ct = soft_body()
    geometry = Geometry.view(ct, *angles[:2], roll=angles[2], rows=60, columns=50, spacing=(5.0, 6.0))
    expected = line_integrals(ct.hu, ct, geometry)
    seen = differentiable.line_integrals(torch.from_numpy(ct.hu.astype(np.float32)), ct, geometry).numpy()
    assert np.sqrt(np.mean((seen - expected) ** 2)) < 1e-3 * np.sqrt(np.mean(expected**2))


@pytest.mark.parametrize("entry", range(len(differentiable.POSE)), ids=differentiable.POSE)
def test_gradients_of_the_pose_equal_finite_differences(entry):
    ct = soft_body()
    geometry = Geometry.view(ct, 20.0, 8.0, roll=5.0, rows=40, columns=40, spacing=(9.0, 9.0))
    values = torch.from_numpy(ct.hu.astype(np.float32))
    weights = torch.linspace(0, 1, 1600).reshape(40, 40) ** 2

    def score(pose):
        return (differentiable.line_integrals(values, ct, geometry, pose) * weights).double().sum()

    pose = differentiable.pose_of(geometry).requires_grad_()
    score(pose).backward()
    step = torch.zeros(8, dtype=torch.float64)
    step[entry] = 0.05
    with torch.no_grad():
        slope = (score(pose + step) - score(pose - step)) / 0.1
    assert pose.grad[entry].item() == pytest.approx(slope.item(), rel=0.02, abs=1e-4 * float(score(pose.detach()).abs()))


def test_a_pose_is_found_again_from_its_radiograph():
    ct = soft_body()
    geometry = Geometry.view(ct, 20.0, 0.0, rows=32, columns=32, spacing=(10.0, 10.0))
    values = torch.from_numpy(ct.hu.astype(np.float32))
    truth = differentiable.pose_of(geometry)
    target = differentiable.line_integrals(values, ct, geometry, truth)
    scale = torch.tensor([0, 0, 1.0, 1.0, 1.0, 0, 0, 0], dtype=torch.float64)
    turn = torch.tensor([0, 0, 6.0, -4.0, 3.0, 0, 0, 0], dtype=torch.float64).requires_grad_()
    search = torch.optim.LBFGS([turn], max_iter=25, line_search_fn="strong_wolfe")

    def loss():
        search.zero_grad()
        error = (differentiable.line_integrals(values, ct, geometry, truth + turn * scale) - target).square().mean() / 1e6
        error.backward()
        return error

    search.step(loss)
    assert turn.detach().abs()[2:5].max() < 0.2


def test_the_gradient_of_the_values_is_the_path_through_each_voxel():
    ct = soft_body()
    geometry = Geometry.pa(ct, rows=40, columns=40, spacing=(9.0, 9.0))
    values = torch.from_numpy(ct.hu.astype(np.float32)).requires_grad_()
    differentiable.line_integrals(values, ct, geometry).sum().backward()
    total = float((values.grad * values.detach()).sum())
    assert total == pytest.approx(float(line_integrals(ct.hu, ct, geometry).sum()), rel=1e-3)


def test_a_source_inside_the_volume_is_refused():
    ct = soft_body()
    with pytest.raises(ImpossibleGeometry, match="inside the patient"):
        differentiable.line_integrals(torch.zeros(ct.shape), ct, Geometry.pa(ct, sid=20.0, sdd=500.0))
