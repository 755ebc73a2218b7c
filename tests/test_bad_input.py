"""The whole corpus through the Python calls and the command line: read, or refused in one sentence with nothing left behind."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import corpus_models
from tests.corpus import Entry, entries, write
from tests.fuzz.targets import assert_one_sentence
from training.cli import main
from training.dataset import Dataset, export_folders
from training.errors import ChexanatomyError
from training.images import read_ct, read_labels, read_radiograph

CORPUS = entries()


def test_the_corpus_holds_as_many_broken_and_odd_things_as_its_page_says() -> None:
    refused = sum(bool(entry.refused) for entry in CORPUS)
    assert refused >= 60
    assert len(CORPUS) >= 100
    page = (Path(__file__).parents[1] / "docs/trust.md").read_text(encoding="utf-8")
    assert f" {len(CORPUS)} broken, odd and hostile things" in page
    assert f" {refused} are to be refused" in page


def fingerprint(folder: Path) -> dict[str, str]:
    """What lies in a folder, byte by byte; the data set's own review file may be made by opening it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "reviews.sqlite"
    }


def opened(entry: Entry, path: Path, out: Path) -> Any:
    """Open an entry with the Python call of its kind."""
    match entry.kind:
        case "ct":
            return read_ct(path)
        case "labels":
            return read_labels(path, read_ct(path.with_name("ct.nii.gz")))
        case "radiograph":
            return read_radiograph(path)
        case "dataset":
            return export_folders(Dataset.open(path), out)
        case "model":
            from training.model import load

            return load(path)


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chest") / "chest.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus_models.good(tmp_path_factory.mktemp("good"))


def command(entry: Entry, path: Path, out: Path, chest: Path, model: Path) -> list[str]:
    """The command that a person would give for an entry."""
    small = ["--size", "16", "16", "--physics", "ideal", "--out", str(out)]
    match entry.kind:
        case "ct":
            return ["render", str(path), *small]
        case "labels":
            return ["render", str(path.with_name("ct.nii.gz")), "--labels", str(path), *small]
        case "radiograph":
            return ["predict", str(path), "--structures", "heart", "--model", str(model), "--out", str(out)]
        case "dataset":
            return ["export", str(path), "--out", str(out)]
        case "model":
            return ["predict", str(chest), "--structures", "heart", "--model", str(path), "--out", str(out)]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """No socket connects and no name is looked up; what was tried is listed and makes the test fail."""
    import socket

    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        tried.append(arguments)
        raise OSError("the network is not to be used")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield tried
    assert not tried


@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry.name)
def test_each_is_read_or_refused_and_changes_nothing(
    entry: Entry, tmp_path: Path, chest: Path, model: Path, capfd: pytest.CaptureFixture[str], no_network: list[Any]
) -> None:
    path = write(entry, tmp_path / "in")
    before = fingerprint(tmp_path)
    out = tmp_path / "out"
    sentence = ""
    if entry.refused:
        with pytest.raises(ChexanatomyError, match=entry.refused) as caught:
            opened(entry, path, out)
        assert_one_sentence(caught.value)
        sentence = str(caught.value)
    else:
        opened(entry, path, tmp_path / "by call")
        before = fingerprint(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not out.exists()
    assert fingerprint(tmp_path) == before

    status = main(command(entry, path, out, chest, model))
    said = capfd.readouterr()
    if not entry.refused:
        assert (status, said.err) == (0, "")
        assert any(out.rglob("*.png"))
        assert "\x1b" not in said.out
        return
    assert status == 2
    assert said.out == ""
    assert said.err == f"chexanatomy: {sentence}\n"
    assert not re.search("Traceback|\x1b", said.err)
    assert not out.exists()
    assert fingerprint(tmp_path) == before
