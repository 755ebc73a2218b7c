"""A procedural thorax: CT and labels of a person who never lived, another one for every seed."""

from __future__ import annotations

from typing import Any

__all__ = ["ThoraxParameters", "thorax"]


def __getattr__(name: str) -> Any:
    if name == "thorax":
        from training.phantom.assembly import thorax

        return thorax
    if name == "ThoraxParameters":
        from training.phantom.parameters import ThoraxParameters

        return ThoraxParameters
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
