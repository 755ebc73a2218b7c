"""The tokenizer of the embedded model: deterministic, loses nothing, and knows PaliGemma's tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from training.anatomy import trainable, vocabulary
from training.errors import BrokenModel
from training.tokens.boxes import LOC_BINS
from training.tokens.grammar import SEG_CODES, Answer, segment_prompt, write_answer
from training.tokens.tokenizer import BOS, EOS, IMAGE, PAD, build_tokenizer, location_ids, segment_ids


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_survives_encoding_and_decoding(text):
    tokenizer = _shared()
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_building_twice_gives_the_same_tokenizer(tokenizer):
    assert build_tokenizer().backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_control_tokens_have_gemmas_ids(tokenizer):
    assert tokenizer.convert_tokens_to_ids([PAD, EOS, BOS]) == [0, 1, 2]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) == (0, 1, 2)
    assert tokenizer.image_token == IMAGE
    assert tokenizer.image_token_id == tokenizer.convert_tokens_to_ids(IMAGE) == 3


def test_every_box_and_mask_token_is_one_token(tokenizer):
    locations, segments = location_ids(tokenizer), segment_ids(tokenizer)
    assert (locations.shape, segments.shape) == ((LOC_BINS,), (SEG_CODES,))
    assert len(np.unique(np.concatenate([locations, segments]))) == LOC_BINS + SEG_CODES
    assert max(locations.max(), segments.max()) == len(tokenizer) - 1
    assert tokenizer.encode("<loc0007><seg127>", add_special_tokens=False) == [locations[7], segments[127]]


def test_an_answer_is_twenty_tokens_and_the_name(tokenizer):
    text = write_answer(Answer((1, 2, 3, 4), tuple(range(16)), "heart"))
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert len(ids) == 21
    assert tokenizer.decode(ids) == text


def test_names_are_short(tokenizer):
    lengths = [len(tokenizer.encode(f" {vocabulary()[key].name}", add_special_tokens=False)) for key in trainable()]
    assert np.mean(lengths) < 4
    assert len(tokenizer.encode(segment_prompt("left lung"), add_special_tokens=False)) == 3


def test_skipping_special_tokens_keeps_boxes_and_masks(tokenizer):
    ids = tokenizer.encode(f"{BOS}<loc0001><seg001> heart{EOS}{PAD}", add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<loc0001><seg001> heart"


def test_nothing_is_added_around_a_text(tokenizer):
    assert tokenizer("heart").input_ids == tokenizer.encode("heart", add_special_tokens=False)


def test_it_survives_being_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = f"{IMAGE}{BOS}segment left lung ; Ä heart\n<loc0001><seg001>"
    assert loaded.encode(text) == tokenizer.encode(text)
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.image_token_id == tokenizer.image_token_id
    assert loaded.eos_token == EOS


def test_a_tokenizer_without_box_tokens_is_refused_with_one_sentence(tokenizer):
    from tokenizers import Tokenizer, models

    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0, "heart": 1}, unk_token="<unk>")))
    with pytest.raises(BrokenModel, match="no location token <loc0000>"):
        location_ids(plain)
    with pytest.raises(BrokenModel, match="no segmentation token <seg000>"):
        segment_ids(plain)


_BUILT: list[PreTrainedTokenizerFast] = []


def _shared() -> PreTrainedTokenizerFast:
    """Build once for the property test, which cannot use fixtures."""
    if not _BUILT:
        _BUILT.append(build_tokenizer())
    return _BUILT[0]
