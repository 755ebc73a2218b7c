"""Folders and lines that survive a stop in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.folders import recover_folder, replacing_folder


def test_the_old_folder_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    with replacing_folder(target) as folder:
        (folder / "a").write_text("old")

    def stop_half_way() -> None:
        with replacing_folder(target) as folder:
            (folder / "a").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stop_half_way()
    assert (target / "a").read_text() == "old"
    with replacing_folder(target) as folder:
        assert not list(folder.iterdir())
        (folder / "b").write_text("new")
    assert [p.name for p in target.iterdir()] == ["b"]
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_stop_between_the_two_moves_is_made_good(tmp_path: Path) -> None:
    old = tmp_path / ".adapter.old"
    old.mkdir()
    (old / "a").write_text("old")
    recover_folder(tmp_path / "adapter")
    assert (tmp_path / "adapter/a").read_text() == "old"
    old.mkdir()
    recover_folder(tmp_path / "adapter")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]
