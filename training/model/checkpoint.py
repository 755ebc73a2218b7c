"""A model with everything that is needed to use it, and its folder on disk."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.anatomy import vocabulary
from training.errors import BrokenModel
from training.model.confidence import Confidence

if TYPE_CHECKING:
    from training.tokens.codebook import MaskCodebook

CARD = "chexanatomy.json"
CODEBOOK = "codebook.safetensors"
PAGE = "README.md"
_MOST_OF_PAGE = 1_000_000
"""Characters read of a card for people."""


@dataclass
class Checkpoint:
    """A loaded model.

    model: transformers' PaliGemmaForConditionalGeneration, perhaps with adapters; codebook: None where masks cannot
    be read; image_size: edge of the square the model sees [px]; packed: whether it was trained with the shared-prefix mask of
    `training.model.packing`; card: what is known about it (see `chexanatomy.json`); name: for lists and file names; source: the
    spec that opens it again; taught: name to ask for -> peft's names of the adapters in the model that answer it
    (`training.model.taught`); weights: what `sampled` says of the model's file, and of the adapters on it, "" for one that has no
    file.
    """

    model: Any
    tokenizer: Any
    codebook: MaskCodebook | None
    image_size: int
    packed: bool
    name: str
    card: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    taught: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weights: str = ""

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with the weights, those of the codebook, or the card."""
        import torch

        digest = hashlib.blake2b(json.dumps(self.card, sort_keys=True, default=str).encode(), digest_size=8)
        for part in (self.model, self.codebook):
            for name, weights in part.state_dict().items() if part is not None else ():
                digest.update(name.encode())
                digest.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()


def create(tokenizer: Any, codebook: MaskCodebook | None, seed: int = 0, *, informed: bool = True, **sizes: Any) -> Checkpoint:
    """Return an untrained chexanatomy-tiny. informed: see `training.model.initial`; sizes: arguments of `tiny_config`."""
    import torch

    from training.model.config import tiny_config
    from training.model.initial import inform
    from training.model.special import SpecialTokens
    from training.model.stem import StemmedPaliGemma

    config = tiny_config(
        len(tokenizer),
        image_token=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token=tokenizer.pad_token_id,
        bos_token=tokenizer.bos_token_id,
        eos_token=tokenizer.eos_token_id,
        **sizes,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = StemmedPaliGemma(config)
        if informed:
            inform(model, SpecialTokens(tokenizer, len(tokenizer)), codebook)
    return Checkpoint(model.eval(), tokenizer, codebook, config.vision_config.image_size, True, "chexanatomy-tiny")


def sampled(model: Any) -> str:
    """Twelve hexadecimal digits that tell a model's weights from another's: of a sample of each, whatever their names."""
    samples = set()
    for weights in model.state_dict().values():
        some = weights.detach().flatten()[:: max(1, weights.numel() // 64)][:64].float().cpu().contiguous()
        samples.add(hashlib.blake2b(repr(tuple(weights.shape)).encode() + some.numpy().tobytes()).digest())
    return hashlib.blake2b(b"".join(sorted(samples)), digest_size=6).hexdigest()


def save_checkpoint(checkpoint: Checkpoint, folder: Path | str) -> Path:
    """Write a checkpoint in the Hugging Face layout, weights in float16, with codebook and card beside it."""
    import torch
    from transformers.utils import logging

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    dtype = checkpoint.model.dtype
    half = {
        k: v.detach().to("cpu", torch.float16 if v.is_floating_point() else v.dtype)
        for k, v in checkpoint.model.state_dict().items()
        if k != "lm_head.weight" or not checkpoint.model.config.tie_word_embeddings  # it is the embedding once more
    }
    checkpoint.model.config.dtype = torch.float16
    logging.disable_progress_bar()
    checkpoint.model.save_pretrained(folder, state_dict=half)
    checkpoint.model.config.dtype = dtype
    checkpoint.tokenizer.save_pretrained(folder)
    if checkpoint.codebook is not None:
        checkpoint.codebook.save(folder / CODEBOOK)
    card = {**checkpoint.card, "name": checkpoint.name, "packed": checkpoint.packed, "image_size": checkpoint.image_size}
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a checkpoint or adapter folder; empty where it has none. Raises BrokenModel for one that cannot be used."""
    path = folder / CARD
    if not path.exists():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        named = f"{path.name} of {folder.name}"
        raise BrokenModel(f"{named} is not readable as JSON: take the folder from its source again.") from error
    if not isinstance(card, dict):
        raise BrokenModel(f"{path.name} of {folder.name} is not a model card: take the folder from its source again.")
    misfit = _misfit(card)
    if misfit:
        raise BrokenModel(
            f"{path.name} of {folder.name} says under {misfit!r} what no model can be used with: take the folder from its source "
            "again."
        )
    return card


def read_page(folder: Path) -> str:
    """The card for people (Markdown) beside a model or adapter, without the data at its head; empty where there is none."""
    path = folder / PAGE
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_MOST_OF_PAGE)
    return (text.split("---", 2)[-1] if text.startswith("---") else text).strip()


def _misfit(card: Mapping[str, Any]) -> str:
    """The first entry of a card that has not the form in which it is used; "" where all have."""
    for entry in ("structures", "learned", "from_drawings"):
        names = card.get(entry, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return entry
    if not isinstance(card.get("validation", {}), dict):
        return "validation"
    in_parts = card.get("in_parts", {})
    if not isinstance(in_parts, dict) or not all(
        isinstance(parts, list) and all(isinstance(part, str) and part in vocabulary() for part in parts)
        for parts in in_parts.values()
    ):
        return "in_parts"
    threshold = card.get("presence_threshold", 0.5)
    if not isinstance(threshold, int | float) or not math.isfinite(threshold):
        return "presence_threshold"
    try:
        Confidence.from_card(card)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return "confidence"
    return ""
