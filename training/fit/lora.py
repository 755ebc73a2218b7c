"""Low-rank adapters: put into a model in place, and written in peft's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from training.model.checkpoint import CARD, Checkpoint
from training.model.taught import ADAPTER_WEIGHTS

# CheXanatomy's choice (arXiv 2606.08420): every projection of the decoder.
DECODER = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
VISION = r".*vision_tower\..*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)"
RANK = 16


def add_lora(model: nn.Module, rank: int = RANK, *, freeze_vision: bool = True) -> Any:
    """Freeze a model and give its decoder (and its vision tower, unless frozen) low-rank adapters; returns their peft
    configuration."""
    from peft import LoraConfig, inject_adapter_in_model

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    target = DECODER if freeze_vision else f"(?:{DECODER})|(?:{VISION})"
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none", target_modules=target)
    inject_adapter_in_model(config, model)
    for parameter in model.parameters():
        if parameter.requires_grad:  # small steps are lost in the bfloat16 of a base
            parameter.data = parameter.data.float()
    return config


def adapter_weights(model: nn.Module) -> dict[str, Tensor]:
    """The trained weights of an adapted model under peft's names, copied to the CPU."""
    named = {n.replace(".default.", "."): p for n, p in model.named_parameters() if p.requires_grad}
    return {f"base_model.model.{n}": p.detach().float().cpu().contiguous().clone() for n, p in named.items()}


def origin(base: Checkpoint) -> dict[str, str]:
    """What the card of an adapter says of the model it belongs on."""
    return {"base": base.source or base.name, **({"base_weights": base.weights} if base.weights else {})}


def write_adapter(folder: Path, weights: dict[str, Tensor], config: Any, base: Checkpoint, card: dict[str, Any]) -> Path:
    """Write an adapter folder that `training.model.load` and peft open. base: the model it belongs on; the card keeps what opens
    it again, and what tells its weights from another's."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    config.base_model_name_or_path = origin(base)["base"]
    config.inference_mode = True
    config.save_pretrained(str(folder))
    (folder / CARD).write_text(json.dumps({**card, **origin(base)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder
