"""Masks as run-length codes and PNG, and writing that leaves no half file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import ChexanatomyError, UnreadableFile
from training.images import from_rle, read_mask_png, to_rle, write_mask_png
from training.images.paths import replacing


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 10_000))
def test_run_length_codes_give_the_mask_back(rows: int, columns: int, filled: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < filled
    code = to_rle(mask)
    assert code["size"] == [rows, columns]
    assert isinstance(code["counts"], str)
    assert np.array_equal(from_rle(code), mask)


def test_run_length_code_is_cocos(tmp_path: Path) -> None:
    from pycocotools import mask as coco

    mask = np.zeros((300, 200), bool)
    mask[20:250, 30:170] = True
    assert int(coco.area({**to_rle(mask), "counts": to_rle(mask)["counts"].encode()})) == mask.sum()
    plain = {"size": [300, 200], "counts": [300 * 30 + 20, *([230, 70] * 139), 230, 50 + 300 * 30]}
    assert np.array_equal(from_rle(plain), mask)


@pytest.mark.parametrize(
    "code",
    [
        {},
        {"size": [4, 4]},
        {"size": [4, 4], "counts": "ab"},
        {"size": [4, 4], "counts": "o" * 9},
        {"size": [4, 4], "counts": [3, 4]},
        {"size": [4, 4], "counts": [-3, 19]},
        {"size": [-4, -4], "counts": [16]},
        {"size": [4, 4], "counts": "é"},
        {"size": "four", "counts": "0"},
        {"size": [4, 4], "counts": 10**13},
        {"size": [4, 4], "counts": [2**62, 2**62, 2**62, 2**62, 16]},
        {"size": [4, 4], "counts": "o" * 400_000},
        {"size": [10**9, 10**9], "counts": "0"},
    ],
)
def test_damaged_run_length_codes_are_refused(code: dict[str, object]) -> None:
    began = time.perf_counter()
    with pytest.raises(ChexanatomyError, match=r"damaged|more than any radiograph has"):
        from_rle(code)
    assert time.perf_counter() - began < 3


def test_masks_are_pictures_of_0_and_255(tmp_path: Path) -> None:
    from PIL import Image

    mask = np.random.default_rng(0).random((30, 20)) < 0.5
    write_mask_png(mask, tmp_path / "new folder" / "m.png")
    with Image.open(tmp_path / "new folder" / "m.png") as image:
        assert image.mode == "L"
        assert set(np.unique(np.asarray(image))) == {0, 255}
    assert np.array_equal(read_mask_png(tmp_path / "new folder" / "m.png"), mask)
    Image.fromarray(np.where(mask, 1, 0).astype(np.uint8)).convert("RGB").save(tmp_path / "ones.png")
    assert np.array_equal(read_mask_png(tmp_path / "ones.png"), mask)
    with pytest.raises(UnreadableFile):
        read_mask_png(tmp_path)


@pytest.mark.parametrize("high", [255, 128])
def test_a_mask_in_a_jpeg_ends_where_it_was_drawn(tmp_path: Path, high: int) -> None:
    from PIL import Image

    rows, columns = np.mgrid[:96, :96]
    mask = (rows - 50) ** 2 + (columns - 40) ** 2 < 900
    Image.fromarray(np.where(mask, high, 0).astype(np.uint8)).save(tmp_path / "m.jpg", quality=75)
    read = read_mask_png(tmp_path / "m.jpg")
    assert 2 * (read & mask).sum() / (read.sum() + mask.sum()) > 0.99
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "none.jpg")
    assert not read_mask_png(tmp_path / "none.jpg").any()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "kept.txt"
    target.write_text("old")

    def write_half() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("seed", range(30))
def test_run_length_codes_are_those_of_pycocotools(seed):
    from pycocotools import mask as coco
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 40, 2))
    mask = ndimage.gaussian_filter(rng.random(shape), seed % 3) > rng.choice([0.0, 0.4, 0.5, 0.6, 2.0])
    mask[:, shape[1] // 2 :] |= seed % 5 == 0
    assert to_rle(mask)["counts"] == coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
