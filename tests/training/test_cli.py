"""The command line: fixed forms, files written, exit statuses, and one plain line for what is wrong."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT
from training.cli import main
from training.cli.entry import _COMMANDS, _SAMPLES
from training.images import CT, LabelMap, read_radiograph, write_ct_nifti, write_labels_nifti
from training.progress import Progress

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process and return its exit status, its output and its complaints."""

    def command(*arguments: object) -> tuple[int, str, str]:
        status = main([str(a) for a in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small CT: a box of water with two lungs of air, and its labels with a heart on the left."""
    hu = np.full((40, 40, 60), -1000, np.int16)
    hu[2:38, 5:35, 4:56] = 0
    ids = np.zeros(hu.shape, np.uint8)
    ids[8:30, 10:30, 8:26], ids[8:30, 10:30, 34:52] = 1, 2
    hu[ids > 0] = -850
    ids[8:20, 8:16, 28:40] = 3
    hu[ids == 3] = 40
    members = {1: ("lung_right",), 2: ("lung_left",), 3: ("heart",)}
    folder = tmp_path_factory.mktemp("body")
    write_ct_nifti(CT(hu, (5.0, 5.0, 5.0), (0.0, 0.0, 0.0)), folder / "ct.nii.gz")
    write_labels_nifti(LabelMap(ids, members, (5.0, 5.0, 5.0), (0.0, 0.0, 0.0)), folder / "labels.nii.gz")
    return folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a very small model with random weights: its answers are nonsense in the right form."""
    from training.model.checkpoint import create, save_checkpoint
    from training.tokens.codebook import MaskCodebook
    from training.tokens.tokenizer import build_tokenizer

    sizes = {"image_size": 64, "patch": 16, "vision_width": 32, "vision_depth": 1, "text_width": 32, "text_depth": 1}
    codebook = MaskCodebook(widths=(4, 8, 8, 8), code_width=8)
    checkpoint = create(build_tokenizer(), codebook.eval(), text_hidden=64, heads=2, **sizes)
    return save_checkpoint(checkpoint, tmp_path_factory.mktemp("model") / "untrained")


def picture(path: Path, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, size, np.uint8)).save(path)
    return path


def one_line(complaint: str) -> bool:
    return complaint.startswith("chexanatomy: ") and complaint.count("\n") == 1 and "Traceback" not in complaint


@pytest.mark.parametrize("command", [*_COMMANDS, *(f"sample {name}" for name in _SAMPLES)])
def test_every_command_explains_itself_with_an_example(run: Run, command: str) -> None:
    status, out, _ = run(*command.split(), "--help")
    assert status == 0
    assert f"Example: chexanatomy {command}" in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "Expected one of"),
        ("sing", "sing"),
        ("render", "--out"),
        ("render x --out y --view SIDEWAYS", "SIDEWAYS"),
        ("render x --out y --primary north", "north"),
        ("render x --out y --label-names z", "need --labels"),
        ("render nowhere.nii --out y", "nowhere.nii"),
        ("predict --structures , --out y", "at least one structure"),
        ("predict --structures heart --out y", "no radiograph"),
        ("evaluate --out y", "either --dataset, or --images and --masks"),
        ("evaluate --images a --masks b --out y", "--structures"),
        ("synthesize --ct x --out y", "--labels"),
        ("synthesize --out y", "phantoms"),
        ("synthesize --phantoms 1 --seed -5 --out y", "from 0 on"),
        ("synthesize --phantoms 1 --subject s --out y", "--labels"),
        ("synthesize --subjects t.csv --subject s --out y", "not both"),
        ("sample phantom y --seed -1", "from 0 on"),
        ("render x --labels z --structures= --out y", "at least one structure"),
        ("review nowhere", "no data set"),
        ("review nowhere --decide perhaps", "perhaps"),
        ("export nowhere --out y", "no data set"),
        ("adapt --images nowhere --masks nowhere --structure s --out y", "not a folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_writes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, complaint = run(*arguments.split())
    assert status == 2
    assert out == ""
    assert one_line(complaint), complaint
    assert expected in complaint
    assert not list(tmp_path.iterdir())


def test_a_radiograph_its_masks_and_its_geometry_are_written(run: Run, body: Path, tmp_path: Path) -> None:
    status, _, complaint = run(
        *("render", body / "ct.nii.gz", "--labels", body / "labels.nii.gz", "--label-names", body / "labels_names.csv"),
        *("--view", "PA", "--size", 60, 80, "--spacing", 5, "--out", tmp_path / "pa"),
    )
    assert (status, complaint) == (0, "")
    with Image.open(tmp_path / "pa/radiograph.png") as radiograph:
        assert (radiograph.size, radiograph.mode) == ((80, 60), "I;16")
    masks = {p.stem: np.asarray(Image.open(p)) for p in (tmp_path / "pa/masks").iterdir()}
    assert {"lung_left", "lung_right", "lungs", "heart", "lung_field_left"} <= set(masks)
    assert all(m.shape == (60, 80) and set(np.unique(m)) <= {0, 255} for m in masks.values())
    assert np.nonzero(masks["lung_right"])[1].mean() < np.nonzero(masks["lung_left"])[1].mean()


def test_a_rendered_picture_keeps_its_pitch_and_view_for_predict(run: Run, body: Path, tmp_path: Path) -> None:
    for view, pitch in (("LATERAL", 4), ("PA", 5)):
        taken = ("--view", view, "--size", 60, 80, "--spacing", pitch)
        assert run("render", body / "ct.nii.gz", *taken, "--out", tmp_path / "pa")[0] == 0
        radiograph = read_radiograph(tmp_path / "pa/radiograph.png")
        assert (radiograph.spacing, radiograph.view) == ((pitch, pitch), view)


def test_the_geometry_file_takes_the_same_picture_again(run: Run, body: Path, tmp_path: Path) -> None:
    pose = ("--primary", -30, "--secondary", 12.5, "--roll", 3, "--sdd", 1500, "--sid", 1200, "--size", 50, 50, "--spacing", 8)
    assert run("render", body / "ct.nii.gz", *pose, "--out", tmp_path / "a")[0] == 0
    geometry = json.loads((tmp_path / "a/geometry.json").read_text())
    assert (geometry["primary"], geometry["secondary"], geometry["sdd"], geometry["rows"]) == (-30, 12.5, 1500, 50)
    assert run("render", body / "ct.nii.gz", "--geometry", tmp_path / "a/geometry.json", "--out", tmp_path / "b")[0] == 0
    a, b = (np.asarray(Image.open(tmp_path / d / "radiograph.png")) for d in "ab")
    np.testing.assert_array_equal(a, b)


def test_a_source_inside_the_patient_is_refused_and_no_folder_is_left(run: Run, body: Path, tmp_path: Path) -> None:
    status, _, complaint = run("render", body / "ct.nii.gz", "--sid", 40, "--out", tmp_path / "x")
    assert status == 2
    assert one_line(complaint)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--size 0 0", "2 to 8192"),
        ("--sdd 1e308 --sid 1e307", "kilometre"),
        ("--series 1.2.3", "no DICOM"),
        ("--physics ideal --kvp 80", "one energy"),
    ],
)
def test_a_view_that_cannot_be_taken_is_one_line(run: Run, body: Path, tmp_path: Path, arguments: str, expected: str) -> None:
    status, _, complaint = run("render", body / "ct.nii.gz", *arguments.split(), "--out", tmp_path / "x")
    assert status == 2
    assert one_line(complaint)
    assert expected in complaint
    assert not (tmp_path / "x").exists()


