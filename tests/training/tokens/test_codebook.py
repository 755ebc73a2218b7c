"""The mask codebook: the published layout and our own, and crops that go out and come back."""

import math
import pickle

import numpy as np
import pytest
import torch

from training.errors import BrokenModel
from training.tokens.boxes import tight_box
from training.tokens.codebook import CROP, MaskCodebook, crop_mask, paste_mask

PUBLISHED_SIZE = 8_479_556
"""Bytes of big_vision's vae-oid.npz."""


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Return names and shapes in vae-oid.npz, written out independently of the module."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, weight: tuple[int, ...], bias: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, (bias,)

    for name, (i, o) in zip("0246", [(1, 16), (16, 32), (32, 64), (64, 128)], strict=True):
        layer(f"encoder.{name}", (o, i, 4, 4), o)
    for block in ("encoder.8", "encoder.9", "decoder.2", "decoder.3"):
        for name, k in (("0", 3), ("2", 3), ("4", 1)):
            layer(f"{block}.net.{name}", (128, 128, k, k), 128)
    layer("encoder.10", (512, 128, 1, 1), 512)
    layer("decoder.0", (128, 512, 1, 1), 128)
    for name, (i, o) in zip(["4", "6", "8", "10"], [(128, 128), (128, 64), (64, 32), (32, 16)], strict=True):
        layer(f"decoder.{name}", (i, o, 4, 4), o)
    layer("decoder.12", (1, 16, 1, 1), 1)
    shapes["_vq_vae._embedding"] = shapes["_vq_vae._ema_w"] = (128, 512)
    shapes["_vq_vae._ema_cluster_size"] = (128,)
    return shapes


