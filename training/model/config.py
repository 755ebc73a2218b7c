"""The shape of chexanatomy-tiny: transformers' PaliGemma classes at a size that a CPU can train from nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from training.errors import BrokenModel

if TYPE_CHECKING:
    from transformers import PaliGemmaConfig


def tiny_config(
    vocab_size: int,
    *,
    image_token: int,
    pad_token: int,
    bos_token: int,
    eos_token: int,
    image_size: int = 192,
    patch: int = 16,
    vision_width: int = 192,
    vision_depth: int = 8,
    text_width: int = 192,
    text_depth: int = 4,
    text_hidden: int = 512,
    heads: int = 4,
    stem: bool = False,
    stem_depth: int = 1,
    reading: int = 0,
    reading_factor: int = 4,
    reading_blend: float = 1.0,
    evened: float = 0.0,
    vision_reach: int = 0,
    text_reach: int = 0,
) -> PaliGemmaConfig:
    """Return a PaliGemma configuration of about 5 million parameters.

    image_size, patch: edge lengths [px], the first a multiple of the second; widths, depths and heads of the SigLIP-style tower
    and the Gemma decoder (one key and value head), the first width a multiple of heads, the second of twice as many; stem,
    stem_depth: convolutions instead of the patch embedding, see `training.model.stem`; reading, reading_factor, reading_blend:
    how many structures the decoder reads the shares of, 0 for the tower's features as they are, in how many parts per side of a
    patch, and how much of what is read they are, see `training.model.reading`; evened: by what share the features are evened
    out instead, see `training.model.evened`; vision_reach, text_reach: how many patches away a patch sees others, in the tower
    and in the decoder, 0 for all of them, see `training.model.nearby`; *_token: ids of the tokenizer's special tokens. Raises
    BrokenModel for sizes that do not fit.
    """
    from transformers import PaliGemmaConfig

    if image_size % patch:
        raise BrokenModel(f"image_size is a multiple of patch, {patch} px; got {image_size}.")
    if vision_width % heads or text_width % (2 * heads):
        raise BrokenModel(
            f"vision_width is a multiple of heads, {heads}, and text_width of twice as many; got {vision_width} and {text_width}."
        )
    vision: dict[str, Any] = {
        "model_type": "siglip_vision_model",
        "hidden_size": vision_width,
        "intermediate_size": 4 * vision_width,
        "num_hidden_layers": vision_depth,
        "num_attention_heads": heads,
        "image_size": image_size,
        "patch_size": patch,
        "vision_use_head": False,
        "stem": stem,
        "stem_depth": stem_depth,
        "reading": reading,
        "reading_factor": reading_factor,
        "reading_blend": reading_blend,
        "evened": evened,
        "reach": vision_reach,
    }
    text: dict[str, Any] = {
        "model_type": "gemma",
        "vocab_size": vocab_size,
        "hidden_size": text_width,
        "intermediate_size": text_hidden,
        "num_hidden_layers": text_depth,
        "num_attention_heads": heads,
        "num_key_value_heads": 1,
        "head_dim": text_width // heads,
        "max_position_embeddings": 1024,
        "pad_token_id": pad_token,
        "bos_token_id": bos_token,
        "eos_token_id": eos_token,
        "reach": text_reach,
    }
    return PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token,
        vocab_size=vocab_size,
        projection_dim=text_width,
        hidden_size=text_width,
        pad_token_id=pad_token,
        bos_token_id=bos_token,
        eos_token_id=eos_token,
        attn_implementation="sdpa",
    )
