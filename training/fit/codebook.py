"""Training the mask codebook on mask crops, and measuring the best it can do for each structure."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from training.errors import BrokenDataset
from training.progress import ProgressCallback, report
from training.tokens.boxes import bins_to_box, box_to_bins, tight_box
from training.tokens.codebook import CROP, OWN_CODE_WIDTH, OWN_WIDTHS, MaskCodebook, crop_mask, paste_mask

if TYPE_CHECKING:
    from training.dataset import Dataset
    from training.dataset.case import Split

REPORT_EVERY = 20
"""Steps between two progress reports."""

KMEANS_CROPS = 4096
KMEANS_ROUNDS = 15
"""Crops whose features the first codes are clustered from, and the rounds of Lloyd's algorithm."""


@dataclass(frozen=True)
class CodebookRecipe:
    """How the codebook learns.

    Parts of the training, as fractions of its steps: `warmup` as a plain auto-encoder before there are codes, and `settle` at the
    end with the codes held still. decay: per step, of the running averages that are the codes; commitment: weight of keeping
    features near their codes; dead: a code that is used less often than this, relative to its fair share, is restarted every
    `restart_every` steps; mirror: also learn from left-right mirrored crops.
    """

    widths: tuple[int, ...] = OWN_WIDTHS
    code_width: int = OWN_CODE_WIDTH
    batch: int = 64
    learning_rate: float = 3e-3
    warmup: float = 0.25
    settle: float = 0.15
    decay: float = 0.95
    commitment: float = 0.25
    dead: float = 0.05
    restart_every: int = 50
    mirror: bool = True
    seed: int = 0


class Crops(NamedTuple):
    """Mask crops uint8 [n, 64, 64] (0..255: the covered fraction of each pixel) and the structure each one shows."""

    masks: NDArray[np.uint8]
    structures: list[str]


def train_codebook(
    masks: NDArray | Iterable[NDArray],
    out: str | os.PathLike[str],
    steps: int = 1000,
    recipe: CodebookRecipe | None = None,
    progress: ProgressCallback | None = None,
    device: str = "cpu",
) -> MaskCodebook:
    """Train a codebook on mask crops, save it at `out` (.safetensors, half precision) and return it as it reads from there.

    masks: bool or uint8 [n, 64, 64], one array or many crops; uint8 counts from 0 to 255, or from 0 to 1 if nothing exceeds 1.
    The stages: a plain auto-encoder, codes from a k-means of its features, then both together, the codes as running averages of
    the features they stand for (van den Oord et al., arXiv 1711.00937), with unused codes restarted. The loss is binary
    cross-entropy plus Dice. Raises BrokenDataset where there is nothing to learn from, and Cancelled if `progress` does.
    """
    recipe = recipe or CodebookRecipe()
    crops = _as_crops(masks)
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    codebook = MaskCodebook(recipe.widths, recipe.code_width).to(device)
    codebook.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on a CPU
    optimizer = torch.optim.Adam(codebook.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.05)
    warm = int(recipe.warmup * steps)
    settled = int((1 - recipe.settle) * steps)
    codes: _RunningCodes | None = None

    for step in range(steps):
        batch = _draw(crops, recipe, generator).to(device)
        features = codebook.features(batch)
        if step == warm:
            codes = _RunningCodes(
                codebook, _kmeans(_sample_features(codebook, crops, generator), codebook.size, generator), recipe
            )
        commitment = features.new_zeros(())
        inner = features
        if codes is not None:
            chosen = codebook.nearest(features.detach())
            quantised = codebook.embedding[chosen]
            commitment = F.mse_loss(features, quantised)
            inner = features + (quantised - features).detach()
            if step < settled:
                codes.update(features.detach(), chosen, generator)
        loss = mask_loss(codebook.logits(inner), batch)
        optimizer.zero_grad(set_to_none=True)
        (loss + recipe.commitment * commitment).backward()
        optimizer.step()
        schedule.step()
        if step % REPORT_EVERY == 0 or step == steps - 1:
            used = codes.used if codes is not None else 0
            report(progress, step + 1, steps, "Training the mask codebook", loss=float(loss.detach()), codes_used=float(used))

    codebook.notes = {"crops": str(len(crops)), "steps": str(steps), "seed": str(recipe.seed)}
    codebook.cpu().save(out)
    return MaskCodebook.load(out)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return binary cross-entropy plus 1 - Dice, averaged over the crops, of logits against masks in 0..1 (both [n, 64, 64])."""
    inside = logits.sigmoid()
    overlap = 2 * (inside * masks).sum((1, 2)) + 1
    dice = overlap / (inside.sum((1, 2)) + masks.sum((1, 2)) + 1)
    return F.binary_cross_entropy_with_logits(logits, masks) + (1 - dice).mean()


def dataset_masks(
    dataset: Dataset, limit: int = 40_000, seed: int = 0, split: Split | None = "train"
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield up to `limit` pairs of a structure and its mask bool [row, column], drawn from all cases of a data set alike.

    A limit thins the structures of each case rather than the cases. split: whose cases, None for all. Masks that a reviewer
    rejected are left out.
    """
    excluded = dataset.reviews.excluded()
    offered = [
        (index, structure)
        for index, case in enumerate(dataset.cases)
        if split is None or case.split == split
        for structure in case.present
        if not {(case.id, structure), (case.id, "")} & excluded
    ]
    drawn: dict[int, list[str]] = defaultdict(list)
    for choice in sorted(np.random.default_rng(seed).permutation(len(offered))[:limit]):
        drawn[offered[choice][0]].append(offered[choice][1])
    for index, wanted in drawn.items():
        yield from dataset.masks(dataset.cases[index], wanted).items()


