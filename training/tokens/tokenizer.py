"""The tokenizer of chexanatomy-tiny, and where any PaliGemma tokenizer keeps its location and segmentation tokens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.anatomy import vocabulary
from training.errors import BrokenModel
from training.tokens.boxes import LOC_BINS
from training.tokens.grammar import (
    ABSENT,
    NAME_BOX_PROMPT,
    NAME_MASK_PROMPT,
    PROMPT_END,
    SEG_CODES,
    SEPARATOR,
    VIEW_ANSWERS,
    VIEW_PROMPT,
    detect_prompt,
    segment_prompt,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, EOS, BOS, IMAGE = "<pad>", "<eos>", "<bos>", "<image>"
"""Control tokens; pad, eos and bos have ids 0, 1 and 2 as in Gemma."""

MERGES = 640
"""Byte pairs joined: enough for nearly every word of the vocabulary's names to be one token."""

BYTES = 256
"""Every byte is a token, so any text can be written."""

LOCATION_TOKENS = tuple(f"<loc{i:04d}>" for i in range(LOC_BINS))
SEGMENT_TOKENS = tuple(f"<seg{i:03d}>" for i in range(SEG_CODES))


def build_tokenizer(names: Iterable[str] | None = None) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer with the tokens PaliGemma needs; the same names give the same tokenizer.

    names: structure names its merges are learnt from, by default the vocabulary's names and synonyms. The order of ids is: pad,
    eos, bos, <image>, bytes, merges, `<loc0000>` to `<loc1023>`, `<seg000>` to `<seg127>`. Nothing is added around an encoded
    text: whoever builds the model's input places bos, the closing newline of the prompt and eos.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    control = [AddedToken(token, normalized=False, special=True) for token in (PAD, EOS, BOS, IMAGE)]
    trainer = trainers.BpeTrainer(
        vocab_size=len(control) + BYTES + MERGES,
        min_frequency=1,
        special_tokens=control,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sentences(_vocabulary_names() if names is None else names), trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in (*LOCATION_TOKENS, *SEGMENT_TOKENS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        padding_side="right",
    )


def location_ids(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """Return the ids int64 [1024] of `<loc0000>` to `<loc1023>`, in order. Raises BrokenModel if the tokenizer lacks any."""
    return _ids(tokenizer, LOCATION_TOKENS, "location")


def segment_ids(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """Return the ids int64 [128] of `<seg000>` to `<seg127>`, in order. Raises BrokenModel if the tokenizer lacks any."""
    return _ids(tokenizer, SEGMENT_TOKENS, "segmentation")


def _ids(tokenizer: PreTrainedTokenizerBase, tokens: tuple[str, ...], kind: str) -> NDArray[np.int64]:
    """Ids of `tokens`; both None and the id of the unknown token mean that the tokenizer lacks one."""
    found = tokenizer.convert_tokens_to_ids(list(tokens))
    missing = [token for token, i in zip(tokens, found, strict=True) if i is None or i == tokenizer.unk_token_id]
    if missing:
        raise BrokenModel(
            f"This tokenizer has no {kind} token {missing[0]} ({len(missing)} of {len(tokens)} are missing): "
            "use a PaliGemma or PaliGemma 2 checkpoint with its own tokenizer files."
        )
    return np.array(found, dtype=np.int64)


def _vocabulary_names() -> list[str]:
    return [name for structure in vocabulary().values() for name in (structure.name, *structure.synonyms)]


def _sentences(names: Iterable[str]) -> list[str]:
    """Return the texts that merges are learnt from: names at the start of a line and after another word, and all prompt words."""
    prompts = (VIEW_PROMPT, NAME_BOX_PROMPT, NAME_MASK_PROMPT, "caption ", SEPARATOR, PROMPT_END, *VIEW_ANSWERS.values())
    sentences = [text for prompt in prompts for text in (prompt, f" {prompt}")] * 50
    for name in names:
        sentences += [name, f"{ABSENT} {name}", segment_prompt(name), detect_prompt(name)]
    return sentences
