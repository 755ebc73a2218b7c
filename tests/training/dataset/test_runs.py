import numpy as np
import pytest
from scipy import ndimage

from training.dataset import runs as loops
from training.images import to_rle

SHAPE = (37, 29)


def masks():
    rng = np.random.default_rng(0)
    yield np.zeros(SHAPE, bool)
    yield np.ones(SHAPE, bool)
    for share in (0.05, 0.4, 0.9):
        yield rng.random(SHAPE) < share
    blob = np.zeros(SHAPE, bool)
    blob[5:20, 3:12] = blob[25:30, 20:28] = blob[20, 12] = True
    yield blob
    corner = np.zeros(SHAPE, bool)
    corner[-1, :] = corner[0, -1] = True
    yield corner


def runs_of(mask):
    text = np.frombuffer(to_rle(mask)["counts"].encode(), np.uint8)
    space = np.empty((mask.size + 1, 3), np.int32)
    count = loops.read_runs(text, mask.size, mask.shape[0], space)
    assert count >= 0
    return space[:count]


def sums(*pictures):
    return np.stack([np.concatenate([[0], np.cumsum(p.ravel(order="F"), dtype=np.float64)]) for p in pictures])


@pytest.mark.parametrize("mask", list(masks()))
def test_runs_are_the_mask(mask):
    painted = np.zeros(mask.size, np.uint8)
    loops.paint(runs_of(mask), mask.shape[0], painted, 1)
    np.testing.assert_array_equal(painted.reshape(mask.shape[::-1]).T.astype(bool), mask)
    assert loops.count_value(runs_of(mask), mask.shape[0], painted, 1) == mask.sum()


@pytest.mark.parametrize("mask", [m for m in masks() if m.any()])
def test_outline_and_pieces_agree_with_the_pixels(mask):
    area, row, column, rows, columns, both, border = loops.outline(runs_of(mask), *SHAPE)
    at = (np.argwhere(mask) + 0.5) / SHAPE
    assert area == mask.sum()
    np.testing.assert_allclose((row, column), at.mean(axis=0))
    spread = np.cov(at.T, bias=True) + np.diag(1 / 12 / np.square(SHAPE))  # a pixel is a square, not a point
    np.testing.assert_allclose((rows, columns, both), (spread[0, 0], spread[1, 1], spread[0, 1]), atol=1e-12)
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    assert border == sum(int(side.any()) << bit for bit, side in enumerate(sides))
    labelled, count = ndimage.label(mask, np.ones((3, 3)))
    areas = np.bincount(labelled.ravel())[1:]
    assert loops.pieces(runs_of(mask), area, 0.0) == count
    assert loops.pieces(runs_of(mask), area, 0.1) == (areas >= 0.1 * area).sum()


@pytest.mark.parametrize("text", ["?", "~~~", "0", "50", to_rle(np.ones((5, 5), bool))["counts"]])
def test_a_damaged_code_is_noticed(text):
    space = np.empty((2000, 3), np.int32)
    assert loops.read_runs(np.frombuffer(text.encode(), np.uint8), SHAPE[0] * SHAPE[1], SHAPE[0], space) == -1


def test_too_many_runs_are_noticed():
    mask = np.indices(SHAPE).sum(axis=0) % 2 == 0
    text = np.frombuffer(to_rle(mask)["counts"].encode(), np.uint8)
    assert loops.read_runs(text, mask.size, SHAPE[0], np.empty((10, 3), np.int32)) == -2


def test_what_is_seen_under_a_mask_is_what_the_pixels_say():
    rng = np.random.default_rng(1)
    picture = rng.random(SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, bool)
    mask[10:20, 8:18] = True
    seen = loops.look_under(runs_of(mask), sums(picture, picture[::-1]), *SHAPE, 3, 2)
    inside = picture[10:20, 8:18].mean()
    moved = [picture[7:17, 8:18], picture[13:23, 8:18], picture[10:20, 5:15], picture[10:20, 11:21]]
    steps = [
        picture[11, 8:18] - picture[8, 8:18],
        picture[18, 8:18] - picture[21, 8:18],
        picture[10:20, 9] - picture[10:20, 6],
        picture[10:20, 16] - picture[10:20, 19],
    ]
    wanted = [inside, *(m.mean() - inside for m in moved), *(s.mean() for s in steps)]
    np.testing.assert_allclose(seen[0], wanted, atol=1e-6)
    assert seen[1, 0] != seen[0, 0]


def test_steps_over_the_sides_of_a_ragged_mask_are_those_of_its_pixels():
    rng = np.random.default_rng(2)
    picture = rng.random(SHAPE).astype(np.float32)
    mask = rng.random(SHAPE) < 0.5
    left = [picture[r, c] - picture[r, c - 1] for r, c in np.argwhere(mask) if c > 0 and not mask[r, c - 1]]
    right = [picture[r, c] - picture[r, c + 1] for r, c in np.argwhere(mask) if c + 1 < SHAPE[1] and not mask[r, c + 1]]
    seen = loops.look_under(runs_of(mask), sums(picture), *SHAPE, 3, 1)
    np.testing.assert_allclose(seen[0, 7:], (np.mean(left), np.mean(right)), atol=1e-6)


def test_at_the_border_there_is_nothing_to_compare_with():
    mask = np.ones(SHAPE, bool)
    seen = loops.look_under(runs_of(mask), sums(np.ones(SHAPE)), *SHAPE, 3, 2)
    assert seen[0, 0] == 1
    assert np.isnan(seen[0, 5:]).all()
