"""Masks as sixteen codes: the VQ-VAE that PaliGemma's segmentation tokens stand for.

The layers and their names are those of big_vision's `vae-oid.npz` (Ning et al., "All in Tokens", arXiv 2301.02229), so one module
holds the published codebook and this project's own, which differs in its widths only. Codes are the 4 x 4 grid, row by row.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.errors import BrokenModel
from training.tokens.boxes import Box
from training.tokens.grammar import SEG_CODES

CROP = 64
"""Rows and columns of a cropped mask."""

GRID = 4
"""Rows and columns of the code grid of PaliGemma's tokens: the crop halved four times."""

PUBLISHED_WIDTHS = (16, 32, 64, 128)
PUBLISHED_CODE_WIDTH = 512
"""Channels of `vae-oid.npz`; with its two running averages for training they give its published size of 8,479,556 bytes."""

OWN_WIDTHS = (8, 24, 64, 80)
OWN_CODE_WIDTH = 64
"""Channels of this project's codebook: few where the picture is large, so that it trains in minutes on one core."""

EMBEDDING = "_vq_vae._embedding"
_TRAINING_ONLY = {"_vq_vae._ema_w", "_vq_vae._ema_cluster_size"}
_BATCH = 256
MOST_BYTES = 100_000_000
"""A codebook takes 8 MB; an archive that unpacks to more than this is none."""


class MaskCodebook(nn.Module):
    """A VQ-VAE for masks: 64 x 64 pixels to 4 x 4 codes out of 128 and back.

    widths: channels at 32, 16, 8 and 4 pixels (three of them leave 8 x 8 codes, for comparison); code_width: numbers per code;
    notes: plain text kept in the file, such as where the codebook comes from and what it was measured to reach.
    """

    size = SEG_CODES

    def __init__(self, widths: tuple[int, ...] = OWN_WIDTHS, code_width: int = OWN_CODE_WIDTH) -> None:
        """Set up random weights; `widths` and `code_width` are described with the class."""
        super().__init__()
        first, last = widths[0], widths[-1]
        self.widths = widths
        self.code_width = code_width
        self.grid = CROP >> len(widths)
        self.notes: dict[str, str] = {}
        # With even sizes, TensorFlow's SAME padding of a 4 x 4 kernel at stride 2 is one pixel on every side.
        self.encoder = nn.Sequential(
            *[layer for a, b in pairwise((1, *widths)) for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())],
            *[_Residual(last), _Residual(last), nn.Conv2d(last, code_width, 1)],
        )
        self.decoder = nn.Sequential(
            *[nn.Conv2d(code_width, last, 1), nn.ReLU(), _Residual(last), _Residual(last)],
            *[layer for a, b in pairwise((last, *widths[::-1])) for layer in (nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU())],
            nn.Conv2d(first, 1, 1),
        )
        self._vq_vae = nn.Module()
        self._vq_vae.register_buffer("_embedding", torch.randn(self.size, code_width))

    @property
    def embedding(self) -> Tensor:
        """The codes, float32 [128, code_width]."""
        return self._vq_vae.get_buffer("_embedding")

    def encode(self, masks: Tensor | NDArray) -> Tensor:
        """Return the codes int64 [n, 16] of mask crops [n, 64, 64] (bool, or the covered fraction of each pixel in 0..1)."""
        crops = torch.as_tensor(masks).to(self.embedding.device)
        with torch.no_grad():
            parts = [self.nearest(self.features(part.float())) for part in crops.split(_BATCH)]
        return torch.cat(parts) if parts else torch.empty(0, self.grid**2, dtype=torch.int64)

    def decode(self, codes: Tensor | NDArray) -> Tensor:
        """Return mask logits float32 [n, 64, 64], above 0 inside the mask, of codes int [n, 16]."""
        wanted = torch.as_tensor(codes).to(self.embedding.device, torch.int64)
        with torch.no_grad():
            parts = [self.logits(self.embedding[part]) for part in wanted.split(_BATCH)]
        return torch.cat(parts) if parts else torch.empty(0, CROP, CROP)

    def blend(self, shares: Tensor) -> Tensor:
        """Return mask logits float32 [n, 64, 64] of codes that are only known to be so probable: float [n, 16, codes]. Where a
        model hesitates between codes, what they draw is blended; where it is sure, this is `decode`."""
        with torch.no_grad():
            return self.logits(shares.to(self.embedding) @ self.embedding)

    def features(self, masks: Tensor) -> Tensor:
        """Return the encoder's output [n, 16, code_width] for mask crops float32 [n, 64, 64] in 0..1."""
        encoded: Tensor = self.encoder(2 * masks[:, None] - 1)
        return encoded.flatten(2).transpose(1, 2)

    def nearest(self, features: Tensor) -> Tensor:
        """Return the index int64 [n, 16] of the code nearest to each of the features [n, 16, code_width]."""
        distance = self.embedding.square().sum(1) - 2 * features @ self.embedding.T
        return distance.argmin(-1)

    def logits(self, features: Tensor) -> Tensor:
        """Return the decoder's output [n, 64, 64] for codes given as vectors [n, 16, code_width]."""
        n = len(features)
        decoded: Tensor = self.decoder(features.transpose(1, 2).reshape(n, self.code_width, self.grid, self.grid))
        return decoded[:, 0]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the codebook as safetensors in half precision, its notes included; an existing file is replaced as a whole."""
        from safetensors.torch import save

        tensors = {name: value.detach().cpu().to(torch.float16).contiguous() for name, value in self.state_dict().items()}
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.partial")
        partial.write_bytes(save(tensors, metadata={"format": "pt", **self.notes}))
        partial.replace(target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MaskCodebook:
        """Read big_vision's `vae-oid.npz`, or a codebook of this project (`.safetensors`). Pickled data is never read.

        Raises BrokenModel, with the reason, for anything else.
        """
        source = Path(path)
        if not source.is_file():
            raise BrokenModel(
                f"There is no mask codebook at {source}: give the path of vae-oid.npz or of a .safetensors codebook."
            )
        if source.suffix == ".npz":
            tensors, notes = _read_npz(source), {"source": "big_vision vae-oid"}
            codebook = cls(PUBLISHED_WIDTHS, PUBLISHED_CODE_WIDTH)
        elif source.suffix == ".safetensors":
            tensors, notes = _read_safetensors(source)
            codebook = cls(*_widths(tensors, source))
        else:
            raise BrokenModel(f"{source.name} is no mask codebook: only .npz (big_vision's layout) and .safetensors are read.")
        _check(tensors, codebook.state_dict(), source)
        codebook.load_state_dict(tensors)
        codebook.notes = notes
        return codebook.eval()


class _Residual(nn.Module):
    """Two 3 x 3 convolutions and a 1 x 1 beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


