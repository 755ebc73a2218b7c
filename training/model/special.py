"""The token ids that matter: locations, mask codes and the few special ones, read from any PaliGemma-like tokenizer."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from training.tokens.boxes import LOC_BINS
from training.tokens.grammar import ABSENT, PROMPT_END, SEG_CODES
from training.tokens.tokenizer import IMAGE, location_ids, segment_ids


class SpecialTokens:
    """Ids of one tokenizer, and text to ids with a memory.

    loc: int64 [1024], seg: int64 [128]; bin_of, code_of: int64 [vocabulary], the bin or code that a token stands for, -1 for
    every other token; pad, bos, eos, image: ids; none: first id of the answer that says a structure is absent.
    """

    def __init__(self, tokenizer: Any, vocabulary: int | None = None) -> None:
        self.loc = torch.from_numpy(location_ids(tokenizer))
        self.seg = torch.from_numpy(segment_ids(tokenizer))
        size = max(len(tokenizer), vocabulary or 0)
        self.bin_of = torch.full((size,), -1)
        self.bin_of[self.loc] = torch.arange(LOC_BINS)
        self.code_of = torch.full((size,), -1)
        self.code_of[self.seg] = torch.arange(SEG_CODES)
        self.pad: int = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self.bos: int = tokenizer.bos_token_id
        self.eos: int = tokenizer.eos_token_id
        image = tokenizer.convert_tokens_to_ids(IMAGE)
        self.image: int | None = None if image == tokenizer.unk_token_id else image

        @lru_cache(maxsize=65536)
        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

        self.encode = encode
        self.none: int = encode(ABSENT)[0]
        self._tokenizer = tokenizer

    def prompt(self, text: str) -> tuple[int, ...]:
        """Ids of a prompt as PaliGemma writes it: the text and the newline that ends it."""
        return self.encode(text + PROMPT_END)

    def text(self, ids: list[int]) -> str:
        """The text of ids, special tokens left out, locations and codes kept."""
        return str(self._tokenizer.decode([i for i in ids if i not in (self.pad, self.bos, self.eos)], skip_special_tokens=False))

    def tokens(self, ids: list[int]) -> tuple[str, ...]:
        """The written form of each id."""
        return tuple(self._tokenizer.convert_ids_to_tokens(ids))