def mask_crops(
    dataset: Dataset, limit: int = 40_000, seed: int = 0, jitter: float = 0.02, split: Split | None = "train"
) -> Crops:
    """Return crops of the masks that `dataset_masks` yields, in padded tight boxes whose sides are moved at random.

    jitter: standard deviation of each side's move, as a fraction of the box. Empty masks are passed over.
    """
    rng = np.random.default_rng(seed)
    masks: list[NDArray[np.uint8]] = []
    structures: list[str] = []
    for structure, mask in dataset_masks(dataset, limit, seed, split):
        box = tight_box(mask)
        if box is None:
            continue
        height, width = box[2] - box[0], box[3] - box[1]
        top, left, bottom, right = np.add(box, rng.normal(0, jitter, 4) * (height, width, height, width))
        masks.append(np.rint(255 * crop_mask(mask, (top, left, bottom, right))).astype(np.uint8))
        structures.append(structure)
    return Crops(np.stack(masks) if masks else np.zeros((0, CROP, CROP), np.uint8), structures)


def reconstruction_ceiling(codebook: MaskCodebook, masks: Iterable[tuple[str, NDArray[np.bool_]]]) -> dict[str, float]:
    """Return structure -> mean Dice of its masks after being written as box and codes and pasted back at full size.

    masks: pairs of a structure and its mask bool [row, column] at the image's size; empty masks are passed over. No model that
    writes these tokens can do better on average.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for chunk in _chunks(masks, 256):
        boxes = [bins_to_box(box_to_bins(box, mask.shape), mask.shape) for _, mask, box in chunk]
        crops = np.stack([crop_mask(mask, box) for (_, mask, _), box in zip(chunk, boxes, strict=True)])
        logits = codebook.decode(codebook.encode(crops)).cpu().numpy()
        for (structure, mask, _), box, decoded in zip(chunk, boxes, logits, strict=True):
            back = paste_mask(decoded, box, mask.shape)
            scores[structure].append(2 * float((back & mask).sum()) / float(back.sum() + mask.sum()))
    return {structure: float(np.mean(values)) for structure, values in scores.items()}


class _RunningCodes:
    """The codes as running averages of the features assigned to them."""

    def __init__(self, codebook: MaskCodebook, start: Tensor, recipe: CodebookRecipe) -> None:
        self.codebook = codebook
        self.recipe = recipe
        self.count = torch.ones(codebook.size, device=start.device)
        self.total = start.clone()
        self.recent = torch.zeros(codebook.size, device=start.device)
        self.updates = 0
        self.used = codebook.size
        codebook.embedding.copy_(start)

    @torch.no_grad()
    def update(self, features: Tensor, chosen: Tensor, generator: torch.Generator) -> None:
        """Move the codes towards a batch's features [n, 16, width] chosen as [n, 16]; now and then restart the unused ones."""
        flat, index = features.flatten(0, 1), chosen.flatten()
        fair = len(flat) / self.codebook.size
        count = torch.bincount(index, minlength=self.codebook.size) / fair
        self.count.lerp_(count, 1 - self.recipe.decay)
        self.total.lerp_(torch.zeros_like(self.total).index_add_(0, index, flat) / fair, 1 - self.recipe.decay)
        self.recent += count
        self.updates += 1
        if self.updates % self.recipe.restart_every == 0:
            dead = torch.nonzero(self.recent < self.recipe.dead * self.recipe.restart_every).flatten()
            picked = flat[torch.randint(len(flat), (len(dead),), generator=generator).to(flat.device)]
            self.count[dead], self.total[dead] = 1.0, picked
            self.used = self.codebook.size - len(dead)
            self.recent.zero_()
        self.codebook.embedding.copy_(self.total / self.count[:, None].clamp_min(1e-5))


