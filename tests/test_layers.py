"""The house's rules about imports, checked from outside: direction, what the core must not know, and what starting costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def test_imports_run_downwards_and_the_core_knows_no_window() -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("start", ["import napari_chexanatomy", "from training.cli import main; main(['--help'])"])
def test_starting_imports_nothing_heavy(start: str) -> None:
    heavy = ("torch", "transformers", "SimpleITK", "numba", "scipy", "skimage", "pydicom", "monai")
    code = f"import sys\n{start}\nprint('LOADED', [m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "LOADED []" in result.stdout


def test_no_file_is_two_files() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in ("training", "napari_chexanatomy", "tests")
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long
