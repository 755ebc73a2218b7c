"""Folders that appear whole or not at all, also where the machine stops in the middle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target` and put it in its place when the block ends well; the old one goes only then."""
    recover_folder(target)
    part, old = _part(target), _old(target)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    if target.exists():
        os.replace(target, old)
    os.replace(part, target)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: Path) -> None:
    """Put the old folder back where a replacement was stopped between taking it away and putting the new one there."""
    old = _old(target)
    if not old.exists():
        return
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
    else:
        os.replace(old, target)


def _part(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")