def test_a_place_that_cannot_be_written_to_is_one_line(run: Run, body: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    status, _, complaint = run("render", body / "ct.nii.gz", "--size", 20, 20, "--out", tmp_path / "file/x")
    assert status == 2
    assert one_line(complaint)


def test_a_file_in_the_place_of_the_demonstration_is_said_before_anything_is_made(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.demo._phantom", lambda: pytest.fail("a phantom was made"))
    (tmp_path / "file").write_text("in the way")
    status, _, complaint = run("demo", "--phantom", "--headless", tmp_path / "file")
    assert status == 2
    assert one_line(complaint)


def test_every_asked_structure_gets_a_mask_of_the_images_size(run: Run, untrained: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "chest.png", (48, 64))
    ask = ("--structures", "left lung,heart", "--model", untrained)
    assert run("predict", image, *ask, "--out", tmp_path / "found")[0] == 0
    (record,) = json.loads((tmp_path / "found/predictions.json").read_text())
    assert [f["structure"] for f in record["findings"]] == ["lung_left", "heart"]
    for finding in record["findings"]:
        mask = np.asarray(Image.open(tmp_path / "found" / finding["file"]))
        assert mask.shape == (48, 64)
        assert finding["file"] == f"chest/{finding['structure']}.png"
        assert (finding["rle"] is None) == (not finding["present"])
        assert len(finding["tokens"]) > 0
        assert 0 <= finding["confidence"] <= 1


def test_findings_measurements_and_agreement_are_tables(run: Run, untrained: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / f"{name}.png", (48, 64)) for name in ("a", "b")]
    for name in ("a", "b"):
        picture(tmp_path / f"masks/{name}/heart.png", (48, 64))
    ask = ("--structures", "heart,left lung", "--measure", "--references", tmp_path / "masks", "--model", untrained)
    assert run("predict", *images, *ask, "--out", tmp_path / "found")[0] == 0
    tables = {
        name: list(csv.DictReader((tmp_path / f"found/{name}.csv").open())) for name in ("findings", "measurements", "agreement")
    }
    # A model whose card names no structures is measured by the lungs as every model knows them.
    assert [row["structure"] for row in tables["findings"]] == ["heart", "lung_left", "lung_right"] * 2
    for row in tables["findings"]:
        mask = np.asarray(Image.open(tmp_path / "found" / row["file"]))
        assert int(row["area"] or 0) == (mask > 0).sum()
        assert row["area_unit"] == ("px" if row["present"] == "1" else "")
    assert [Path(row["image"]).name for row in tables["measurements"]] == ["a.png", "b.png"]
    for row in tables["measurements"]:
        assert row["note"] or 0 < float(row["cardiothoracic_ratio"]) < 5
    assert [row["structure"] for row in tables["agreement"]] == ["heart", "heart"]
    overlap = np.asarray(Image.open(tmp_path / "found/a/heart.overlap.png"))
    assert set(np.unique(overlap)) <= {0, 1, 2, 3}
    assert (overlap > 1).any() or float(tables["agreement"][0]["dice"]) == 1


def test_a_reference_of_another_size_leaves_its_image_out(run: Run, untrained: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", (48, 64))
    picture(tmp_path / "masks/heart.png", (40, 64))
    ask = ("--structures", "heart", "--references", tmp_path / "masks", "--model", untrained, "--out", tmp_path / "found")
    status, _, complaint = run("predict", image, *ask)
    assert status == 2
    assert one_line(complaint)
    assert "40 x 64" in complaint


def test_a_bad_file_among_several_is_named_and_the_others_are_done(run: Run, untrained: Path, tmp_path: Path) -> None:
    good, bad = picture(tmp_path / "good.png"), tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    status, out, complaint = run("predict", bad, good, "--structures", "heart", "--model", untrained, "--out", tmp_path / "found")
    assert status == 2
    assert "bad.png was left out" in complaint
    assert "1 of 2" in out
    assert [r["folder"] for r in json.loads((tmp_path / "found/predictions.json").read_text())] == ["good"]


def test_images_of_the_same_stem_get_folders_of_their_own(run: Run, untrained: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / d / "chest.png", seed=i) for i, d in enumerate("ab")]
    assert run("predict", *images, "--structures", "heart", "--model", untrained, "--out", tmp_path / "found")[0] == 0
    assert [r["folder"] for r in json.loads((tmp_path / "found/predictions.json").read_text())] == ["chest", "chest-2"]
    assert (tmp_path / "found/chest-2/heart.png").exists()


def test_a_misspelt_structure_is_answered_with_suggestions(run: Run, untrained: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / f"{n}.png") for n in "ab"]
    status, _, complaint = run("predict", *images, "--structures", "hart", "--model", untrained, "--out", tmp_path / "found")
    assert status == 2
    assert one_line(complaint)
    assert "heart" in complaint


