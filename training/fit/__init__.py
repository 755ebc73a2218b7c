"""Teaching models: pre-training on synthetic cases, few-shot adaptation, the mask codebook. Names are loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.fit.adaptation import adapt
    from training.fit.augment import Augmentation
    from training.fit.examples import Adapter, AdaptSettings, Example
    from training.fit.pretraining import pretrain
    from training.fit.queries import Tasks
    from training.fit.settings import PretrainConfig

_HOMES = {
    "AdaptSettings": "examples",
    "Adapter": "examples",
    "Example": "examples",
    "adapt": "adaptation",
    "Augmentation": "augment",
    "PretrainConfig": "settings",
    "pretrain": "pretraining",
    "Tasks": "queries",
}

__all__ = ["AdaptSettings", "Adapter", "Augmentation", "Example", "PretrainConfig", "Tasks", "adapt", "pretrain"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"training.fit.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'training.fit' has no attribute {name!r}")
