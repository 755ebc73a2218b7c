"""What the borders of a picture leave of the usual masks."""

import numpy as np
import pytest

from training.dataset import runs
from training.dataset.atlas import Atlas, cut_by, lay_cut_ones, windows
from training.dataset.measure import CELLS

WHOLE = np.array([0.0, 1.0, 0.0, 1.0])
IDENTITY = np.eye(2, 3)


def squares(count, at=0.5, half=0.2):
    """Masks [case, 1, row, column] of a square in the middle, 255 where it covers a cell."""
    middle = (np.arange(CELLS) + 0.5) / CELLS
    inside = np.abs(middle - at) < half
    return np.broadcast_to(255 * np.outer(inside, inside).astype(np.uint8), (count, 1, CELLS, CELLS))


@pytest.fixture
def atlas():
    count = 10
    return Atlas(squares(count), np.ones((count, 1), bool), np.tile(IDENTITY, (count, 1, 1)), np.tile(WHOLE, (count, 1)))


def test_a_border_through_the_middle_leaves_half(atlas):
    lower, all_of_it = np.array([0.5, 1.0, 0.0, 1.0]), WHOLE
    left = atlas.clipped(np.tile(IDENTITY, (2, 1, 1)), np.stack([lower, all_of_it]))
    assert left.share[:, 0] == pytest.approx([0.5, 1.0], abs=0.03)
    assert left.home[:, 0] == pytest.approx(np.array([[0.6, 0.5], [0.5, 0.5]]), abs=0.03)
    assert left.whole_area[0] == pytest.approx(16 / 144, rel=0.1)


def test_what_lies_outside_of_the_picture_is_gone(atlas):
    moved = IDENTITY + np.array([[0, 0, 0.9], [0, 0, 0]])  # the picture shows what lies below the usual one
    assert atlas.clipped(moved[None], WHOLE[None]).share[0, 0] == pytest.approx(0, abs=1e-6)


def test_a_collimator_is_found_where_many_masks_end_alike():
    rng = np.random.default_rng(0)
    extents = np.stack([rng.uniform(0.2, 0.4, 30), rng.uniform(0.5, 0.7, 30), rng.uniform(0.2, 0.4, 30), np.full(30, 0.9)], 1)
    extents[:10, 0] = 0.1
    there = np.ones((1, 30), bool)
    window = windows(extents[None], there)
    assert window[0] == pytest.approx([0.1, 1.0, 0.0, 0.9])
    assert cut_by(extents[None], window)[0].all()
    assert list(cut_by(extents[None] - [0, 0, 0, 0.05], window)[0]) == [True] * 10 + [False] * 20


def test_a_narrow_view_is_laid_onto_the_others_by_its_cut_masks():
    """Ten structures all over the picture; one case shows its middle half only, enlarged."""
    rng = np.random.default_rng(1)
    places = rng.uniform(0.1, 0.9, (40, 2))
    grid = (np.arange(CELLS) + 0.5) / CELLS

    def drawn(zoom):
        at = (places - 0.5) * zoom + 0.5
        inside = (np.abs(grid[None, :, None] - at[:, :1, None]) < 0.09 * zoom) & (
            np.abs(grid[None, None, :] - at[:, None, 1:]) < 0.09 * zoom
        )
        area = inside.sum(axis=(1, 2))
        centre = [(inside * axis).sum(axis=(1, 2)) / np.maximum(area, 1) for axis in (grid[:, None], grid[None])]
        edge = inside[:, [0, -1]].any(axis=(1, 2)) | inside[:, :, [0, -1]].any(axis=(1, 2))
        return 255 * inside.astype(np.uint8), np.stack(centre, 1), area > 0, edge

    cases = [drawn(1.0)] * 12 + [drawn(2.0)]
    coarse, centres, there, cut = (np.stack(part) for part in zip(*cases, strict=True))
    affine = np.tile(IDENTITY, (13, 1, 1))
    laid, left = lay_cut_ones(coarse, centres, there, cut, affine, centres[0], np.tile(WHOLE, (13, 1)))
    assert laid[-1, [0, 1], [0, 1]] == pytest.approx([0.5, 0.5], abs=0.08)
    assert left.share[-1][there[-1]].mean() > left.share[-1][~there[-1]].mean() + 0.3


def test_the_coarse_mask_holds_the_share_of_each_cell():
    mask = np.zeros((30, 26), bool)
    mask[:5, 3:9] = mask[17, 4:22] = True
    found = np.array([(c, r, r + 1) for c in range(26) for r in range(30) if mask[r, c]], np.int32)
    share = runs.coarse(found, 30, 26, 13) / 255
    row, column = np.arange(30) * 13 // 30, np.arange(26) * 13 // 26
    for i, j in ((0, 1), (0, 2), (2, 4), (7, 2), (7, 5), (12, 12)):
        assert share[i, j] == pytest.approx(mask[row == i][:, column == j].mean(), abs=1 / 255)
    assert runs.extent(found) == (0, 18, 3, 22)
