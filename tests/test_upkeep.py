"""What has to be kept beside the code: every dependency's licence, versions that agree, files that a wheel must hold."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from training import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def required() -> dict[str, str]:
    lines = [*PROJECT["dependencies"], *(line for group in PROJECT["optional-dependencies"].values() for line in group)]
    found = {re.split(r"[\[<>=]", line)[0]: line for line in lines}
    return {name: line for name, line in found.items() if name != PROJECT["name"]}


def test_every_dependency_has_its_licence_listed() -> None:
    listed = set()
    for row in (ROOT / "docs/licences.md").read_text(encoding="utf-8").partition("## What it needs")[2].splitlines():
        if row.startswith("| ") and row.count("|") == 4:
            listed |= {name.strip() for name in row.split("|")[1].split(",")}
    assert set(required()) <= listed
    assert listed - {"package"} <= set(required())


def test_every_dependency_has_a_lower_bound_and_a_tested_version() -> None:
    tested = {line.split("==")[0].casefold() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    for name, line in required().items():
        assert ">=" in line, line
        assert name.casefold() in tested, name


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == __version__
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"## {__version__} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_every_page_has_its_place_in_the_site() -> None:
    listed = set(re.findall(r": ([\w/.]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} <= listed


def test_no_unit_after_a_shape_reads_as_a_link_in_the_site() -> None:
    for file in [*(ROOT / "training").rglob("*.py"), *(ROOT / "napari_chexanatomy").rglob("*.py")]:
        assert not re.findall(r"\] \[[A-Za-z]\w*[,\] ]", file.read_text(encoding="utf-8")), file


def test_npe2_finds_nothing_wrong_with_the_manifest() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "npe2", "validate", str(ROOT / "napari_chexanatomy/napari.yaml")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