def crop_mask(mask: NDArray[np.bool_], box: Box, cells: int = CROP) -> NDArray[np.float32]:
    """Return the part of `mask` [row, column] in a pixel box as float32 [cells, cells]: the covered fraction, smoothly
    resampled.

    The filter is the triangle of an anti-aliased bilinear resize, as in big_vision. Outside the image there is no mask.
    """
    rows, by_row = _sampling(box[0], box[2], mask.shape[0], cells)
    columns, by_column = _sampling(box[1], box[3], mask.shape[1], cells)
    crop: NDArray[np.float32] = by_row @ mask[rows, columns].astype(np.float32) @ by_column.T
    return crop


def paste_mask(logits: NDArray, box: Box, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask bool [rows, columns] of `size` that logits [64, 64] describe inside a pixel box.

    The logits are interpolated linearly at the pixels whose centre lies in the box, and are mask where they are above 0. A box
    too narrow to hold a pixel centre gets the pixels nearest to its middle.
    """
    window, pasted = paste_logits(logits, box, size)
    mask = np.zeros(size, bool)
    mask[window] = pasted > 0
    return mask


def paste_logits(logits: NDArray, box: Box, size: tuple[int, int]) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Return what is behind `paste_mask`: which rows and columns of an image of `size` lie in the box, and the logits there."""
    rows, by_row = _spreading(box[0], box[2], size[0])
    columns, by_column = _spreading(box[1], box[3], size[1])
    return (rows, columns), by_row @ np.asarray(logits, dtype=np.float32) @ by_column.T


def _sampling(low: float, high: float, length: int, cells: int) -> tuple[slice, NDArray]:
    """Return the pixels that cells from `low` to `high` see along an axis of `length`, and their weights [cells, pixels]."""
    step = max(high - low, 1e-6) / cells
    centres = low + step * (np.arange(cells) + 0.5)
    support = max(step, 1.0)
    start = min(max(int(np.floor(centres[0] - support)), 0), length)
    stop = min(max(int(np.ceil(centres[-1] + support)), 0), length)
    outside = (centres < 0) | (centres > length)
    return slice(start, stop), np.where(outside[:, None], 0, _triangle(centres, np.arange(start, stop) + 0.5, support))


def _spreading(low: float, high: float, length: int) -> tuple[slice, NDArray]:
    """Return the pixels of an axis of `length` with their centre between `low` and `high`, and their weights [pixels, 64]."""
    start, stop = int(np.ceil(low - 0.5)), int(np.ceil(high - 0.5))
    if stop <= start:
        start = int(np.floor((low + high) / 2))
        stop = start + 1
    start, stop = min(max(start, 0), length), min(max(stop, 0), length)
    centres = (np.arange(start, stop) + 0.5 - low) * CROP / max(high - low, 1e-6)
    return slice(start, stop), _triangle(np.clip(centres, 0.5, CROP - 0.5), np.arange(CROP) + 0.5, 1.0)


def _triangle(centres: NDArray, samples: NDArray, support: float) -> NDArray:
    """Return weights float32 [centres, samples] that fall linearly to 0 at the distance `support`; each row sums to 1 or is 0."""
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - samples[None]) / support).astype(np.float32)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)


