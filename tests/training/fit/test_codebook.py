"""The mask codebook learns, uses its codes, and says how well it can describe each structure."""

import numpy as np
import pytest
import torch

from training.dataset import Case, Dataset
from training.errors import BrokenDataset, Cancelled
from training.fit.codebook import CodebookRecipe, dataset_masks, mask_crops, mask_loss, reconstruction_ceiling, train_codebook
from training.images import Radiograph
from training.progress import Progress
from training.tokens.codebook import CROP, MaskCodebook

SMALL = CodebookRecipe(widths=(4, 8, 16, 16), code_width=8, batch=16, learning_rate=1e-2, decay=0.9, restart_every=10)


def ellipses(n: int, seed: int = 0) -> np.ndarray:
    """Return random ellipses uint8 [n, 64, 64], 0 or 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:CROP, :CROP]
    masks = []
    for _ in range(n):
        (cy, cx), (a, b), t = rng.uniform(24, 40, 2), rng.uniform(6, 28, 2), rng.uniform(0, np.pi)
        u, v = (y - cy) * np.cos(t) + (x - cx) * np.sin(t), (x - cx) * np.cos(t) - (y - cy) * np.sin(t)
        masks.append((u / a) ** 2 + (v / b) ** 2 <= 1)
    return np.array(masks, np.uint8) * 255


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[MaskCodebook, list[Progress]]:
    reports: list[Progress] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("codebook") / "codebook.safetensors"
    codebook = train_codebook(ellipses(300), out, 160, SMALL, reports.append)
    torch.set_num_threads(threads)
    return codebook, reports


def test_training_lowers_the_loss_and_uses_most_codes(trained):
    codebook, reports = trained
    assert (reports[-1].done, reports[-1].total) == (160, 160)
    assert reports[-1].values["loss"] < 0.5 * reports[0].values["loss"]
    used = np.unique(codebook.encode(ellipses(200, seed=1) / 255))
    assert len(used) > codebook.size / 2


def test_unseen_shapes_come_back_from_their_codes(trained):
    codebook, _ = trained
    unseen = ellipses(50, seed=2) > 0
    back = codebook.decode(codebook.encode(unseen)).numpy() > 0
    dice = 2 * (back & unseen).sum((1, 2)) / (back.sum((1, 2)) + unseen.sum((1, 2)))
    assert dice.mean() > 0.85


def test_the_file_notes_what_it_was_trained_on(trained):
    assert trained[0].notes == {"crops": "300", "steps": "160", "seed": "0"}


def test_the_ceiling_is_measured_at_full_size_for_each_structure(trained):
    big = np.kron(ellipses(4, seed=3) > 0, np.ones((4, 4), bool))
    masks = [("heart", big[0]), ("heart", big[1]), ("liver", big[2]), ("nothing", np.zeros((256, 256), bool))]
    ceiling = reconstruction_ceiling(trained[0], iter(masks))
    assert set(ceiling) == {"heart", "liver"}
    assert 0.8 < ceiling["heart"] <= 1
    torch.manual_seed(0)
    assert reconstruction_ceiling(MaskCodebook((4, 4, 4, 4), 4), masks)["heart"] < ceiling["heart"]


def test_the_same_seed_gives_the_same_codebook(tmp_path):
    first = train_codebook(ellipses(40), tmp_path / "a.safetensors", 12, SMALL)
    second = train_codebook(ellipses(40), tmp_path / "b.safetensors", 12, SMALL)
    torch.testing.assert_close(first.state_dict(), second.state_dict())


def test_zero_one_masks_and_separate_crops_mean_the_same(tmp_path):
    first = train_codebook(ellipses(40), tmp_path / "a.safetensors", 3, SMALL)
    second = train_codebook((crop > 0 for crop in ellipses(40)), tmp_path / "b.safetensors", 3, SMALL)
    torch.testing.assert_close(first.state_dict(), second.state_dict())


def test_cancelling_stops_and_leaves_no_file(tmp_path):
    def stop(progress: Progress) -> None:
        raise Cancelled("Stopped.")

    with pytest.raises(Cancelled):
        train_codebook(ellipses(20), tmp_path / "c.safetensors", 10, SMALL, stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("masks", [np.zeros((0, 64, 64), np.uint8), np.zeros((5, 32, 32), np.uint8), []])
def test_crops_of_another_shape_are_refused(masks, tmp_path):
    with pytest.raises(BrokenDataset, match="64 x 64"):
        train_codebook(masks, tmp_path / "c.safetensors", 3, SMALL)


def test_a_perfect_answer_costs_less_than_a_wrong_one():
    masks = torch.from_numpy(ellipses(3) / np.float32(255))
    right, wrong = (masks * 2 - 1) * 20, (masks * 2 - 1) * -20
    assert mask_loss(right, masks) < 0.01
    assert mask_loss(wrong, masks) > 10


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Three cases of one subject: a heart everywhere, a liver in the first, one case rejected."""
    dataset = Dataset.create(tmp_path / "data")
    for number in range(3):
        masks = {"heart": ellipses(1, seed=number)[0] > 0} | ({"liver": np.eye(CROP, dtype=bool)} if number == 0 else {})
        case = Case(f"c{number}", "person", "PA", None, f"images/c{number}.png", tuple(masks), (), (), "test", number, "0")
        dataset.add(case, Radiograph(np.zeros((CROP, CROP), np.float32)), masks)
    dataset.reviews.decide("c2", "", "reject")
    return dataset


def test_crops_come_from_every_mask_that_was_not_rejected(dataset):
    crops = mask_crops(dataset, split=None)
    assert sorted(crops.structures) == ["heart", "heart", "liver"]
    assert crops.masks.shape == (3, CROP, CROP)
    assert crops.masks.dtype == np.uint8
    assert crops.masks.max() == 255
    heart = crops.masks[crops.structures.index("heart")]
    assert heart.mean() > 0.4 * 255


def test_crops_are_limited_repeatable_and_of_one_split(dataset):
    assert len(mask_crops(dataset, limit=2, split=None).masks) == 2
    np.testing.assert_array_equal(mask_crops(dataset, split=None).masks, mask_crops(dataset, split=None).masks)
    own = dataset.cases[0].split
    other = next(split for split in ("train", "val", "test") if split != own)
    assert len(mask_crops(dataset, split=own).masks) == 3
    assert mask_crops(dataset, split=other).masks.shape == (0, CROP, CROP)


def test_full_size_masks_are_drawn_for_the_ceiling(dataset):
    drawn = list(dataset_masks(dataset, split=None))
    assert sorted(structure for structure, _ in drawn) == ["heart", "heart", "liver"]
    assert all(mask.shape == (CROP, CROP) and mask.dtype == np.bool_ for _, mask in drawn)
