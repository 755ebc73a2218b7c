"""A quick look at a model in training: how far boxes, codes and masks are off on held-out subjects."""

from __future__ import annotations

import numpy as np
import torch

from training.fit.dense import DenseHead, dense_dice
from training.fit.queries import MAIN
from training.fit.records import ABSENT, COARSE, PRESENT, Records
from training.model import decoding
from training.model.checkpoint import Checkpoint
from training.model.packing import see
from training.model.predictor import display_name
from training.model.preprocess import stretch
from training.model.special import SpecialTokens
from training.tokens import box_to_bins
from training.tokens.codebook import paste_mask
from training.tokens.grammar import segment_prompt


@torch.inference_mode()
def validate(checkpoint: Checkpoint, records: Records, images: int, head: DenseHead | None = None) -> dict[str, float]:
    """Ask for the main structures and a sample of the others in up to `images` cases.

    Returns box_error [bins], code_accuracy (only meaningful once boxes are right), dice (mean over structures), dice/<main
    structure>, dense_dice (of the auxiliary head, which is not shipped), absent (share of absent structures called absent),
    present (share of present ones called present). Dice is taken at the coarse masks' resolution.
    """
    assert checkpoint.codebook is not None
    model = checkpoint.model
    device = next(model.parameters()).device
    tokens = SpecialTokens(checkpoint.tokenizer, model.config.get_text_config().vocab_size)
    keys = [str(k) for k in records.structures]
    rng = np.random.default_rng(0)
    cases = np.linspace(0, len(records) - 1, min(images, len(records))).round().astype(int)
    errors: list[float] = []
    right: list[float] = []
    dice: dict[str, list[float]] = {}
    said_absent: list[bool] = []
    said_present: list[bool] = []
    dense: dict[str, list[float]] = {}
    for case in cases:
        state = records.state[case]
        main = [i for i, k in enumerate(keys) if k in MAIN and state[i] == PRESENT]
        others = [i for i in np.flatnonzero(state == PRESENT) if i not in main]
        gone = np.flatnonzero(state == ABSENT)
        asked = [*main, *rng.permutation(others)[:12].tolist(), *rng.permutation(gone)[:4].tolist()]
        if not asked:
            continue
        image = torch.from_numpy(stretch(records.images[case].astype(np.float32)))[None, None]
        image = torch.nn.functional.interpolate(image, (checkpoint.image_size,) * 2, mode="bilinear", antialias=True)
        pixels = (image * 2 - 1).expand(1, 3, -1, -1).to(device, model.dtype)
        prefix = see(model, pixels, packed=checkpoint.packed)
        written = decoding.write(model, tokens, prefix, [tokens.prompt(segment_prompt(display_name(keys[i]))) for i in asked])
        wanted = records.masks(np.array([case]))
        masks = wanted[0].numpy() > 0.5
        if head is not None:
            for key, value in zip(keys, dense_dice(head(prefix.vision), wanted.to(device))[0].tolist(), strict=True):
                if not np.isnan(value):
                    dense.setdefault(key, []).append(value)
        decoded = checkpoint.codebook.decode(torch.tensor([w.codes for w in written])).cpu().numpy()
        for i, answer, logits in zip(asked, written, decoded, strict=True):
            if state[i] == ABSENT:
                said_absent.append(answer.presence < 0.5)
                continue
            said_present.append(answer.presence >= 0.5)
            y0, x0, y1, x1 = (float(v) for v in records.boxes[case, i])
            errors.append(float(np.abs(np.subtract(answer.bins, box_to_bins((y0, x0, y1, x1), (1, 1)))).mean()))
            right.append(float(np.mean(np.array(answer.codes) == records.codes[case, i])))
            top, left, bottom, far = (v / 1023 * COARSE for v in answer.bins)
            mask = paste_mask(logits, (top, left, bottom, far), (COARSE, COARSE)) & (answer.presence >= 0.5)
            if masks[i].any():
                dice.setdefault(keys[i], []).append(float(2 * (mask & masks[i]).sum() / (mask.sum() + masks[i].sum())))
    scores = {
        "box_error": _mean(errors),
        "code_accuracy": _mean(right),
        "dice": _mean([_mean(v) for v in dice.values()]),
        "dense_dice": _mean([_mean(v) for v in dense.values()]),
        "absent": _mean(said_absent),
        "present": _mean(said_present),
    }
    return scores | {f"dice/{k}": _mean(dice[k]) for k in keys if k in MAIN and k in dice}


def _mean(values: list[float] | list[bool]) -> float:
    return float(np.mean(values)) if values else float("nan")