def test_a_folder_of_radiographs_is_scored_against_one_mask_each(run: Run, untrained: Path, tmp_path: Path) -> None:
    for n in range(3):
        picture(tmp_path / f"images/{n}.png", seed=n)
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, 10 + n : 40] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / f"masks/{n}.png")
    status, out, _ = run(
        *("evaluate", "--images", tmp_path / "images", "--masks", tmp_path / "masks", "--structures", "left lung+lung_right"),
        *("--model", untrained, "--out", tmp_path / "report"),
    )
    assert status == 0
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["n_images"] == 3
    assert [m["structures"][0]["structure"] for m in report["models"]] == ["lung_left+lung_right"] * 2
    assert report["models"][1]["model"] == "mean mask"
    assert report["models"][1]["mean_dice"] > 0.9
    assert "mean Dice" in out


def test_a_radiograph_without_a_mask_is_named(run: Run, tmp_path: Path) -> None:
    picture(tmp_path / "images/first.png")
    (tmp_path / "masks").mkdir()
    ask = ("--structures", "heart", "--out", tmp_path / "report")
    status, _, complaint = run("evaluate", "--images", tmp_path / "images", "--masks", tmp_path / "masks", *ask)
    assert status == 2
    assert "first.png" in complaint


def test_progress_for_another_program_is_one_object_per_line_and_nothing_else(run: Run, untrained: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "chest.png")
    ask = ("--structures", "heart", "--model", untrained, "--out", tmp_path / "found", "--progress", "json")
    status, out, _ = run("predict", image, *ask)
    assert status == 0
    reports = [Progress.from_dict(json.loads(line)) for line in out.splitlines()]
    assert (reports[-1].done, reports[-1].total) == (1, 1)


