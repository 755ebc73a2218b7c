"""Models that look at a radiograph and write anatomy as tokens. Names are loaded when they are first used: torch is heavy."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.model.checkpoint import Checkpoint, save_checkpoint
    from training.model.loading import load_checkpoint
    from training.model.predictor import Finding, Predictor, load

_HOMES = {
    "Checkpoint": "checkpoint",
    "save_checkpoint": "checkpoint",
    "load_checkpoint": "loading",
    "Finding": "predictor",
    "Predictor": "predictor",
    "load": "predictor",
}

__all__ = ["Checkpoint", "Finding", "Predictor", "load", "load_checkpoint", "save_checkpoint"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"training.model.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'training.model' has no attribute {name!r}")
