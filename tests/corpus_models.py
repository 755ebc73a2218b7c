"""Broken and hostile checkpoints, adapters and codebooks of the corpus."""

from __future__ import annotations

import atexit
import functools
import io
import json
import pickle
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus import Entry


@functools.cache
def _template() -> Path:
    from training.model.checkpoint import create, save_checkpoint
    from training.tokens.codebook import MaskCodebook
    from training.tokens.tokenizer import build_tokenizer

    home = Path(tempfile.mkdtemp(prefix="template-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    sizes = {"image_size": 64, "patch": 16, "vision_width": 32, "vision_depth": 1, "text_width": 32, "text_depth": 1}
    codebook = MaskCodebook(widths=(4, 8, 8, 8), code_width=8).eval()
    return save_checkpoint(create(build_tokenizer(), codebook, text_hidden=64, heads=2, **sizes), home / "model")


def good(folder: Path) -> Path:
    """A very small model with random weights."""
    return Path(shutil.copytree(_template(), folder / "model"))


def _after(change: Callable[[Path], object]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        model = good(folder)
        change(model)
        return model

    return make


def _json(name: str, **changes: Any) -> Callable[[Path], Path]:
    """A JSON file of the model with values replaced; a dict in place of a value goes into the dict that is there."""

    def change(model: Path) -> None:
        values = json.loads((model / name).read_text()) if (model / name).exists() else {}
        for key, value in changes.items():
            values[key] = {**values.get(key, {}), **value} if isinstance(value, dict) else value
        (model / name).write_text(json.dumps(values))

    return _after(change)


def _only_pickles(model: Path) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def _shard_outside(model: Path) -> None:
    (model / "model.safetensors").rename(model.parent / "model.safetensors")
    weights = dict.fromkeys(["lm_head.weight"], "../model.safetensors")
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    shutil.copy(model / "codebook.safetensors", model / "other.safetensors")


def _other_codebook(model: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(model / "codebook.safetensors")
    tensors["_vq_vae._embedding"] = tensors["_vq_vae._embedding"][:64].clone()
    save_file(tensors, model / "codebook.safetensors")


def _npz(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def change(model: Path) -> None:
        (model / "codebook.safetensors").unlink()
        (model / "vae-oid.npz").write_bytes(content())

    return _after(change)


def _pickled_npz() -> bytes:
    out = io.BytesIO()
    np.savez(out, decoder=np.array([{"code": "runs"}], dtype=object))
    return out.getvalue()


def _npz_bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            head,
            {"descr": "<f4", "fortran_order": False, "shape": (300 << 18,)},  # 300 MB of zeros
        )
        with archive.open("_vq_vae._embedding.npy", "w") as member:
            member.write(head.getvalue())
            for _ in range(300):
                member.write(bytes(1 << 20))
    return out.getvalue()


def adapter(base: str, **changes: Any) -> Callable[[Path], Path]:
    """A LoRA of the small model's first layer that names its base."""

    def make(folder: Path) -> Path:
        import torch
        from safetensors.torch import save_file

        good(folder)
        home = folder / "adapter"
        home.mkdir()
        where = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
        weights = {f"{where}.lora_A.weight": torch.ones(2, 32), f"{where}.lora_B.weight": torch.ones(32, 2)}
        save_file(weights, home / "adapter_model.safetensors")
        config = {
            "base_model_name_or_path": base, "peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"],
            "task_type": "CAUSAL_LM", "exclude_modules": ".*vision.*", **changes,
        }  # fmt: skip
        (home / "adapter_config.json").write_text(json.dumps(config))
        return home

    return make


def _going_in_circles(folder: Path) -> Path:
    """An adapter upon an adapter that names the first one as its base."""
    first = adapter("second")(folder)
    second = Path(shutil.copytree(first, folder / "second"))
    settings = json.loads((second / "adapter_config.json").read_text())
    (second / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "adapter"}))
    return first


def _guess(**changes: Any) -> dict[str, Any]:
    """The confidence of a card, with values replaced."""
    from training.model.confidence import FEATURES

    whole = {"features": FEATURES, "weights": [0.0] * len(FEATURES), "offsets": {}, "n": 1, "correlation": 0.0, "error": 0.0}
    return {**whole, **changes}


_CARD, _UNFIT = "chexanatomy.json", "what no model can be used with"
_RUNS_CODE = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": ["code.Tokenizer", None]}
ENTRIES = [
    Entry("model", "model", good),
    Entry("model without config", "model", _after(lambda m: (m / "config.json").unlink()), "has no config.json"),
    Entry("model with a torn config", "model", _after(lambda m: (m / "config.json").write_text("{")), "cannot be read as JSON"),
    Entry("model of another architecture", "model", _json("config.json", model_type="llava"), "'llava' model"),
    Entry("model with an odd decoder", "model", _json("config.json", text_config={"model_type": "bert"}), "take the folder"),
    Entry("model of other sizes", "model", _json("config.json", text_config={"hidden_size": 48}), "take the folder"),
    Entry("model without a tokenizer", "model", _after(lambda m: (m / "tokenizer.json").unlink()), "tokenizer"),
    Entry(
        "model whose weights are cut short", "model", _after(lambda m: (m / "model.safetensors").write_bytes(b"x" * 99)), "opened"
    ),
    Entry("model of pickles", "model", _after(_only_pickles), "could run foreign code"),
    Entry("model that brings code", "model", _json("config.json", auto_map=_RUNS_CODE), "code of its own"),
    Entry("model whose tokenizer brings code", "model", _json("tokenizer_config.json", auto_map=_RUNS_CODE), "code of its own"),
    Entry("model with weights outside", "model", _after(_shard_outside), "outside its own folder"),
    Entry("model with a codebook of other size", "model", _after(_other_codebook), "mask codebook of this layout"),
    Entry("model with a pickled codebook", "model", _npz(_pickled_npz), "pickles are refused"),
    Entry("model with a codebook bomb", "model", _npz(_npz_bomb), "unpacks to"),
    Entry("model with a torn card", "model", _after(lambda m: (m / "chexanatomy.json").write_text("[")), "not readable as JSON"),
    Entry("model with a guess of its masks", "model", _json(_CARD, confidence=_guess())),
    Entry("model without weights of its guess", "model", _json(_CARD, confidence=_guess(weights=None)), f"'confidence' {_UNFIT}"),
    Entry("model with half a guess", "model", _json(_CARD, confidence=_guess(weights=[1, 2])), f"'confidence' {_UNFIT}"),
    Entry("model with a threshold in words", "model", _json(_CARD, presence_threshold="high"), f"'presence_threshold' {_UNFIT}"),
    Entry("model with a number of structures", "model", _json(_CARD, structures=5), f"'structures' {_UNFIT}"),
    Entry("model with one structure as text", "model", _json(_CARD, structures="heart"), f"'structures' {_UNFIT}"),
    Entry("model with no list of learnt names", "model", _json(_CARD, learned=None), f"'learned' {_UNFIT}"),
    Entry("model with a list of scores", "model", _json(_CARD, validation=[1]), f"'validation' {_UNFIT}"),
    Entry("adapter", "model", adapter("model")),
    Entry("adapter upon itself by way of another", "model", _going_in_circles, "comes back to itself"),
    Entry("adapter of an unknown base", "model", adapter("nowhere/to-be-found"), "not on this machine"),
    Entry("adapter with its base elsewhere", "model", adapter("../../model"), "outside"),
    Entry("adapter that is a prompt", "model", adapter("model", peft_type="PROMPT_TUNING"), "no LoRA"),
    Entry("adapter that imports a module", "model", adapter("model", megatron_config={}, megatron_core="antigravity")),
    Entry("adapter of other sizes", "model", adapter("model", r=7), "does not fit"),
]
