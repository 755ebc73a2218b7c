from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from napari_chexanatomy.labelling import Project
from training.errors import ChexanatomyError
from training.fit.adapters import adapters_in
from training.images import read_mask_png
from training.images.types import Radiograph


def picture(name: str = "chest", size: int = 20) -> Radiograph:
    return Radiograph(np.linspace(0, 1, size * size, dtype=np.float32).reshape(size, size), (0.5, 0.5), "PA", name)


def drawn(project: Project, count: int):
    for number in range(count):
        mask = np.zeros((20, 20), bool)
        mask[5 : 8 + number, 5:9] = True
        project.set_mask(project.add(picture()), mask)
    return project.items


def test_everything_is_there_after_opening_again(tmp_path):
    project = Project.create(tmp_path / "p")
    project.rename_structure("pacemaker")
    item = project.add(picture())
    mask = np.eye(20, dtype=bool)
    project.set_mask(item, mask)
    again = Project.open_project(tmp_path / "p")
    assert again.structure == "pacemaker"
    np.testing.assert_array_equal(again.mask(again.items[0]), mask)
    image = again.image(again.items[0])
    np.testing.assert_allclose(image.pixels, picture().pixels, atol=1e-4)
    assert (image.spacing, image.view, image.name) == ((0.5, 0.5), "PA", "chest")


def test_two_images_of_one_name_stay_apart(tmp_path):
    project = Project.create(tmp_path / "p")
    assert project.add(picture("a/b")).name != project.add(picture("a/b")).name
    assert len({item.title for item in project.items}) == 2


def test_a_structure_that_nothing_was_drawn_of_is_not_kept(tmp_path):
    project = Project.create(tmp_path / "p")
    project.choose_structure("heart")
    drawn(project, 1)
    project.choose_structure("hart")
    project.choose_structure("left lung")
    assert Project.open_project(project.folder).structures == ["heart", "left lung"]


def test_what_is_drawn_before_it_has_a_name_gets_the_name(tmp_path):
    project = Project.create(tmp_path / "p")
    items = drawn(project, 2)
    project.set_absent(items[1], True)
    project.choose_structure("heart")
    assert project.mask(project.items[0]).any()
    assert project.absent(project.items[1])
    project.choose_structure("left lung")
    assert project.mask(project.items[0]) is None


def test_a_new_name_keeps_the_drawings_and_a_taken_one_is_refused(tmp_path):
    project = Project.create(tmp_path / "p")
    project.choose_structure("heart")
    items = drawn(project, 2)
    project.set_absent(items[1], True)
    project.rename_structure("my heart")
    again = Project.open_project(project.folder)
    assert again.mask(again.items[0]).any()
    assert again.absent(again.items[1])
    again.choose_structure("heart")
    again.set_mask(again.items[0], np.eye(20, dtype=bool))
    with pytest.raises(ChexanatomyError, match="another name"):
        again.rename_structure("my heart")


def test_names_that_look_alike_on_disk_stay_apart(tmp_path):
    project = Project.create(tmp_path / "p")
    item = project.add(picture())
    for name in ("left (1)", "left 1"):
        project.choose_structure(name)
        project.set_mask(item, np.full((20, 20), name == "left 1"))
    assert project.mask(item, "left (1)") is None
    project.choose_structure("left (1)")
    project.set_mask(item, np.eye(20, dtype=bool))
    assert project.mask(item, "left 1").all()
    assert not project.mask(item, "left (1)").all()


def test_earlier_states_of_a_drawing_come_back_one_by_one(tmp_path):
    project = Project.create(tmp_path / "p")
    item = project.add(picture())
    states = [np.arange(400).reshape(20, 20) < n for n in (10, 20, 30)]
    for state in (*states, np.zeros((20, 20), bool)):
        project.set_mask(item, state)
    assert not project.drawn(item)
    project = Project.open_project(project.folder)
    for state in reversed(states):
        np.testing.assert_array_equal(project.take_back(project.items[0]), state)
    assert not project.take_back(project.items[0]).any(), "nothing drawn is a state as well"
    assert not project.drawn(item)
    assert project.take_back(project.items[0]) is None


def test_a_state_that_is_gone_back_to_is_no_earlier_one(tmp_path):
    project = Project.create(tmp_path / "p")
    item = project.add(picture())
    empty, first, second = (np.arange(400).reshape(20, 20) < n for n in (0, 10, 20))
    for state in (first, second):
        project.set_mask(item, state)
    for state in (first, empty):
        project.set_mask(item, state, undone=True)
    assert project.mask(item) is None
    assert project.take_back(item) is None
    for state in (first, empty, second):  # erased by hand, and drawn anew
        project.set_mask(item, state)
    for state in (empty, first, empty):
        np.testing.assert_array_equal(project.take_back(item), state)
    assert project.take_back(item) is None


