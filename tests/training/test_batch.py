"""Many radiographs with a model that answers at once: which files are taken, where their masks go, on which pixels they lie."""

from __future__ import annotations

import csv
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training.batch import image_files, sources_of
from training.cli import main
from training.errors import Cancelled
from training.evaluate import from_folders
from training.filenames import file_stem
from training.images import Radiograph, read_coco, read_masks, read_radiograph, write_radiograph_dicom
from training.images.coco import turn_in
from training.images.dicom_write import made_up
from training.images.turning import Turn
from training.model import Finding
from training.results import read_findings

MASK = np.zeros((48, 64), bool)
MASK[5:20, 3:10] = True
"""What the model finds, on the picture as it sees it: patient right on image left."""
BOX = (5.0, 3.0, 20.0, 10.0)


class Model:
    """Finds MASK whatever is asked; `before` is called with the number of the question."""

    def __init__(self, before: Callable[[int], None] = lambda number: None) -> None:
        self.before, self.asked = before, 0
        self.card: dict[str, Any] = {}

    def untaught(self, names: Sequence[str]) -> list[str]:
        return []

    def segment(self, radiograph: Radiograph, structures: Sequence[str], accurate: bool = False, **_: Any) -> list[Finding]:
        self.before(self.asked)
        self.asked += 1
        assert radiograph.pixels.shape == MASK.shape
        chance = MASK.astype(np.float32) if accurate else None
        return [Finding(name, True, BOX, MASK, 0.9, ("<loc0000>",), name, chance) for name in structures]


Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run `predict` with a model of this module and return its exit status and complaints."""

    def run(*arguments: object, model: Model | None = None) -> tuple[int, str]:
        monkeypatch.setattr("training.model.load", lambda *_, **__: model or Model())
        status = main(["predict", *map(str, arguments), "--progress", "none"])
        return status, capsys.readouterr().err

    return run


def picture(path: Path, **keywords: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, MASK.shape, np.uint8)).save(
        path, "JPEG" if path.suffix == ".jpg" else "PNG", **keywords
    )
    return path


def dicom(path: Path, orientation: Sequence[str] = ("L", "F"), **entries: str) -> Path:
    """A DICOM radiograph that reads as MASK.shape, stored as its orientation says."""
    import pydicom

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).random(MASK.shape, dtype=np.float32)
    write_radiograph_dicom(Radiograph(pixels), path, None, made_up("someone", image=path.name))
    dataset = pydicom.dcmread(path)
    stored = np.ascontiguousarray(as_stored(dataset.pixel_array, orientation))
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = stored.tobytes()
    dataset.PatientOrientation = list(orientation)
    for keyword, value in entries.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


def as_stored(seen: np.ndarray, orientation: Sequence[str]) -> np.ndarray:
    """An array on the picture as it is seen, put onto the grid of a file of that orientation."""
    across, down = orientation
    if across in "HF":
        return as_stored(seen, (down, across)).T
    return seen[:: -1 if down == "H" else 1, :: -1 if across == "R" else 1]


TURNED = [("R", "F"), ("L", "H"), ("R", "H"), ("F", "L"), ("H", "R"), ("F", "R")]


@pytest.mark.parametrize("orientation", TURNED, ids="".join)
def test_masks_lie_on_the_files_own_pixels_and_references_are_taken_there(
    ask: Ask, tmp_path: Path, orientation: tuple[str, str]
) -> None:
    image = dicom(tmp_path / "turned.dcm", orientation)
    expected = as_stored(MASK, orientation)
    (tmp_path / "drawn").mkdir()
    Image.fromarray(expected).save(tmp_path / "drawn/heart.png")
    options = ("--structures", "heart", "--references", tmp_path / "drawn", "--accurate", "--also", "coco")
    status, complaint = ask(image, *options, "--out", tmp_path / "out")
    assert status == 0
    assert "by its stated orientation" in complaint

    for file in ("heart.png", "heart.probability.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/turned" / file)) > 0, expected)
    assert set(np.unique(np.asarray(Image.open(tmp_path / "out/turned/heart.overlap.png")))) == {0, 1}
    (row,) = csv.DictReader((tmp_path / "out/agreement.csv").open())
    assert float(row["dice"]) == 1
    (coco,) = read_coco(tmp_path / "out/coco.json")
    np.testing.assert_array_equal(coco.masks["heart"], expected)

    (record,) = json.loads((tmp_path / "out/predictions.json").read_text())
    assert record["size"] == list(expected.shape)
    assert any("orientation" in note for note in record["notes"])
    rows, columns = np.flatnonzero(expected.any(1)), np.flatnonzero(expected.any(0))
    box = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
    assert record["findings"][0]["box"] == box
    (table,) = csv.DictReader((tmp_path / "out/findings.csv").open())
    assert [float(table[edge]) for edge in ("top", "left", "bottom", "right")] == box
    (finding,) = read_findings(record)
    np.testing.assert_array_equal(finding.mask, MASK, "as the picture is read")
    assert finding.box == BOX

    (scored,) = from_folders([(image, tmp_path / "drawn/heart.png")], "heart")
    np.testing.assert_array_equal(scored.references["heart"], MASK)


@pytest.mark.parametrize("source", ["predictions.json", "turned", "coco.json"])
def test_masks_of_a_turned_image_are_converted_without_losing_their_place(ask: Ask, tmp_path: Path, source: str) -> None:
    image = dicom(tmp_path / "turned.dcm", ("F", "R"))
    assert ask(image, "--structures", "heart", "--also", "coco", "--out", tmp_path / "out")[0] == 0
    to_dicom = ("--form", "dicom", "--attach", "--image", str(image), "--out", str(tmp_path / "seg"))
    assert main(["convert", str(tmp_path / "out" / source), *to_dicom]) == 0
    (seg,) = read_masks(tmp_path / "seg/masks.dcm")
    np.testing.assert_array_equal(seg.masks["heart"], MASK)
    assert main(["convert", str(tmp_path / "seg/masks.dcm"), "--form", "png", "--out", str(tmp_path / "png")]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "png/heart.png")) > 0, as_stored(MASK, ("F", "R")))


def test_a_picture_that_asks_to_be_turned_is_told(ask: Ask, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 2
    image = picture(tmp_path / "a.jpg", exif=exif)
    assert read_radiograph(image).notes
    status, complaint = ask(image, "--structures", "heart", "--out", tmp_path / "out")
    assert status == 0
    assert "check left and right" in complaint


def test_masks_of_an_earlier_run_make_room_and_what_others_wrote_stays(ask: Ask, tmp_path: Path) -> None:
    images = [picture(tmp_path / f"{name}.png") for name in "ab"]
    out = tmp_path / "out"
    picture(out / "a/mine.png")
    picture(tmp_path / "drawn/heart.png")
    options = ("--structures", "heart,liver", "--accurate", "--references", tmp_path / "drawn", "--out", out)
    assert ask(images[0], *options)[0] == 0
    assert len(list((out / "a").iterdir())) == 6
    assert ask(images[1], "--structures", "heart", "--out", out)[0] == 0
    assert len(list((out / "a").iterdir())) == 6, "another image's"
    assert ask(*images, "--structures", "heart", "--out", out)[0] == 0
    assert ask(*images, "--structures", "spine", "--out", out)[0] == 0
    assert {path.name for path in (out / "b").iterdir()} == {"spine.png"}
    again = tmp_path / "again"
    picture(again / "a/mine.png")
    assert ask(images[0], *options[:-1], again)[0] == 0
    assert ask(images[0], "--structures", "spine", "--out", again)[0] == 0
    assert {path.name for path in (again / "a").iterdir()} == {"spine.png", "mine.png"}


def test_an_earlier_predictions_file_leads_nowhere_else(ask: Ask, tmp_path: Path) -> None:
    image, victim = picture(tmp_path / "a.png"), picture(tmp_path / "victim.png")
    (tmp_path / "out").mkdir()
    records = [
        {"image": "a.png", "folder": "a", "size": [1, 1], "findings": [{"structure": "../../victim", "file": "../victim.png"}]}
    ]
    (tmp_path / "out/predictions.json").write_text(json.dumps(records))
    assert ask(image, "--structures", "heart", "--out", tmp_path / "out")[0] == 0
    assert victim.exists()


@pytest.mark.parametrize("findings", [None, ["heart"], [{}], {"structure": "heart"}])
def test_a_damaged_predictions_file_is_written_over(ask: Ask, tmp_path: Path, findings: object) -> None:
    image, out = picture(tmp_path / "a.png"), tmp_path / "out"
    out.mkdir()
    (out / "predictions.json").write_text(json.dumps([{"image": "a.png", "folder": "a", "size": [1, 1], "findings": findings}]))
    assert ask(image, "--structures", "heart", "--out", out)[0] == 0
    assert json.loads((out / "predictions.json").read_text())[0]["findings"][0]["structure"] == "heart"
    (out / "predictions.json").write_text("[" * 100_000)
    assert ask(image, "--structures", "heart", "--out", out)[0] == 0
    assert {path.name for path in out.iterdir()} == {"a", "predictions.json", "findings.csv"}


@pytest.mark.parametrize("turned", [None, [], "up", {"upside": True}, {"mirrored": 0}])
def test_a_record_that_says_nonsense_of_turns_was_not_turned(turned: object) -> None:
    assert turn_in({"turned": turned}) == Turn()


def test_a_structure_by_several_names_is_asked_for_once(ask: Ask, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png")
    assert ask(image, "--structures", "heart,Heart,heart shadow,liver", "--out", tmp_path / "out")[0] == 0
    assert [row["structure"] for row in csv.DictReader((tmp_path / "out/findings.csv").open())] == ["heart", "liver"]


@pytest.mark.parametrize("name", ["...png", "..png", "... .png"])
def test_no_name_of_an_image_leads_out_of_the_results(ask: Ask, tmp_path: Path, name: str) -> None:
    image, out = picture(tmp_path / "in" / name), tmp_path / "far/out"
    before = set(tmp_path.rglob("*"))
    assert ask(tmp_path / "in" / name, "--structures", "heart", "--out", out)[0] == 0
    written = set(tmp_path.rglob("*")) - before - {out.parent, out}
    assert written
    assert all(out in path.parents for path in written)
    assert [source.folder for source in sources_of([image, image])] == ["_", "_-2"]


def test_dicom_without_an_ending_is_taken_and_what_is_passed_over_is_told(ask: Ask, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    taken = [dicom(folder / name) for name in ("1.2.3", "1.2.4", "IM000001")] + [picture(folder / "a.png")]
    for name in ("notes.txt", "a.json", ".hidden", "DICOMDIR"):
        (folder / name).write_text("text")
    assert image_files([folder]) == taken
    status, complaint = ask(folder, "--structures", "heart", "--out", tmp_path / "out")
    assert status == 0
    assert complaint.splitlines()[0] == f"chexanatomy: {folder}: passed over what is no radiograph: notes.txt"
    assert {path.parent.name for path in (tmp_path / "out").rglob("heart.png")} == {"1.2.3", "1.2.4", "IM000001", "a"}


def test_references_go_by_the_files_own_name_where_it_names_the_patient(ask: Ask, tmp_path: Path) -> None:
    images = [dicom(tmp_path / f"{name}.dcm", PatientName="Noether^Emmy") for name in ("noether_1", "noether_2")]
    drawn = picture(tmp_path / "drawn/noether_1/heart.png")
    status, complaint = ask(*images, "--structures", "heart", "--references", drawn.parents[1], "--out", tmp_path / "out")
    assert status == 2
    assert len(list(csv.DictReader((tmp_path / "out/agreement.csv").open()))) == 1
    assert "nor one by its file's own name" in complaint
    assert "noether" not in "".join(str(path) for path in (tmp_path / "out").rglob("*"))


def test_no_part_of_a_name_without_an_ending_is_kept(tmp_path: Path) -> None:
    (source,) = sources_of([dicom(tmp_path / "Emmy.Noether", PatientName="Noether^Emmy")])
    assert "oether" not in source.name + source.folder


def test_coco_has_what_was_found_until_it_was_stopped(ask: Ask, tmp_path: Path) -> None:
    def stop(number: int) -> None:
        if number == 1:
            raise Cancelled("stopped")

    images = [picture(tmp_path / f"{name}.png") for name in "abc"]
    status, _ = ask(*images, "--structures", "heart", "--also", "coco", "--out", tmp_path / "out", model=Model(stop))
    assert status == 130
    assert [one.image for one in read_coco(tmp_path / "out/coco.json")] == ["a.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_is_written_with_a_sign_in_its_place(ask: Ask, tmp_path: Path) -> None:
    names = os.fsdecode(b"caf\xe9.png"), "b.png"
    for name in names:
        picture(tmp_path / "in" / name)
    status, complaint = ask(tmp_path / "in", "--structures", "heart", "--also", "coco", "--out", tmp_path / "out")
    assert (status, complaint) == (0, "")
    rows = list(csv.DictReader((tmp_path / "out/findings.csv").open(encoding="utf-8")))
    assert {Path(row["image"]).name for row in rows} == {"b.png", "caf\ufffd.png"}
    assert {row["file"] for row in rows} == {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").glob("*/*")}
    assert [one.image for one in read_coco(tmp_path / "out/coco.json")] == ["b.png", "caf\ufffd.png"]


@pytest.mark.parametrize("letter", ["x", "心", "𝛼"])
def test_names_are_cut_to_what_a_file_system_takes(ask: Ask, tmp_path: Path, letter: str) -> None:
    image, structure = picture(tmp_path / f"{letter * (250 // len(letter.encode()))}.png"), letter * 300
    status, _ = ask(image, image, "--structures", structure, "--accurate", "--out", tmp_path / "out")
    assert status == 0
    assert file_stem(structure) == letter * (220 // len(letter.encode()))
    (row,) = csv.DictReader((tmp_path / "out/findings.csv").open(encoding="utf-8"))
    assert (tmp_path / "out" / row["file"]).is_file()


def test_a_link_to_itself_is_one_sentence(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    status, complaint = ask(tmp_path / "loop.png", "--structures", "heart", "--out", tmp_path / "out")
    assert status == 2
    assert complaint == f"chexanatomy: There is no file or folder at {tmp_path / 'loop.png'}.\n"


def test_results_in_the_place_of_something_else_are_one_sentence(ask: Ask, tmp_path: Path) -> None:
    image, file, taken = picture(tmp_path / "a.png"), picture(tmp_path / "file"), tmp_path / "taken"
    assert ask(image, "--structures", "heart", "--out", file) == (2, f"chexanatomy: {file / 'a'}: not a directory\n")
    (taken / "predictions.json").mkdir(parents=True)
    status, complaint = ask(image, "--structures", "heart", "--out", taken)
    assert status == 2
    assert complaint == f"chexanatomy: {taken / 'predictions.json'} is a folder: choose another one for the results.\n"
    assert [path.name for path in taken.iterdir()] == ["predictions.json"]


def test_a_record_that_cannot_be_written_is_one_sentence(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ignored: list[Any] = []

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("training.batch.write_json", full)
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    status, complaint = ask(picture(tmp_path / "a.png"), "--structures", "heart", "--out", tmp_path / "out")
    assert (status, complaint, ignored) == (2, "chexanatomy: no space left on device\n", [])
