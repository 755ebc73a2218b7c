"""Teaching the U-Net baseline in the same loop: same images, same changes to them, same optimiser, time measured alike."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.fit.augment import Augmentation, spread
from training.fit.batches import Batch, Plan
from training.fit.dense import dense_dice, dense_loss
from training.fit.placement import place, resample
from training.fit.queries import MAIN
from training.fit.records import Records
from training.fit.settings import PretrainConfig
from training.fit.targets import Moved
from training.model.unet import Unet, build


class UnetPupil:
    """MONAI's U-Net."""

    def __init__(self, config: PretrainConfig, structures: tuple[str, ...]) -> None:
        torch.manual_seed(config.seed)
        self._net = build(len(structures), config.unet_widths)
        self._structures, self._widths = structures, config.unet_widths
        self.learner: nn.Module = _Learner(self._net)
        self.image_size = self.side = config.image_size

    def asker(self, records: Records) -> None:
        """It is asked nothing."""
        return

    def develop(self, plan: Plan) -> Batch:
        """A step's work, without questions."""
        return plan.developed(None, None)

    def write(self, folder: Path, card: dict[str, Any]) -> None:
        """Write the U-Net and its card."""
        Unet(self._net, self._structures, self.image_size, self._widths, card).save(folder)

    def finish(self, records: Records, images: int) -> dict[str, Any]:
        """It has nothing more to learn."""
        return {}

    @torch.inference_mode()
    def validate(self, records: Records, images: int) -> dict[str, float]:
        """Mean Dice over the structures that are there, and of the main ones."""
        found: dict[str, list[float]] = defaultdict(list)
        device = next(self._net.parameters()).device
        for case in np.linspace(0, len(records) - 1, min(images, len(records))).round().astype(int):
            still = place(Augmentation.none(), 1, np.random.default_rng(0))
            image = torch.from_numpy(records.images[[int(case)]].astype(np.float32))[:, None]
            logits = self._net((spread(resample(image, still.whole, self.image_size)) * 2 - 1).to(device)).cpu()
            masks = Moved(records, np.array([case]), still).dense(np.arange(len(self._structures)), self.image_size)
            for key, value in zip(self._structures, dense_dice(logits, masks)[0].tolist(), strict=True):
                if not np.isnan(value):
                    found[key].append(value)
        means = {key: float(np.mean(values)) for key, values in found.items()}
        scores = {"dice": float(np.mean(list(means.values()))) if means else float("nan")}
        return scores | {f"dice/{key}": value for key, value in means.items() if key in MAIN}


class _Learner(nn.Module):
    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Batch, answers: bool = True) -> tuple[Tensor, dict[str, tuple[float, int]]]:
        """Loss of the chosen structures. The questions, and whether they are answered, are for the other pupil."""
        loss = dense_loss(self.net(batch.pixels[:, :1])[:, batch.chosen], batch.masks, batch.known)
        return loss, {"dense_loss": (float(loss.detach()), 1)}