def _read_npz(source: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(source) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > MOST_BYTES:
            raise BrokenModel(f"{source.name} unpacks to {size / 1e6:.0f} MB, more than any mask codebook: use vae-oid.npz.")
        with source.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name not in _TRAINING_ONLY}
        return {name: torch.from_numpy(np.array(array, dtype=np.float32)) for name, array in arrays.items()}
    except (ValueError, TypeError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise BrokenModel(
            f"{source.name} cannot be read as plain arrays (pickles are refused): use big_vision's vae-oid.npz."
        ) from error


def _read_safetensors(source: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(source, framework="pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            notes = {name: text for name, text in (file.metadata() or {}).items() if name != "format"}
    except (SafetensorError, OSError) as error:
        raise BrokenModel(f"{source.name} is no complete safetensors file: copy or train the mask codebook again.") from error
    return tensors, notes


def _widths(tensors: Mapping[str, Tensor], source: Path) -> tuple[tuple[int, ...], int]:
    """Read the channels off the encoder's own weights: its strided convolutions, and behind two residual blocks the last one."""
    sizes = {name: len(tensors[name]) for name in tensors if name.startswith("encoder.") and name.count(".") == 2}
    halvings = next(i for i in range(len(sizes) + 1) if f"encoder.{2 * i}.bias" not in sizes)
    code = f"encoder.{2 * halvings + 2}.bias"
    if halvings not in (3, 4) or code not in sizes:
        raise BrokenModel(f"{source.name} is no mask codebook: it has no encoder of four or five convolutions.")
    return tuple(sizes[f"encoder.{2 * i}.bias"] for i in range(halvings)), sizes[code]


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: Path) -> None:
    """Raise BrokenModel unless the tensors have exactly the expected names and shapes and finite values."""
    missing = sorted(expected.keys() - tensors.keys())
    surplus = sorted(tensors.keys() - expected.keys())
    if missing or surplus:
        named = f"lacks {missing[0]}" if missing else f"also holds {surplus[0]}"
        counted = f"{len(missing)} arrays missing, {len(surplus)} unknown"
        raise BrokenModel(f"{source.name} {named} ({counted}): it is no mask codebook of this layout.")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            came, wanted = list(tensor.shape), list(expected[name].shape)
            raise BrokenModel(
                f"In {source.name} the array {name} has the shape {came}; a mask codebook of this layout has {wanted}."
            )
        if not torch.isfinite(tensor).all():
            raise BrokenModel(f"In {source.name} the array {name} holds values that are not finite: copy or train it again.")
