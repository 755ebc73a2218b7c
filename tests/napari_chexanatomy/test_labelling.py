from __future__ import annotations

import json

import numpy as np
import pytest

from napari_chexanatomy.labelling import Project
from training.errors import ChexanatomyError
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
    project.change(items[0], absent=True)
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


@pytest.mark.parametrize("content", ["", "[]", '{"images": 3}', '{"structure": "x", "images": [{}]}'])
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