def test_a_save_that_fails_leaves_no_earlier_state(tmp_path):
    project = Project.create(tmp_path / "p")
    item = drawn(project, 1)[0]
    before = project.mask(item)
    masks = project.folder / "masks"
    masks.rename(tmp_path / "away")
    masks.write_text("")
    for _ in range(3):
        with pytest.raises((NotADirectoryError, FileExistsError, FileNotFoundError)):
            project.set_mask(item, np.eye(20, dtype=bool))
    masks.unlink()
    (tmp_path / "away").rename(masks)
    np.testing.assert_array_equal(project.mask(item), before)
    assert not project.take_back(item).any()
    assert project.take_back(item) is None


KILLED = """
import sys, numpy as np
from pathlib import Path
from napari_chexanatomy.labelling import Project
project = Project.open_project(Path(sys.argv[1]))
number = 0
while True:
    number = number % 250 + 1
    project.set_mask(project.items[0], np.arange(400).reshape(20, 20) < number)
    project.change(project.items[1], held_out=number % 2 == 0)
    print(number, flush=True)
"""


def test_a_kill_while_saving_leaves_a_whole_drawing(tmp_path):
    project = Project.create(tmp_path / "p")
    project.choose_structure("heart")
    drawn(project, 2)
    for attempt in range(3):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(project.folder)], stdout=subprocess.PIPE, text=True)
        for _ in range(5 + 3 * attempt):
            said = int(child.stdout.readline())
        child.kill()
        said = max([said, *map(int, child.communicate()[0].split())])
        again = Project.open_project(project.folder)
        size = int(again.mask(again.items[0]).sum())
        assert size in (said, said + 1), "the state said last, or the one that was being written"
        assert [item.name for item in again.items] == [item.name for item in project.items]


def test_half_an_adapter_is_none(tmp_path):
    project = Project.create(tmp_path / "p")
    (project.folder / "adapters" / ".heart-1.partial").mkdir()
    (project.folder / "adapters" / ".heart-1.partial" / "chexanatomy.json").write_text('{"structure": "heart"}')
    (project.folder / "adapters" / "heart-2").mkdir()
    assert adapters_in(project.folder / "adapters") == []
    project.choose_structure("heart")
    assert project.new_adapter().name == "heart-3"


def test_from_three_images_on_one_is_held_out_and_never_none(tmp_path):
    project = Project.create(tmp_path / "p")
    drawn(project, 2)
    assert project.hold_one_out() is None
    drawn(project, 1)
    chosen = project.hold_one_out()
    assert chosen is not None
    with pytest.raises(ChexanatomyError, match="hold out another"):
        project.change(chosen, held_out=False)
    others = [item for item in project.items if not item.held_out]
    other = project.change(others[0], held_out=True)
    project.change(chosen, held_out=False)
    last = next(item for item in project.items if not item.held_out)
    project.change(next(i for i in project.items if not i.held_out and i != last), held_out=True)
    with pytest.raises(ChexanatomyError, match="left to learn from"):
        project.change(last, held_out=True)
    assert other.held_out


def test_what_is_staged_is_what_was_drawn(tmp_path):
    project = Project.create(tmp_path / "p")
    with pytest.raises(ChexanatomyError, match="Name the structure"):
        project.stage()
    project.rename_structure("heart")
    project.add(picture())
    with pytest.raises(ChexanatomyError, match="Draw the structure"):
        project.stage()
    items = drawn(project, 2)
    project.set_absent(items[0], True)
    staged = project.stage()
    names = {path.name for path in (staged / "images").iterdir()}
    assert names == {path.name for path in (staged / "masks").iterdir()}
    assert len(names) == 3
    assert not read_mask_png(staged / "masks" / f"{items[0].name}.png").any()
    assert read_mask_png(staged / "masks" / f"{items[2].name}.png").any()


def test_an_erased_drawing_is_no_drawing(tmp_path):
    project = Project.create(tmp_path / "p")
    item = drawn(project, 1)[0]
    project.set_mask(item, np.zeros((20, 20), bool))
    assert not project.drawn(item)
    assert project.mask(item) is None


@pytest.mark.parametrize("content", ["", "[]", '{"images": 3}', '{"structure": "x", "structures": [], "images": []}'])
def test_a_damaged_project_is_refused_in_words(tmp_path, content):
    (tmp_path / "project.json").write_text(content)
    with pytest.raises(ChexanatomyError, match="cannot be read"):
        Project.open_project(tmp_path)


def test_other_folders_are_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ChexanatomyError, match="not empty"):
        Project.create(tmp_path)
    with pytest.raises(ChexanatomyError, match="no labelling project"):
        Project.open_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_image_that_vanished_is_left_out_of_the_list(tmp_path):
    project = Project.create(tmp_path / "p")
    items = drawn(project, 2)
    (project.folder / "images" / f"{items[0].name}.png").unlink()
    assert [item.name for item in Project.open_project(project.folder).items] == [items[1].name]
    assert len(json.loads((project.folder / "project.json").read_text())["images"]) == 2