def _as_crops(masks: NDArray | Iterable[NDArray]) -> Tensor:
    """Return crops uint8 [n, 64, 64] counting from 0 to 255."""
    crops = masks if isinstance(masks, np.ndarray) else np.array(list(masks))
    if crops.ndim != 3 or crops.shape[1:] != (CROP, CROP) or len(crops) == 0:
        raise BrokenDataset(f"A codebook learns from mask crops of 64 x 64 pixels; these have the shape {list(crops.shape)}.")
    if crops.dtype == np.bool_ or crops.max() <= 1:
        crops = crops.astype(np.uint8) * np.uint8(255)
    return torch.from_numpy(np.ascontiguousarray(crops, dtype=np.uint8))


def _draw(crops: Tensor, recipe: CodebookRecipe, generator: torch.Generator) -> Tensor:
    """Return a random batch of crops float32 [batch, 64, 64] in 0..1."""
    batch = crops[torch.randint(len(crops), (recipe.batch,), generator=generator)].float() / 255
    if recipe.mirror:
        mirrored = torch.rand(len(batch), generator=generator) < 0.5
        batch[mirrored] = batch[mirrored].flip(2)
    return batch


@torch.no_grad()
def _sample_features(codebook: MaskCodebook, crops: Tensor, generator: torch.Generator) -> Tensor:
    """Return the features [16 n, width] of up to KMEANS_CROPS random crops."""
    chosen = crops[torch.randperm(len(crops), generator=generator)[:KMEANS_CROPS]]
    parts = [codebook.features(part.to(codebook.embedding.device).float() / 255).flatten(0, 1) for part in chosen.split(256)]
    return torch.cat(parts)


@torch.no_grad()
def _kmeans(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Return k cluster centres [k, width] of points [n, width]: Lloyd's algorithm from a k-means++ start."""
    first = torch.randint(len(points), (1,), generator=generator).item()
    centres = points[int(first)][None]
    nearest = (points - centres[0]).square().sum(1)
    for _ in range(k - 1):
        draw = torch.rand(1, generator=generator).to(points.device) * nearest.sum()
        new = points[torch.searchsorted(nearest.cumsum(0), draw).clamp_max(len(points) - 1)]
        centres = torch.cat([centres, new])
        nearest = torch.minimum(nearest, (points - new).square().sum(1))
    for _ in range(KMEANS_ROUNDS):
        index = (centres.square().sum(1) - 2 * points @ centres.T).argmin(1)
        count = torch.bincount(index, minlength=k)
        total = torch.zeros_like(centres).index_add_(0, index, points)
        centres = torch.where(count[:, None] > 0, total / count[:, None].clamp_min(1), centres)
    return centres


def _chunks(
    masks: Iterable[tuple[str, NDArray[np.bool_]]], size: int
) -> Iterator[list[tuple[str, NDArray[np.bool_], tuple[float, float, float, float]]]]:
    """Yield lists of up to `size` masks with their structure and padded tight box, without the empty ones."""
    chunk = []
    for structure, mask in masks:
        box = tight_box(mask)
        if box is not None:
            chunk.append((structure, mask, box))
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
