"""Boxes, masks and names as tokens: location bins, the mask codebook, the grammar of prompts and answers, the tokenizer."""

from training.tokens.boxes import BOX_PADDING, LOC_BINS, bins_to_box, box_to_bins, tight_box
from training.tokens.grammar import Answer, read_answer, write_answer

__all__ = ["BOX_PADDING", "LOC_BINS", "Answer", "bins_to_box", "box_to_bins", "read_answer", "tight_box", "write_answer"]
