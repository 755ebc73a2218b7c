"""Tiny random models in exactly the layout of the published ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.images import Radiograph
from training.tokens.codebook import MaskCodebook

WORDS = [
    "segment",
    "detect",
    "caption",
    "none",
    "name",
    "the",
    "view",
    "left",
    "right",
    "lung",
    "heart",
    "lungs",
    "both",
    "as",
    "drawn",
    "spine",
    "clavicle",
]


@pytest.fixture
def radiograph() -> Radiograph:
    rng = np.random.default_rng(0)
    return Radiograph(rng.random((90, 120), dtype=np.float32))


@pytest.fixture(scope="session")
def codebook_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random mask codebook in this project's layout."""
    path = tmp_path_factory.mktemp("codebook") / "codebook.safetensors"
    torch.manual_seed(0)
    codebook = MaskCodebook()
    codebook.embedding.normal_()
    torch.nn.init.ones_(codebook.decoder[-1].bias)  # so that masks have pixels
    codebook.save(path)
    return path


@pytest.fixture(scope="session")
def stock_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that writes a PaliGemma ("gemma") or PaliGemma 2 ("gemma2") folder as published: sharded, legacy
    names."""

    def write(text_type: str) -> Path:
        folder = tmp_path_factory.mktemp(text_type)
        vocabulary = _tokenizer_files(folder)
        config = _config(text_type, vocabulary)
        (folder / "config.json").write_text(json.dumps(config))
        _preprocessor_files(folder, config["vision_config"]["image_size"])
        _sharded(folder, _legacy_weights(config))
        return folder

    return write


def _tokenizer_files(folder: Path) -> int:
    """Write Gemma's tokenizer files with few words; returns the size of the vocabulary, <image> included."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{b:02X}>" for b in range(256)), "\n", "▁"]
    pieces += sorted({c for word in WORDS for c in word})
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for word in [*WORDS, *(f"▁{w}" for w in WORDS)]:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    places = [*(f"<loc{i:04d}>" for i in range(1024)), *(f"<seg{i:03d}>" for i in range(128))]
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in places])
    tokenizer.add_special_tokens([AddedToken("<image>", special=True, normalized=False)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<bos>",
        "eos_token": "<eos>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "additional_special_tokens": ["<image>"],
        "clean_up_tokenization_spaces": False,
        "processor_class": "PaliGemmaProcessor",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    named = {f"{n}_token": {"content": f"<{n}>"} for n in ("bos", "eos", "pad", "unk")}
    (folder / "special_tokens_map.json").write_text(json.dumps({**named, "additional_special_tokens": [{"content": "<image>"}]}))
    return tokenizer.get_vocab_size()


def _config(text_type: str, vocabulary: int) -> dict[str, Any]:
    text: dict[str, Any] = {
        "model_type": text_type,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_image_tokens": 16,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "torch_dtype": "float32",
        "vocab_size": vocabulary,
    }
    if text_type == "gemma2":
        text |= {"query_pre_attn_scalar": 256, "sliding_window": 4096, "hidden_activation": "gelu_pytorch_tanh"}
    return {
        "architectures": ["PaliGemmaForConditionalGeneration"],
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "hidden_size": 32,
        "image_token_index": vocabulary - 1,
        "model_type": "paligemma",
        "projection_dim": 32,
        "text_config": text,
        "torch_dtype": "float32",
        "transformers_version": "4.41.0.dev0",
        "vision_config": {
            "hidden_size": 24,
            "image_size": 56,
            "intermediate_size": 48,
            "model_type": "siglip_vision_model",
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_image_tokens": 16,
            "patch_size": 14,
            "projection_dim": 32,
            "projector_hidden_act": "gelu_fast",
            "torch_dtype": "float32",
            "vision_use_head": False,
        },
    }


def _preprocessor_files(folder: Path, size: int) -> None:
    settings = {
        "image_processor_type": "SiglipImageProcessor",
        "processor_class": "PaliGemmaProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "image_seq_length": 16,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"height": size, "width": size},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _legacy_weights(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Random weights under the names of the published files (transformers 4.41)."""
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

    torch.manual_seed(1)
    model = PaliGemmaForConditionalGeneration(PaliGemmaConfig(**{k: v for k, v in config.items() if k != "model_type"}))
    weights = {}
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        old = re.sub(r"^model\.language_model\.", "language_model.model.", name)
        old = re.sub(r"^model\.vision_tower\.(vision_model\.)?", "vision_tower.vision_model.", old)
        old = re.sub(r"^model\.multi_modal_projector\.", "multi_modal_projector.", old)
        weights[old] = value.clone().contiguous()
    return weights


def _sharded(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    names = sorted(weights)
    parts = [names[0::3], names[1::3], names[2::3]]
    place = {}
    for number, part in enumerate(parts, 1):
        file = f"model-{number:05d}-of-{len(parts):05d}.safetensors"
        save_file({n: weights[n] for n in part}, folder / file, metadata={"format": "pt"})
        place |= dict.fromkeys(part, file)
    total = sum(w.numel() * w.element_size() for w in weights.values())
    index = {"metadata": {"total_size": total}, "weight_map": place}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
