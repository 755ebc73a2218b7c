"""What a model or adapter folder from a stranger may ask for: looked at before any library reads it.

A folder is data: it brings no code, names no files but its own, and has nothing fetched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.errors import BrokenModel
from training.images.paths import leads_outside

CODE = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Entries by which a folder asks transformers to import code that it brings or names."""

TOKENIZERS = ("Gemma", "Llama", "PreTrained", "Tokenizers")
"""Beginnings of the tokenizer classes of PaliGemma and ours; others read other files, some of them pickles."""

LORA_SETTINGS = (
    *("r", "lora_alpha", "target_modules", "exclude_modules", "modules_to_save", "rank_pattern", "alpha_pattern"),
    *("layers_to_transform", "layers_pattern", "bias", "fan_in_fan_out", "use_rslora", "use_dora"),
)
"""What is taken over from an adapter's configuration; others start computations, fetch models or import modules by name."""

MOST_JSON_BYTES = 50_000_000
"""A tokenizer of Gemma takes 35 MB."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration. Raises BrokenModel when it is none."""
    again = "take the folder from its source again"
    try:
        if path.stat().st_size > MOST_JSON_BYTES:
            raise ValueError("too large")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenModel(f"{path.name} of {path.parent.name} cannot be read as JSON: {again}.") from error
    if not isinstance(value, dict):
        raise BrokenModel(f"{path.name} of {path.parent.name} is not a configuration: {again}.")
    return value


def check_model_folder(folder: Path) -> None:
    """Raise BrokenModel when a model's folder brings code, an unknown tokenizer, or weights that lie outside of it."""
    for name in (
        "config.json",
        "tokenizer_config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "processor_config.json",
    ):
        if (folder / name).exists():
            _check_no_code(read_json(folder / name), folder)
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model")):
        raise BrokenModel(f"{folder.name} has no tokenizer (tokenizer.json): take the folder from its source again, as a whole.")
    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    kind = settings.get("tokenizer_class", TOKENIZERS[0])
    if not isinstance(kind, str) or not kind.startswith(TOKENIZERS):
        raise BrokenModel(f"{folder.name} has a tokenizer of the kind {kind!r}: choose a PaliGemma or PaliGemma 2 model.")
    index = folder / "model.safetensors.index.json"
    if index.exists():
        places = read_json(index).get("weight_map", {})
        wanted = set(map(str, places.values())) if isinstance(places, dict) else {""}
        outside = sorted(name for name in wanted if leads_outside(name) or "/" in name or not name.endswith(".safetensors"))
        if outside:
            raise BrokenModel(
                f"{folder.name} wants weights from {outside[0]!r}, outside its own folder: take the folder from its source again."
            )
        missing = sorted(name for name in wanted if not (folder / name).exists())
        if missing:
            raise BrokenModel(f"{folder.name} lacks {missing[0]}, one of its {len(wanted)} weight files: copy it as well.")


def lora_settings(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a LoRA that its configuration may make. Raises BrokenModel for an adapter of another kind."""
    _check_no_code(config, folder)
    if config.get("peft_type") != "LORA":
        raise BrokenModel(f"The adapter {folder.name} is no LoRA but {config.get('peft_type')!r}: only LoRA adapters are opened.")
    return {name: config[name] for name in LORA_SETTINGS if config.get(name) is not None}


def base_named(adapter: Path, base: str) -> str:
    """Return the model that an adapter names as its base: the embedded one, a folder, or a hub id that is to be found here.

    Raises BrokenModel for a path that climbs out of the adapter's surroundings or lies on another machine.
    """
    if not base or "://" in base or base.startswith(("\\\\", "//")) or ".." in base.replace("\\", "/").split("/"):
        raise BrokenModel(f"The adapter {adapter.name} names a base outside its reach ({base!r}): give it as BASE+ADAPTER.")
    beside = adapter.parent / base
    return str(beside) if beside.is_dir() else base


def _check_no_code(value: Any, folder: Path) -> None:
    """Look through a configuration and all that is nested in it."""
    if isinstance(value, dict):
        asked = next((name for name in CODE if name in value), None)
        if asked:
            raise BrokenModel(
                f"{folder.name} asks to run code of its own ({asked}), which is never done: take a model without code."
            )
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_no_code(part, folder)