def synthesize(body: Path, out: Path) -> list[str]:
    source = ["--ct", str(body / "ct.nii.gz"), "--labels", str(body / "labels.nii.gz")]
    return ["synthesize", *source, "--views-per-subject", "400", "--views-per-body", "1", "--size", "64", "--out", str(out)]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_finished_stays_when_a_command_is_stopped(
    body: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    from training.dataset import Dataset

    command = [sys.executable, "-m", "training.cli", *synthesize(body, tmp_path / "data")]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        cases = tmp_path / "data/cases.jsonl"
        deadline = time.monotonic() + 120
        while child.poll() is None and time.monotonic() < deadline and not (cases.exists() and cases.stat().st_size):
            time.sleep(0.05)
        child.send_signal(number)
        _, complaint = child.communicate(timeout=60)
    assert child.returncode == status, complaint
    assert "Traceback" not in complaint
    dataset = Dataset.open(tmp_path / "data")
    assert 0 < len(dataset.cases) < 400
    for case in dataset.cases:
        assert dataset.image(case).pixels.size
        assert dataset.masks(case)


def test_review_lists_and_records_decisions_and_export_honours_them(run: Run, body: Path, tmp_path: Path) -> None:
    command = synthesize(body, tmp_path / "data")
    command[command.index("400")] = "2"
    assert run(*command)[0] == 0
    assert run("review", tmp_path / "data", "--show", 3)[0] == 0
    decide = ("review", tmp_path / "data", "--case", "ct-00000", "--reviewer", "someone")
    assert run(*decide, "--structure", "left lung", "--decide", "reject", "--comment", "torn")[0] == 0
    assert run("review", tmp_path / "data", "--case", "nobody", "--decide", "accept")[0] == 2
    assert run(*decide, "--structure", "hart", "--decide", "reject")[0] == 2
    assert run(*decide, "--structure", "vertebrae_L5", "--decide", "reject")[0] == 2
    assert run(*decide, "--decide", "flag", "--csv", tmp_path / "found.csv")[0] == 0
    assert "flag" in (tmp_path / "found.csv").read_text()
    assert run("export", tmp_path / "data", "--out", tmp_path / "folders")[0] == 0
    assert not (tmp_path / "folders/ct-00000/lung_left.png").exists()
    assert (tmp_path / "folders/ct-00000/ct.png").exists()
    assert run("export", tmp_path / "data", "--form", "webdataset", "--out", tmp_path / "shards")[0] == 0
    assert run("export", tmp_path / "folders", "--form", "dataset", "--out", tmp_path / "again")[0] == 0
    assert len((tmp_path / "again/cases.jsonl").read_text().splitlines()) == 2


def test_a_data_set_without_the_asked_split_says_which_it_has(run: Run, body: Path, tmp_path: Path, untrained: Path) -> None:
    command = synthesize(body, tmp_path / "data")
    command[command.index("400")] = "1"
    assert run(*command)[0] == 0
    held = json.loads((tmp_path / "data/cases.jsonl").read_text())["subject"]
    status, _, complaint = run("evaluate", "--dataset", tmp_path / "data", "--model", untrained, "--out", tmp_path / "report")
    assert (held, status) == ("ct", 2)
    assert "choose another split" in complaint
    every = ("--split", "all", "--structures", "heart,lung_left")
    assert run("evaluate", "--dataset", tmp_path / "data", *every, "--model", untrained, "--out", tmp_path / "report")[0] == 0
    assert "| heart | 1 |" in (tmp_path / "report/report.md").read_text()


def test_info_names_versions_vocabulary_and_cache(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHEXANATOMY_CACHE", "/somewhere/else")
    status, out, _ = run("info", "--model", "nowhere")
    assert status == 0
    assert "torch" in out
    assert "/somewhere/else" in out
    assert "left lung" in run("info", "--structures")[1]


def test_info_prints_the_card_for_people_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "chexanatomy.json").write_text(json.dumps({"use": "Research\x1b[2J only"}))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n\n| heart | 0.9 |\n\x1b[31mred\n")
    status, out, _ = run("info", "--model", tmp_path)
    assert status == 0
    assert out.endswith("  use                Research [2J only\n\n# Mine\n\n| heart | 0.9 |\n[31mred\n")
    assert "## Measured" in run("info")[1]


@pytest.mark.parametrize("again", [["--set", "dense=0"], ["--set=dense=0"]])
def test_a_list_that_is_given_twice_is_refused_instead_of_halved(run: Run, tmp_path: Path, again: list[str]) -> None:
    out = tmp_path / "run"
    status, said, complaint = run("train", "--dataset", "data", "--out", out, "--set", "stem=True", "ema=0.9", *again)
    assert status == 2
    assert not said
    assert complaint.startswith("chexanatomy: --set is given twice")
    assert not out.exists()
