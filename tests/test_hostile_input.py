"""Nothing that is opened runs code, leaves its folder, uses the network unasked, or acts on the window that shows its words."""

from __future__ import annotations

import ast
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests import corpus_models
from tests.conftest import ROOT
from training.cli import main
from training.cli.look import Info
from training.errors import BrokenModel, ChexanatomyError
from training.images.paths import leads_outside
from training.model import load_checkpoint
from training.plain import inert, is_plain, plain

OWN_PIPES = {"napari_chexanatomy/preview.py", "napari_chexanatomy/preview_server.py"}
"""The window's own child, which it talks to over pipes that nobody else holds."""


def calls() -> list[tuple[str, ast.Call, str]]:
    """Every call in the two packages: file, call, and the called name as written."""
    found = []
    for package in ("training", "napari_chexanatomy"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    found.append((path.relative_to(ROOT).as_posix(), node, ast.unparse(node.func)))
    return found


def test_no_pickle_no_foreign_code_and_no_shell() -> None:
    for file, call, name in calls():
        options = {k.arg: ast.unparse(k.value) for k in call.keywords}
        assert not name.startswith(("pickle.", "marshal.", "shelve.", "yaml.", "joblib.")) or file in OWN_PIPES, (file, name)
        assert name not in ("eval", "exec", "torch.load", "os.system", "tarfile.open().extractall"), (file, name)
        assert not name.endswith(("extractall", "unpack_archive")), (file, name)
        assert options.get("allow_pickle", "False") == "False", file
        assert options.get("trust_remote_code", "False") == "False", file
        assert options.get("shell", "False") == "False", file
        if name.endswith(".from_pretrained"):
            assert options.get("trust_remote_code") == "False", file
            assert options.get("local_files_only") == "True", file


@pytest.mark.parametrize("name", ["/x", "../x", "a/../../x", "C:\\x", "c:x", "\\\\host\\x", "~/x", "", "http://x/y", "a\0b"])
def test_names_that_lead_out_are_known(name: str) -> None:
    assert leads_outside(name)


@pytest.mark.parametrize("name", ["x.raw", "a/b.raw", "ct..raw", "x~1"])
def test_names_that_stay_are_left_alone(name: str) -> None:
    assert not leads_outside(name)


def test_what_is_shown_acts_on_nothing() -> None:
    hostile = "<img src='file:///etc/x'>\x1b[31m\nred {0.__class__} %s \u202egnp.exe"
    assert is_plain(plain(hostile))
    assert "\n" not in str(ChexanatomyError(hostile))
    assert "<" not in inert(hostile)
    assert "{0.__class__} %s" in plain(hostile)
    assert len(plain("x" * 10_000)) < 1000
    assert plain("Lunge links, größer als 5 µm → 中") == "Lunge links, größer als 5 µm → 中"


def test_only_a_hub_id_that_was_asked_for_is_fetched_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        tried.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    said: list[str] = []
    load_checkpoint(corpus_models.good(tmp_path / "a"), say=said.append)
    load_checkpoint(corpus_models.adapter("model")(tmp_path / "b"), say=said.append)
    with pytest.raises(BrokenModel, match="not on this machine"):
        load_checkpoint(corpus_models.adapter("nobody/nothing-at-all")(tmp_path / "c"), say=said.append)
    assert (tried, said) == ([], [])
    with pytest.raises(BrokenModel, match="neither in the local cache nor reachable"):
        load_checkpoint("nobody/nothing-at-all", say=said.append)
    assert tried
    assert said == ["fetching nobody/nothing-at-all from the Hugging Face hub"]


def _deep(_: object) -> int:
    return int(json.loads("[" * 100_000))


def _no_utf8(_: object) -> int:
    return len("\udce9".encode())


@pytest.mark.parametrize(("run", "said"), [(_deep, "nested too deeply"), (_no_utf8, "not in UTF-8")])
def test_what_no_reader_caught_is_one_sentence(
    run: Any, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Info, "run", run)
    assert main(["info"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert said in complaint
