"""Muon's steps have equal singular values, and only the matrices inside layers take them."""

from __future__ import annotations

import torch
from torch import nn

from training.fit.optimiser import optimiser, orthogonal


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 16), nn.Linear(16, 8)])
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        result: torch.Tensor = self.head(x)
        return result


def test_orthogonal_matrices_have_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((2, 24, 60), (2, 60, 24), (1, 32, 32)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(*shape)))
        assert values.max() < 1.3
        assert values.median() > 0.6


def test_few_digits_are_enough_for_the_direction() -> None:
    torch.manual_seed(0)
    matrices = torch.randn(2, 24, 60)
    exact, rough = orthogonal(matrices), orthogonal(matrices.bfloat16()).float()
    alike = (exact * rough).sum((1, 2)) / (exact.norm(dim=(1, 2)) * rough.norm(dim=(1, 2)))
    assert alike.min() > 0.98


def test_only_the_matrices_inside_layers_are_turned() -> None:
    torch.manual_seed(0)
    net = _Net()
    chosen = optimiser(net, 1e-3, 0.0, 5.0, fused=False)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    net(torch.randn(32, 8)).square().mean().backward()
    chosen.step()
    moved = {n: (p.detach() - before[n]) for n, p in net.named_parameters()}
    values = torch.linalg.svdvals(moved["layers.0.weight"]) / (5e-3 * 2**0.5)
    assert 0.5 < values[:3].min() < values.max() < 1.3
    assert moved["head.weight"].abs().max() <= 1.01e-3
    assert set(chosen.state[net.layers[0].get_parameter("weight")]) == {"momentum"}
    assert "exp_avg" in chosen.state[net.head.weight]


def test_without_muon_everything_is_adamw() -> None:
    net = _Net()
    assert not any(group.get("muon") for group in optimiser(net, 1e-3, 0.1, 0.0, fused=False).param_groups)
