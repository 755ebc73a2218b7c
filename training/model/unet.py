"""The baseline that the token model is set beside: MONAI's U-Net, one channel per structure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from training.errors import BrokenModel
from training.model.checkpoint import CARD, read_card
from training.model.preprocess import letterbox, stretch

if TYPE_CHECKING:
    from training.images import Radiograph
    from training.model.predictor import Finding

WEIGHTS = "unet.safetensors"
SMALLEST_SHARE = 1e-4
"""A structure of which less than this share of the picture is marked counts as absent."""


def build(structures: int, widths: Sequence[int]) -> Any:
    """MONAI's BasicUNet for grey pictures. widths: its six channel numbers."""
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, 1, structures, features=tuple(widths), norm=("instance", {"affine": True}))


@dataclass
class Unet:
    """A trained U-Net: answers like a Predictor, with masks only.

    net: float [n, 1, size, size] in -1..1 to logits [n, structures, size, size]; structures: keys, one per channel; image_size
    [px]; card: what is known about it.
    """

    net: Any
    structures: tuple[str, ...]
    image_size: int
    widths: tuple[int, ...]
    card: dict[str, Any] = field(default_factory=dict)

    def segment(self, radiograph: Radiograph, structures: Sequence[str], batch: int = 1, **_: Any) -> list[Finding]:
        """One Finding per structure, in the order asked, without tokens and text; a structure that it has no channel for is
        absent."""
        from training.anatomy import find
        from training.model.predictor import Finding

        square, place = letterbox(stretch(radiograph.pixels), self.image_size)
        with torch.inference_mode():
            probability = self.net(torch.from_numpy(square * 2 - 1)[None, None])[0].sigmoid()
        column = {key: i for i, key in enumerate(self.structures)}
        rows, columns = place.shape
        top, left = round(place.top), round(place.left)
        high, wide = max(1, round(rows * place.scale)), max(1, round(columns * place.scale))
        findings = []
        for text in structures:
            key = find(text).key
            if key not in column:
                findings.append(Finding(key, False, None, None, 0.0, (), f"none {find(text).name}"))
                continue
            seen = probability[column[key], top : top + high, left : left + wide]
            full = torch.nn.functional.interpolate(seen[None, None], (rows, columns), mode="bilinear")[0, 0].numpy()
            mask = full > 0.5
            if mask.mean() < SMALLEST_SHARE:
                findings.append(Finding(key, False, None, None, float(1 - full.max()), (), f"none {find(text).name}"))
                continue
            r, c = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = (float(r[0]), float(c[0]), float(r[-1] + 1), float(c[-1] + 1))
            findings.append(Finding(key, True, box, mask, float(full[mask].mean()), (), ""))
        return findings

    def untaught(self, names: Sequence[str]) -> list[str]:
        """Return the keys of those structures that it has no channel for. Raises UnknownStructure for names nobody knows."""
        from training.anatomy import find

        return [key for key in (find(name).key for name in names) if key not in self.structures]

    def save(self, folder: Path) -> None:
        """Write weights in half precision, and the card."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        half: dict[str, Tensor] = {
            k: v.detach().cpu().half().contiguous() if v.is_floating_point() else v.cpu()
            for k, v in self.net.state_dict().items()
        }
        save_file(half, folder / WEIGHTS)
        shape = {"name": "U-Net", "structures": list(self.structures), "image_size": self.image_size, "widths": list(self.widths)}
        (folder / CARD).write_text(json.dumps({**self.card, **shape}, indent=1) + "\n", encoding="utf-8")


def load_unet(folder: Path) -> Unet:
    """Open what `Unet.save` wrote. Raises BrokenModel."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    card = read_card(folder)
    try:
        structures, widths, size = tuple(card["structures"]), tuple(card["widths"]), int(card["image_size"])
        if size < 1:
            raise ValueError("no picture size")
        net = build(len(structures), widths)
        net.load_state_dict({k: v.float() for k, v in load_file(folder / WEIGHTS).items()})
    except (IndexError, KeyError, OSError, RuntimeError, TypeError, ValueError, ZeroDivisionError, SafetensorError) as error:
        raise BrokenModel(f"{folder} is no complete U-Net: train it again with `chexanatomy train --unet`.") from error
    return Unet(net.eval(), structures, size, widths, card)
