"""Features evened out before the decoder reads them, and how a model comes to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import ROOT
from training.model import load
from training.model.evened import EvenedProjector


def features(images: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(images, 40, 6, generator=generator) * torch.tensor([1.0, 3.0, 0.2, 2.0, 1.0, 5.0]) + 2.0


def test_without_a_share_a_projector_is_paligemmas_own():
    linear = nn.Linear(6, 4)
    assert torch.allclose(EvenedProjector(linear, 0.0)(features()), linear(features()), atol=1e-3)


def test_with_the_whole_share_neither_brightness_nor_contrast_of_features_matters():
    projector = EvenedProjector(nn.Linear(6, 4), 1.0)
    projector.learn([features()])
    seen = features()
    assert torch.allclose(projector(seen * 1.7 - 0.4), projector(seen), atol=1e-3)
    half = EvenedProjector(projector.linear, 0.5)
    half.learn([features()])
    assert not torch.allclose(half(seen * 1.7 - 0.4), half(seen), atol=1e-2)


def test_what_is_usual_is_the_mean_style_of_the_images():
    projector = EvenedProjector(nn.Linear(6, 4), 0.5)
    seen = features(5)
    projector.learn([seen[:2], seen[2:]])
    assert torch.allclose(projector.middle, seen.mean(1).mean(0))
    assert torch.allclose(projector.spread, seen.std(1).mean(0))


@pytest.fixture
def evened(tmp_path: Path) -> Path:
    """The embedded model with evened features, by the tool."""
    out, data = tmp_path / "evened", tmp_path / "data"
    made = [sys.executable, "-m", "training.cli", "synthesize", "--phantoms", "1", "--views-per-subject", "2", "--size", "128"]
    subprocess.run([*made, "--progress", "none", "--out", str(data)], cwd=ROOT, check=True, capture_output=True, timeout=300)
    tool = [sys.executable, str(ROOT / "tools" / "even_features.py"), "embedded", "--dataset", str(data)]
    subprocess.run([*tool, "--share", "0.25", "--out", str(out)], cwd=ROOT, check=True, capture_output=True, timeout=300)
    again = subprocess.run([*tool, "--share", "1.5", "--out", str(out)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "up to 1" in again.stderr
    return out


def test_a_model_with_evened_features_is_written_and_read(evened: Path):
    projector = load(evened).model.model.multi_modal_projector
    assert isinstance(projector, EvenedProjector)
    assert projector.share == 0.25
    assert projector.spread.std() > 0
    assert (projector.spread > 0).all()
    before = load("embedded").model.model.multi_modal_projector
    assert torch.equal(projector.linear.weight, before.linear.weight)
