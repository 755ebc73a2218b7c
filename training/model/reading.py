"""What the decoder reads of an image: how much of each structure lies in each part of a patch.

PaliGemma hands the vision tower's features over as they are. A small decoder that has seen a few thousand bodies may then place a
structure where others let it expect one, and on real radiographs writes what it expects. What it reads here are shares of
structures, learnt from masks, and nothing else, so that it has to write what was seen. Measured in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional


class ReadingProjector(nn.Module):
    """PaliGemma's projector and, beside it, a way from the vision tower to the decoder through shares of structures.

    linear: PaliGemma's own layer, features to embeddings; read: features to channels * factor ** 2 logits, those of the factor x
    factor parts of a patch side by side, row by row; write, place: these shares, and where the patch is, to embeddings.
    """

    def __init__(self, linear: nn.Linear, places: int, channels: int, factor: int, blend: float = 1.0) -> None:
        """blend: how much of what the decoder reads are shares, 0..1; the rest are the features, by `linear`."""
        super().__init__()
        self.linear, self.factor, self.blend = linear, factor, blend
        self.read = nn.Linear(linear.in_features, channels * factor**2)
        self.write = nn.Linear(channels * factor**2, linear.out_features, bias=False)
        self.place = nn.Parameter(torch.zeros(places, linear.out_features))

    def forward(self, features: Tensor) -> Tensor:
        """features float [images, places, width] to what the decoder reads, float [images, places, width of the decoder]."""
        return self.written(features, self.shares(features))

    def shares(self, features: Tensor) -> Tensor:
        """The structures' shares, float [images, places, channels * factor ** 2] in 0..1."""
        return torch.sigmoid(self.read(features))

    def written(self, features: Tensor, shares: Tensor, by: Tensor | None = None, blend: Tensor | None = None) -> Tensor:
        """What the decoder reads. by: int64 [images, structures, 2], as `moved` takes it, where structures are read away from
        where they are; blend: float [images], by default the model's own."""
        share = self.blend if blend is None else blend[:, None, None]
        read = share * shares if by is None else share * shares + self.moved(shares, by) - shares
        embedded: Tensor = (1 - share) * self.linear(features) + self.write(read) + share * self.place
        return embedded

    def moved(self, shares: Tensor, by: Tensor) -> Tensor:
        """Shares with each structure somewhere else; what comes from outside is 0. by: int64 [images, structures, 2], down and to
        the right, in parts of a patch; channels beyond these structures stay."""
        images, places, _ = shares.shape
        grid = round(places**0.5)
        side = grid * self.factor
        maps = functional.pixel_shuffle(shares.mT.reshape(images, -1, grid, grid), self.factor)
        result = maps.clone()
        for image, structure in by.any(-1).nonzero().tolist():
            down, right = by[image, structure].tolist()
            new = result[image, structure].zero_()
            new[max(down, 0) : side + min(down, 0), max(right, 0) : side + min(right, 0)] = maps[
                image, structure, max(-down, 0) : side - max(down, 0), max(-right, 0) : side - max(right, 0)
            ]
        return functional.pixel_unshuffle(result, self.factor).flatten(2).mT

    @torch.no_grad()
    def imitate(self, features: Iterable[Tensor], least: float = 10.0) -> None:
        """Set `write` and `place` to what comes closest to `linear`, by ridge regression of weight `least`, so that a decoder
        that was taught with it understands at once. features: float [images, places, width] each, of the vision tower."""
        seen = torch.cat([f.detach().float() for f in features])
        wanted = self.linear(seen)
        middle = wanted.mean(0)
        count = self.read.out_features
        usual = sum(self.shares(f[None])[0] for f in seen) / len(seen)
        square, cross = torch.zeros(count, count), torch.zeros(count, self.linear.out_features)
        for one, aim in zip(seen, wanted, strict=True):
            off = self.shares(one[None])[0] - usual
            square += off.T @ off
            cross += off.T @ (aim - middle)
        solved = torch.linalg.solve(square + least * torch.eye(count), cross)
        self.write.weight.copy_(solved.T)
        self.place.copy_(middle - usual @ solved)
