from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(ROOT / "napari.yaml")


def test_the_manifest_at_the_top_is_the_one_in_the_package():
    assert (ROOT / "napari.yaml").resolve() == ROOT / "napari_chexanatomy" / "napari.yaml"


def test_every_command_of_the_manifest_can_be_imported(manifest):
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert callable(getattr(importlib.import_module(module), name)), command.id


def test_the_welcome_the_four_widgets_and_two_samples_are_offered(manifest):
    assert [w.display_name for w in manifest.contributions.widgets] == ["Welcome", "Radiograph", "Predict", "Review", "Few-shot"]
    assert {s.key for s in manifest.contributions.sample_data} == {"lidc", "phantom"}


def test_menu_entries_stand_where_napari_allows_them(manifest):
    from napari._app_model.constants._menus import is_menu_contributable

    assert manifest.contributions.menus
    for menu in manifest.contributions.menus:
        assert is_menu_contributable(menu), menu


def test_importing_the_desk_loads_nothing_heavy():
    heavy = "{'torch', 'transformers', 'SimpleITK', 'numba', 'napari', 'qtpy', 'numpy'}"
    code = f"import sys, napari_chexanatomy; print(sorted({heavy} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_reading_a_ct_loads_neither_torch_nor_transformers():
    modules = "napari_chexanatomy.readers, napari_chexanatomy.layers"
    code = f"import sys, {modules}; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