@pytest.fixture
def published():
    """Arrays as they lie in vae-oid.npz, with random values."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.normal(size=shape) / math.sqrt(max(1, math.prod(shape[1:])))).astype(np.float32)
        for name, shape in published_shapes().items()
    }


@pytest.fixture(scope="module")
def ellipse() -> np.ndarray:
    y, x = np.mgrid[:300, :400]
    return ((y - 140) / 80) ** 2 + ((x - 210) / 120) ** 2 <= 1


def test_the_published_layout_loads_and_round_trips(published, tmp_path):
    path = tmp_path / "vae-oid.npz"
    np.savez(path, **published)
    assert path.stat().st_size == PUBLISHED_SIZE
    codebook = MaskCodebook.load(path)
    assert (codebook.size, codebook.grid, codebook.code_width) == (128, 4, 512)
    for name, value in codebook.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), published[name])
    codes = codebook.encode(np.random.default_rng(1).random((3, CROP, CROP)) > 0.5)
    assert codes.shape == (3, 16)
    assert codes.dtype == torch.int64
    assert codebook.decode(codes).shape == (3, CROP, CROP)


def test_the_encoder_computes_what_the_published_description_says(published, tmp_path):
    """Recompute it with plain loops over TensorFlow's SAME padding, at one grid cell."""
    np.savez(tmp_path / "v.npz", **published)
    codebook = MaskCodebook.load(tmp_path / "v.npz")
    mask = np.random.default_rng(2).random((CROP, CROP)).astype(np.float32)

    def conv(x, name, stride):
        weight, bias = published[f"{name}.weight"], published[f"{name}.bias"]
        k, n = weight.shape[-1], x.shape[-1] // stride
        total = max((n - 1) * stride + k - x.shape[-1], 0)
        x = np.pad(x, ((0, 0), (total // 2, total - total // 2), (total // 2, total - total // 2)))
        patches = [[x[:, i * stride : i * stride + k, j * stride : j * stride + k] for j in range(n)] for i in range(n)]
        return np.einsum("ijckl,ockl->oij", np.array(patches), weight) + bias[:, None, None]

    x = 2 * (mask[None] - 0.5)
    for name in (0, 2, 4, 6):
        x = np.maximum(conv(x, f"encoder.{name}", 2), 0)
    for name in (8, 9):
        y = np.maximum(conv(x, f"encoder.{name}.net.0", 1), 0)
        y = np.maximum(conv(y, f"encoder.{name}.net.2", 1), 0)
        x = x + conv(y, f"encoder.{name}.net.4", 1)
    features = conv(x, "encoder.10", 1).reshape(512, 16).T
    expected = ((features[:, None] - published["_vq_vae._embedding"][None]) ** 2).sum(-1).argmin(-1)
    np.testing.assert_allclose(codebook.features(torch.from_numpy(mask[None]))[0].detach(), features, atol=1e-4)
    np.testing.assert_array_equal(codebook.encode(mask[None])[0], expected)


def test_the_decoder_places_each_code_in_its_own_cell(published, tmp_path):
    np.savez(tmp_path / "v.npz", **published)
    codebook = MaskCodebook.load(tmp_path / "v.npz")
    codes = torch.zeros(2, 16, dtype=torch.int64)
    codes[1, 3] = 5  # the last cell of the first row
    change = (codebook.decode(codes)[1] - codebook.decode(codes)[0]).abs()
    row, column = np.unravel_index(int(change.argmax()), (CROP, CROP))
    assert row < 32
    assert column >= 32


def test_codes_that_are_certain_blend_to_what_they_draw_and_doubt_lies_between(published, tmp_path):
    np.savez(tmp_path / "v.npz", **published)
    codebook = MaskCodebook.load(tmp_path / "v.npz")
    count = len(codebook.embedding)
    codes = torch.randint(0, count, (2, 16), generator=torch.Generator().manual_seed(0))
    sure = torch.nn.functional.one_hot(codes, count).float()
    assert torch.allclose(codebook.blend(sure), codebook.decode(codes), atol=1e-5)
    undecided = codebook.blend(sure.mean(0, keepdim=True))
    assert not torch.allclose(undecided, codebook.decode(codes)[:1], atol=1e-3)
    assert torch.allclose(undecided, codebook.logits(codebook.embedding[codes].mean(0, keepdim=True)), atol=1e-5)


def test_own_widths_survive_saving_in_half_precision(tmp_path):
    torch.manual_seed(0)
    codebook = MaskCodebook((4, 8, 8, 16), 12)
    codebook.notes["source"] = "a test"
    codebook.save(tmp_path / "sub" / "codebook.safetensors")
    loaded = MaskCodebook.load(tmp_path / "sub" / "codebook.safetensors")
    assert loaded.widths == (4, 8, 8, 16)
    assert loaded.notes == {"source": "a test"}
    for name, value in codebook.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["codebook.safetensors"]


def test_three_halvings_make_eight_by_eight_codes_and_come_back_from_disk(tmp_path):
    torch.manual_seed(0)
    codebook = MaskCodebook((4, 8, 12), 6)
    codebook.save(tmp_path / "fine.safetensors")
    read = MaskCodebook.load(tmp_path / "fine.safetensors")
    masks = torch.rand(2, 64, 64)
    codes = read.encode(masks)
    assert read.grid == 8
    assert codes.shape == (2, 64)
    assert read.decode(codes).shape == (2, 64, 64)


def test_the_default_codebook_is_small(tmp_path):
    codebook = MaskCodebook()
    codebook.save(tmp_path / "c.safetensors")
    assert sum(p.numel() for p in codebook.parameters()) <= 1_000_000
    assert (tmp_path / "c.safetensors").stat().st_size <= 2_000_000


def test_no_masks_have_no_codes():
    codebook = MaskCodebook((4, 4, 4, 4), 4)
    assert codebook.encode(np.zeros((0, CROP, CROP))).shape == (0, 16)
    assert codebook.decode(np.zeros((0, 16), int)).shape == (0, CROP, CROP)


def test_wrong_shapes_and_missing_arrays_are_refused_by_name(published, tmp_path):
    path = tmp_path / "v.npz"
    np.savez(path, **(published | {"decoder.4.weight": np.zeros((128, 128, 3, 3), np.float32)}))
    with pytest.raises(BrokenModel, match=r"decoder\.4\.weight has the shape \[128, 128, 3, 3\].*\[128, 128, 4, 4\]"):
        MaskCodebook.load(path)
    np.savez(path, **{name: value for name, value in published.items() if not name.startswith("encoder.9")})
    with pytest.raises(BrokenModel, match=r"lacks encoder\.9\.net\.0\.bias \(6 arrays missing"):
        MaskCodebook.load(path)
    np.savez(path, **published, extra=np.zeros(3))
    with pytest.raises(BrokenModel, match="also holds extra"):
        MaskCodebook.load(path)
    published["encoder.0.bias"][3] = np.nan
    np.savez(path, **published)
    with pytest.raises(BrokenModel, match="not finite"):
        MaskCodebook.load(path)


class _Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_pickles_are_refused_and_never_run(published, tmp_path):
    path = tmp_path / "v.npz"
    np.savez(path, **(published | {"encoder.0.bias": np.array([_Evil()], dtype=object)}))
    with pytest.raises(BrokenModel, match="pickles are refused"):
        MaskCodebook.load(path)
    path.write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(BrokenModel, match="pickles are refused"):
        MaskCodebook.load(path)


@pytest.mark.parametrize("name", ["v.npz", "v.safetensors", "v.bin"])
def test_broken_and_missing_files_are_refused_with_one_sentence(name, tmp_path):
    with pytest.raises(BrokenModel, match="There is no mask codebook"):
        MaskCodebook.load(tmp_path / name)
    for content in (b"", b"PK\x03\x04 not a zip", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BrokenModel):
            MaskCodebook.load(tmp_path / name)


def test_a_truncated_published_file_is_refused(published, tmp_path):
    np.savez(tmp_path / "v.npz", **published)
    (tmp_path / "v.npz").write_bytes((tmp_path / "v.npz").read_bytes()[:5_000_000])
    with pytest.raises(BrokenModel):
        MaskCodebook.load(tmp_path / "v.npz")


def test_safetensors_of_something_else_are_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "v.safetensors")
    with pytest.raises(BrokenModel, match="is no mask codebook"):
        MaskCodebook.load(tmp_path / "v.safetensors")


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_a_crop_pasted_back_is_nearly_the_mask(ellipse):
    box = tight_box(ellipse)
    assert box is not None
    back = paste_mask(crop_mask(ellipse, box) - 0.5, box, ellipse.shape)
    assert back.shape == ellipse.shape
    assert dice(back, ellipse) > 0.99


def test_a_crop_keeps_the_covered_area(ellipse):
    box = (20.3, 30.7, 290.2, 390.4)
    crop = crop_mask(ellipse, box)
    area = crop.mean() * (box[2] - box[0]) * (box[3] - box[1])
    assert area == pytest.approx(ellipse.sum(), rel=0.01)
    assert crop.min() >= 0
    assert crop.max() <= 1 + 1e-6


def test_a_box_partly_outside_sees_nothing_there(ellipse):
    crop = crop_mask(np.ones((100, 100), bool), (-50, 0, 50, 100))
    assert crop[:30].max() == 0
    assert crop[34:].min() > 0.99
    mask = paste_mask(np.ones((CROP, CROP)), (-50, 20, 50, 180), (100, 100))
    assert mask[:50, 20:].all()
    assert mask.sum() == 50 * 80


@pytest.mark.parametrize("box", [(200.0, 300.0, 240.0, 340.0), (-40.0, -40.0, -1.0, -1.0)])
def test_a_box_outside_the_image_is_empty(box):
    assert crop_mask(np.ones((100, 100), bool), box).max() == 0
    assert not paste_mask(np.ones((CROP, CROP)), box, (100, 100)).any()


@pytest.mark.parametrize("box", [(10, 40, 60, 41), (10, 40.6, 60, 41.4), (10, 40.5, 60, 40.5), (99.2, 10, 99.9, 11)])
def test_a_box_one_pixel_wide_comes_back_one_pixel_wide(box):
    pasted = paste_mask(np.ones((CROP, CROP)), box, (100, 100))
    assert pasted.any()
    assert min(pasted.any(0).sum(), pasted.any(1).sum()) == 1
    assert crop_mask(pasted, box).shape == (CROP, CROP)


def test_one_pixel_survives_with_padding():
    mask = np.zeros((300, 300), bool)
    mask[150, 97] = True
    box = tight_box(mask)
    assert box is not None
    np.testing.assert_array_equal(paste_mask(crop_mask(mask, box) - 0.5, box, mask.shape), mask)
