import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest

from training.dataset import Dataset
from training.errors import BrokenDataset, Cancelled, ChexanatomyError
from training.images import write_ct_nifti, write_labels_nifti
from training.phantom import thorax
from training.phantom.findings import Odds
from training.synthesis import Range, Subject, SynthesisConfig, Variation, synthesize
from training.synthesis.config import read_subjects


@pytest.fixture(scope="module")
def person(tmp_path_factory):
    """A small CT with labels on disk."""
    folder = tmp_path_factory.mktemp("person")
    ct, labels = thorax(seed=2, spacing=6.0)
    write_ct_nifti(ct, folder / "ct.nii.gz")
    write_labels_nifti(labels, folder / "labels.nii.gz")
    return Subject("anyone", str(folder / "ct.nii.gz"), str(folder / "labels.nii.gz"), str(next(folder.glob("*.csv"))))


SMALL = {"phantoms": 1, "views_per_subject": 3, "views_per_body": 2, "size": 64, "grid": 6.0}


def config(out, person, **changes):
    values = {"out": str(out), "subjects": (person,), **SMALL}
    return SynthesisConfig(**values | changes)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(person, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "data"
    synthesize(config(folder, person))
    return folder


def test_every_subject_gets_its_views_with_masks_and_geometry(made):
    dataset = Dataset.open(made)
    assert [c.subject for c in dataset.cases] == ["anyone"] * 3 + ["phantom-00000"] * 3
    for case in dataset.cases:
        masks = dataset.masks(case)
        assert set(masks) == set(case.present)
        assert {"lung_left", "lung_right", "heart"} <= set(case.present)
        assert not set(case.present) & set(case.absent)
        assert all(m.shape == dataset.image(case).pixels.shape for m in masks.values())
        assert case.geometry["rows"] == dataset.image(case).pixels.shape[0]


def test_frontal_pictures_have_patient_right_on_image_left(made):
    dataset = Dataset.open(made)
    frontal = [c for c in dataset.cases if c.view in ("PA", "AP")]
    assert frontal
    for case in frontal:
        masks = dataset.masks(case, ["lung_left", "lung_right"])
        assert np.nonzero(masks["lung_right"])[1].mean() < np.nonzero(masks["lung_left"])[1].mean()


def test_two_workers_make_the_same_files_as_one(made, person, tmp_path):
    synthesize(config(tmp_path / "data", person, workers=2))
    assert contents(tmp_path / "data") == contents(made)


def test_a_run_stopped_in_the_middle_is_finished_by_the_next_without_duplicates(made, person, tmp_path):
    def stop(progress):
        if progress.done >= 2:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        synthesize(config(tmp_path / "data", person), stop)
    assert 0 < len(Dataset.open(tmp_path / "data").cases) < 6
    synthesize(config(tmp_path / "data", person))
    assert contents(tmp_path / "data") == contents(made)


def test_a_killed_run_resumes_to_the_same_data(made, person, tmp_path):
    out = tmp_path / "data"
    program = (
        "import json, sys\nfrom training.synthesis import Subject, SynthesisConfig, synthesize\n"
        "s = json.loads(sys.argv[2])\n"
        "rest = json.loads(sys.argv[3])\n"
        "synthesize(SynthesisConfig(out=sys.argv[1], subjects=(Subject(*s),), **rest))"
    )
    fields = json.dumps([person.name, person.ct, person.labels, person.label_names])
    process = subprocess.Popen([sys.executable, "-c", program, str(out), fields, json.dumps(SMALL)])
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if (out / "cases.jsonl").exists() and (out / "cases.jsonl").read_bytes():
            break
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    synthesize(config(out, person))
    left = {name: content for name, content in contents(out).items() if not name.endswith(".part")}
    assert left == contents(made)


def test_what_is_left_out_is_unknown_and_nothing_else_changes(made, person, tmp_path):
    left_out = {"heart", "clavicles", "clavicula_left", "clavicula_right"}
    left_out |= {f"heart_{part}_{side}" for part in ("atrium", "ventricle") for side in ("left", "right")}
    synthesize(config(tmp_path / "data", person, leave_out=("clavicles", "heart")))
    whole, part = Dataset.open(made), Dataset.open(tmp_path / "data")
    assert left_out <= {s for case in whole.cases for s in case.present}
    for before, after in zip(whole.cases, part.cases, strict=True):
        assert np.array_equal(whole.image(before).pixels, part.image(after).pixels)
        for names in ("present", "absent", "cut_off"):
            assert set(getattr(after, names)) == set(getattr(before, names)) - left_out
        assert set(part.masks(after)) == set(whole.masks(before)) - left_out


def test_a_lung_that_is_left_out_takes_its_field_and_its_outline_along(person, tmp_path):
    kept = config(tmp_path / "data", person, leave_out=("left lung",)).keeps
    assert not any(kept(f"lung_{kind}left") for kind in ("", "field_", "outline_", "upper_lobe_"))
    assert all(kept(f"lung_{kind}right") for kind in ("", "field_", "outline_", "upper_lobe_"))
    assert kept("lungs")
    kept = config(tmp_path / "data", person, leave_out=("lung_outline_left",)).keeps
    assert kept("lung_left")
    assert kept("lung_field_left")
    assert not kept("lung_outline_left")


def test_leaving_nothing_out_is_the_configuration_of_older_data(person):
    assert "leave_out" not in json.loads(config("x", person).to_json())
    assert json.loads(config("x", person, leave_out=("heart",)).to_json())["leave_out"] == ["heart"]


def test_moving_no_clavicle_is_the_configuration_of_older_data(person):
    assert "clavicles" not in json.loads(config("x", person).to_json())["variation"]
    moved = config("x", person, variation=Variation(clavicles=Range(-20.0, 20.0)))
    assert json.loads(moved.to_json())["variation"]["clavicles"]["high"] == 20.0
    assert "others_clavicles" not in json.loads(moved.to_json())["variation"]
    exchanged = config("x", person, variation=Variation(others_clavicles=0.5))
    assert json.loads(exchanged.to_json())["variation"]["others_clavicles"] == 0.5


def test_another_configuration_in_the_same_folder_is_refused(made, person):
    before = contents(made)
    with pytest.raises(BrokenDataset, match="another configuration"):
        synthesize(config(made, person, seed=9))
    assert contents(made) == before


def test_a_configuration_that_cannot_be_read_is_another_one(made, person, tmp_path):
    out = shutil.copytree(made, tmp_path / "data")
    (out / "synthesis.json").write_text("[" * 100_000)
    with pytest.raises(BrokenDataset, match="another configuration"):
        synthesize(config(out, person))


def test_the_same_paths_written_otherwise_are_the_same_configuration(made, person, monkeypatch):
    before = contents(made)
    monkeypatch.chdir(made)
    there = {k: os.path.relpath(getattr(person, k)) for k in ("ct", "labels", "label_names")}
    synthesize(config(made, replace(person, **there)))
    assert contents(made)["cases.jsonl"] == before["cases.jsonl"]


def test_a_first_run_that_failed_does_not_lock_its_folder(person, tmp_path):
    with pytest.raises(ChexanatomyError, match="nowhere"):
        synthesize(config(tmp_path / "data", replace(person, ct=str(tmp_path / "nowhere.nii.gz"))))
    some = {"phantoms": 0, "views_per_subject": 1}
    assert len(synthesize(config(tmp_path / "data", person, **some)).cases) == 1
    with pytest.raises(BrokenDataset, match="another configuration"):
        synthesize(config(tmp_path / "data", person, **some, seed=9))


def test_workers_end_with_a_parent_that_is_killed():
    program = (
        "import time\nfrom training.synthesis.workers import in_order\n"
        "units = in_order(time.sleep, [0.0, 600.0], 2, '')\nnext(units)\nprint('begun', flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline()
        children = psutil.Process(parent.pid).children(recursive=True)
        parent.kill()
    assert len(children) >= 2
    _, alive = psutil.wait_procs(children, timeout=20)
    for child in alive:
        child.kill()
    assert not alive


def test_a_missing_scheduler_is_said(person, tmp_path):
    with pytest.raises(ChexanatomyError, match="scheduler"):
        synthesize(config(tmp_path / "data", person, dask="tcp://127.0.0.1:9"))


@pytest.mark.parametrize(
    "changes",
    [
        {"subjects": (), "phantoms": 0},
        {"views_per_subject": 0},
        {"size": 8},
        {"subjects": (Subject("a/b"),)},
        {"subjects": (Subject("a"), Subject("a"))},
        {"subjects": (Subject("phantom-00000"),)},
        {"seed": -1},
        {"size": 10_000},
        {"findings": Odds(effusion=7.0)},
        {"leave_out": ("no such thing",)},
        {"great_vessels": -1.0},
        {"great_vessels": float("inf")},
    ],
)
def test_senseless_configurations_are_refused(changes):
    with pytest.raises(ChexanatomyError):
        SynthesisConfig(**{"out": "x", "phantoms": 1} | changes)


def test_a_table_of_subjects_is_read_relative_to_itself(tmp_path):
    (tmp_path / "people.csv").write_text("subject,ct,labels,label_names\none,a/ct.nii.gz,a/l.nii.gz,\ntwo,,b,names.csv\n")
    one, two = read_subjects(tmp_path / "people.csv")
    assert one == Subject("one", str(tmp_path / "a/ct.nii.gz"), str(tmp_path / "a/l.nii.gz"), "")
    assert two == Subject("two", "", str(tmp_path / "b"), str(tmp_path / "names.csv"))


def test_a_line_without_labels_is_named(tmp_path):
    (tmp_path / "people.csv").write_text("subject,ct,labels\none,a.nii,b.nii\ntwo,a.nii,\n")
    with pytest.raises(ChexanatomyError, match="line 3, names no labels"):
        read_subjects(tmp_path / "people.csv")


def test_a_table_without_its_columns_is_refused(tmp_path):
    (tmp_path / "people.csv").write_text("name,file\na,b\n")
    with pytest.raises(ChexanatomyError, match="subject,ct,labels"):
        read_subjects(tmp_path / "people.csv")
