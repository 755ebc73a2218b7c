"""The optimiser: AdamW, and for the matrices inside the layers, if wanted, Muon.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) replaces the momentum of a matrix by the nearest matrix with
equal singular values, so that rare directions are learnt as fast as common ones.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration, from the same source."""


class MuonAdamW(torch.optim.AdamW):
    """AdamW; groups with `muon` > 0 (two-dimensional parameters only) take Muon steps of that size relative to AdamW's rate."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        """One step of both."""
        everything = self.param_groups
        try:
            self.param_groups = [g for g in everything if not g.get("muon")]
            result = super().step(closure)
        finally:
            self.param_groups = everything
        for group in everything:
            if group.get("muon"):
                self._turned(group)
        return result

    def _turned(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is not None:
                alike[tuple(p.shape)].append(p)
        for shape, params in alike.items():
            moments = []
            for p in params:
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                moments.append(state["momentum"])
            gradients = [p.grad for p in params if p.grad is not None]
            torch._foreach_lerp_(moments, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, moments, MOMENTUM)
            turned = orthogonal(torch.stack(list(ahead)).to(group["precision"])).float()
            rate = group["lr"] * group["muon"] * max(1.0, shape[0] / shape[1]) ** 0.5
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, list(turned.unbind()), alpha=-rate)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly the closest matrices with all singular values 1 (0.7 to 1.2), float [n, rows, columns]."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def optimiser(
    learner: nn.Module, rate: float, weight_decay: float, muon: float, fused: bool, bf16: bool = False
) -> torch.optim.AdamW:
    """Weight decay for matrices, none for norms, biases and embeddings; with `muon`, matrices inside layers take such steps,
    reckoned in bfloat16 if `bf16`: the direction needs no more digits."""
    named = [(n, p) for n, p in learner.named_parameters() if p.requires_grad]
    layers = [p for n, p in named if muon and p.ndim == 2 and ".layers." in f".{n}" and "embed" not in n]
    inside = set(map(id, layers))
    decayed = [p for n, p in named if p.ndim >= 2 and "embed" not in n and id(p) not in inside]
    rest = [p for n, p in named if p.ndim < 2 or "embed" in n]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]
    precision = torch.bfloat16 if bf16 else torch.float32
    groups += [{"params": layers, "weight_decay": weight_decay, "muon": muon, "precision": precision}] if layers else []
    return MuonAdamW(groups, lr=rate, betas=(0.9, 0.98), fused=fused or None)
