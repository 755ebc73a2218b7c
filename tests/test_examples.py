"""What the README and the pages of docs/ tell a reader to type: commands are parsed; the README's and the Python blocks run.

They run in one folder on small stand-ins: the procedural thorax for the sample CT, few views, few pixels, few steps.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from training.cli.entry import _COMMANDS, _SAMPLES, _parse, main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(chexanatomy [^`]+)`")
OPTION = re.compile(r"--[a-z][a-z-]*")
START = re.compile(r"(?:^chexanatomy|.*-m training\.cli) (?=\w)")
SMALL = {
    "render": "--size 96 96",
    "synthesize": "--phantoms 1 --views-per-subject 1 --size 64",
    "train": "--steps 1 --image-size 64 --images 1 --queries 2 --threads 1",
    "evaluate": "--split all --limit 1 --structures heart",
    "adapt": "--steps 1 --threads 1",
}
"""What is typed after a command of the README so that it runs in seconds: of two values the last one counts."""
FEWER = {
    "steps=1000": "steps=4",
    "limit=40_000": "limit=8",
    'limit=4_000, split="test"': "limit=8, split=None",
    "max_iter=15": "max_iter=1",
    'Dataset.open("dataset")': 'Dataset.open("data")',
    '"left pacemaker", "adapter")': '"left pacemaker", "taught", AdaptSettings(steps=1))',
}
"""The same for the Python blocks."""
PYTHON = [
    pytest.param(block, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, (kind, block) in enumerate(FENCED.findall(page.read_text(encoding="utf-8")))
    if kind == "python"
]


def commands(page: Path) -> list[tuple[str, bool]]:
    """(command line, whether it is complete): those in blocks are, unless they say "..."; a mention in the text need not be."""
    text = page.read_text(encoding="utf-8")
    found = [(line, False) for line in INLINE.findall(FENCED.sub("", text))]
    for _, block in FENCED.findall(text):
        lines = [line.partition(" #")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
        found += [(line, "..." not in line) for line in lines if START.match(line)]
    return [(START.sub("", line, count=1), complete) for line, complete in found]


def every_command() -> list[Any]:
    return [pytest.param(*one, id=f"{page.stem}-{one[0][:60]}") for page in PAGES for one in commands(page)]


@functools.cache
def options(command: str) -> set[str]:
    """The options that a command knows, as its own help lists them."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        _parse([*command.split(), "--help"])
    return set(OPTION.findall(said.getvalue()))


@pytest.mark.parametrize(("line", "complete"), every_command())
def test_commands_in_the_documentation_exist_as_they_are_written(line: str, complete: bool) -> None:
    words = shlex.split(line)
    name = " ".join(words[: 2 if words[0] == "sample" else 1])
    assert name in _COMMANDS or name.removeprefix("sample ") in _SAMPLES
    if not complete:
        assert set(OPTION.findall(line)) <= options(name)
        return
    parsed = _parse(words)
    if name == "train":
        from training.fit import PretrainConfig
        from training.fit.settings import changed

        changed(PretrainConfig(datasets=parsed.dataset, out=parsed.out), parsed.set)  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who typed every command of the README, with the computed thorax as the sample CT."""
    here = tmp_path_factory.mktemp("reader")
    mentions = {START.sub("", line) for line in INLINE.findall((ROOT / "README.md").read_text(encoding="utf-8"))}
    with contextlib.chdir(here):
        for line, _ in commands(ROOT / "README.md"):
            words = shlex.split(line)
            if words[0] == "demo" or line in mentions:
                continue
            if words[0] == "sample":
                words = ["sample", "phantom", words[-1], "--spacing", "6"]
            if words[0] == "suggest":
                for kind, source in (("images", "pa/radiograph.png"), ("masks", "pa/masks/heart.png")):
                    Path("few", kind).mkdir(parents=True)
                    shutil.copy(source, Path("few", kind, "a.png"))
            assert main([*words, *SMALL.get(words[0], "").split(), "--progress", "none"]) == 0, line
    return here


def test_the_commands_of_the_readme_work_one_after_the_other(folder: Path) -> None:
    made = ("found/predictions.json", "data/cases.jsonl", "run/checkpoint", "report/report.md", "adapter", "shards", "masks.json")
    assert [name for name in made if not (folder / name).exists()] == []


@pytest.fixture
def known(folder: Path) -> dict[str, Any]:
    """The names that a block of Python takes from the text around it."""
    from training import drr
    from training.fit import AdaptSettings
    from training.images import read_ct, read_mask_png, read_radiograph
    from training.model import Finding

    ct, radiograph = read_ct(folder / "lidc/ct.nii.gz"), read_radiograph(folder / "pa/radiograph.png")
    masks = {name: read_mask_png(folder / f"pa/masks/{name}.png") for name in ("heart", "lung_left", "lung_right")}
    findings = [Finding(structure=name, present=True, box=None, mask=mask, confidence=1.0, tokens=(), text="")
                for name, mask in masks.items()]  # fmt: skip
    return {
        **vars(drr), "ct": ct, "geometry": drr.Geometry.load(folder / "pa/geometry.json"), "physics": drr.PHYSICS["stand"],
        "presentation": drr.PRESENTATIONS["digital"], "radiograph": radiograph, "reference": masks["heart"], "findings": findings,
        "drawn": [(radiograph, masks["heart"])], "AdaptSettings": AdaptSettings,
    }  # fmt: skip


@pytest.mark.parametrize("block", PYTHON)
def test_python_in_the_documentation_runs(block: str, known: dict[str, Any], folder: Path) -> None:
    for said, smaller in FEWER.items():
        block = block.replace(said, smaller)
    with contextlib.chdir(folder):
        exec(compile(block, "documentation", "exec"), known)
