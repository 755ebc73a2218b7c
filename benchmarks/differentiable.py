"""The projector in torch on the fastest device there is, beside the compiled one: `python -m benchmarks.differentiable`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from training.drr import Geometry, differentiable, line_integrals
from training.images.types import CT

VIEWS = {"PA": (0.0, 0.0, 0.0), "lateral": (90.0, 0.0, 0.0), "oblique": (30.0, -20.0, 15.0)}
ROUNDS = 5


def body(slices: int, edge: int) -> CT:
    """An oval cylinder with a sphere and a fine pattern in it, [slices, edge, edge], 358 x 358 x 300 mm."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in (slices, edge, edge)), indexing="ij")
    hu = 900 * ((x / 0.9) ** 2 + (y / 0.6) ** 2 < 1) + 400 * ((x - 0.3) ** 2 + y**2 + z**2 < 0.1)
    hu = hu + 100 * np.sin(20 * x) * np.cos(15 * z)
    return CT(hu.astype(np.int16), (358.4 / edge, 358.4 / edge, 300 / slices), (-179.0, -179.0, -150.0))


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Mean of some rounds after a first one [s]."""
    wait = torch.accelerator.synchronize if device.type != "cpu" else (lambda: None)
    work()
    wait()
    tic = time.perf_counter()
    for _ in range(ROUNDS):
        work()
    wait()
    return (time.perf_counter() - tic) / ROUNDS


def main(slices: int = 300, edge: int = 512, pixels: int = 512) -> None:
    """Print the differences and the times of three views, and the time of one with gradients."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    ct = body(slices, edge)
    values = torch.from_numpy(ct.hu.astype(np.float32)).to(device)
    print(f"{edge} x {edge} x {slices} voxels, {pixels} px, {device}, {torch.get_num_threads()} threads")
    for name, (primary, secondary, roll) in VIEWS.items():
        geometry = Geometry.view(ct, primary, secondary, roll=roll, rows=pixels, columns=pixels, spacing=(410 / pixels,) * 2)
        expected = line_integrals(ct.hu, ct, geometry)
        seen = differentiable.line_integrals(values, ct, geometry).cpu().numpy()
        off = np.sqrt(((seen - expected) ** 2).mean() / (expected**2).mean())
        compiled = seconds(lambda g=geometry: line_integrals(ct.hu, ct, g), torch.device("cpu"))  # type: ignore[misc]
        in_torch = seconds(lambda g=geometry: differentiable.line_integrals(values, ct, g), device)  # type: ignore[misc]
        print(f"{name:8s} difference {off:.1e} of the rms, compiled {1e3 * compiled:.0f} ms, torch {1e3 * in_torch:.0f} ms")

    def both_ways() -> None:
        learnt, pose = values.clone().requires_grad_(), differentiable.pose_of(geometry).to(device).requires_grad_()
        differentiable.line_integrals(learnt, ct, geometry, pose).sum().backward()

    print(f"{name:8s} with gradients for values and pose: {1e3 * seconds(both_ways, device):.0f} ms")


if __name__ == "__main__":
    main()
