"""What a loaded model answers, whatever its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from training.errors import BrokenModel, ChexanatomyError, UnknownStructure
from training.images import Radiograph
from training.model import Predictor, decoding, load, save_checkpoint
from training.model.checkpoint import create
from training.model.decoding import Written, speak, write
from training.model.marking import outlined, overlaid
from training.model.packing import Segment, Segments, logits_of, read, see
from training.model.predictor import LOOKS, likely_views, moved
from training.model.preprocess import Letterbox, letterbox, stretch
from training.tokens import read_answer
from training.tokens.codebook import MaskCodebook
from training.tokens.grammar import segment_prompt
from training.tokens.tokenizer import build_tokenizer

NAMES = ["heart", "left lung", "Right Clavicle", "lung_field_left", "spine", "liver"]


@pytest.fixture(scope="module")
def predictor(codebook_file: Path) -> Predictor:
    sizes = {"image_size": 64, "vision_width": 32, "vision_depth": 2, "text_width": 32, "text_depth": 2, "text_hidden": 64}
    checkpoint = create(build_tokenizer(), MaskCodebook.load(codebook_file), seed=5, **sizes)
    return Predictor(checkpoint, "cpu")


def willing(predictor: Predictor, threshold: float = 0.0) -> Predictor:
    """The same model, that says "none" only below `threshold`."""
    card = {**predictor.card, "presence_threshold": threshold, "learned": ["both lungs as drawn"]}
    return Predictor(replace(predictor.checkpoint, card=card), "cpu")


def test_every_answer_parses_and_every_box_has_an_inside(predictor: Predictor, radiograph: Radiograph) -> None:
    findings = willing(predictor).segment(radiograph, NAMES)
    assert any(finding.present for finding in findings)
    for finding in findings:
        answers, invalid = read_answer(finding.text, needs="mask")
        assert invalid == 0
        assert len(answers) == 1
        if not finding.present:  # a mask without a pixel
            continue
        top, left, bottom, right = finding.box or (0, 0, 0, 0)
        assert 0 <= top < bottom <= 90
        assert 0 <= left < right <= 120
        assert finding.mask is not None
        assert finding.mask.shape == (90, 120)
        assert 0 <= finding.confidence <= 1


def test_findings_come_in_the_order_asked_under_vocabulary_keys(predictor: Predictor, radiograph: Radiograph) -> None:
    found = [f.structure for f in willing(predictor).segment(radiograph, NAMES)]
    assert found == ["heart", "lung_left", "clavicula_right", "lung_field_left", "spine", "liver"]


def test_batches_give_the_tokens_of_single_questions(predictor: Predictor, radiograph: Radiograph) -> None:
    model = willing(predictor)
    together = model.segment(radiograph, NAMES, batch=32)
    assert [f.tokens for f in model.segment(radiograph, NAMES, batch=4)] == [f.tokens for f in together]
    alone = [load_again(model).segment(radiograph, [name])[0].tokens for name in NAMES]
    assert alone == [f.tokens for f in together]


def load_again(predictor: Predictor) -> Predictor:
    return Predictor(predictor.checkpoint, "cpu")


@torch.inference_mode()
def test_constrained_tokens_are_the_likeliest_allowed_ones(predictor: Predictor, radiograph: Radiograph) -> None:
    tokens, model = predictor.tokens, predictor.model
    pixels, _ = predictor.prepare(radiograph.pixels)
    prompt = tokens.prompt(segment_prompt("heart"))
    (written,) = write(model, tokens, see(model, pixels), [prompt])
    answer: list[int] = []
    for place in range(20):
        hidden, _, _ = read(model, see(model, pixels), Segments.of([Segment(prompt, tuple(answer))], tokens.pad), 1)
        logits = logits_of(model, hidden[0, -1])
        scores = logits[tokens.loc] if place < 4 else logits[tokens.seg]
        if place < 2:
            scores = scores[:-1]
        elif place < 4:
            scores = scores.clone()
            scores[: written.bins[place - 2] + 1] = -torch.inf
        best = int(scores.argmax())
        assert best == (written.bins[place] if place < 4 else written.codes[place - 4])
        answer.append(int((tokens.loc if place < 4 else tokens.seg)[best]))


def test_absent_structures_have_neither_box_nor_mask(predictor: Predictor, radiograph: Radiograph) -> None:
    (finding,) = willing(predictor, threshold=1.1).segment(radiograph, ["heart"])
    assert not finding.present
    assert finding.mask is None
    assert finding.box is None
    assert finding.text == "none heart"


@pytest.mark.parametrize("accurate", [False, True])
def test_what_has_no_pixel_in_the_picture_is_absent(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch, accurate: bool
) -> None:
    assert predictor.checkpoint.codebook is not None
    shares = torch.nn.functional.one_hot(torch.zeros(16, dtype=torch.int64), len(predictor.checkpoint.codebook.embedding))

    def in_the_black(*_: object, **__: object) -> list[Written]:
        box = (0, 10, 60, 900)  # above a strip in the middle of the square
        return [Written(0.9, box, (0,) * 16, (1.0,) * 4, (0.0,) * 16, shares)]

    monkeypatch.setattr(decoding, "write", in_the_black)
    strip = Radiograph(np.random.default_rng(0).random((20, 120), dtype=np.float32))
    (finding,) = willing(predictor).segment(strip, ["heart"], accurate=accurate)
    assert (finding.present, finding.mask, finding.box) == (False, None, None)
    assert finding.confidence == pytest.approx(0.1), "the probability of absence"
    assert finding.text.startswith("<loc0000>"), "the answer as the model wrote it"


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_nothing_is_refused(predictor: Predictor, radiograph: Radiograph, batch: int) -> None:
    with pytest.raises(ChexanatomyError, match="1 or more"):
        predictor.segment(radiograph, NAMES, batch=batch)


def test_unknown_names_are_refused_with_suggestions_and_learnt_ones_are_not(predictor: Predictor, radiograph: Radiograph) -> None:
    with pytest.raises(UnknownStructure, match="lung"):
        predictor.segment(radiograph, ["left lugn"])
    (finding,) = willing(predictor).segment(radiograph, ["Both lungs as drawn"])
    assert finding.structure == "both lungs as drawn"


def test_identify_ranks_all_candidates_and_probabilities_sum_to_one(predictor: Predictor, radiograph: Radiograph) -> None:
    mask = np.zeros((90, 120), bool)
    mask[20:60, 30:90] = True
    for ranked in (predictor.identify(radiograph, box=(20, 30, 60, 90)), predictor.identify(radiograph, mask=mask)):
        assert len(ranked) >= 80
        assert sum(p for _, p in ranked) == pytest.approx(1, abs=1e-4)
        assert [p for _, p in ranked] == sorted((p for _, p in ranked), reverse=True)


def test_identify_without_anything_marked_is_refused(predictor: Predictor, radiograph: Radiograph) -> None:
    with pytest.raises(ChexanatomyError, match="nothing to name"):
        predictor.identify(radiograph, mask=np.zeros((90, 120), bool))
    with pytest.raises(ChexanatomyError, match="draw it on this radiograph"):
        predictor.identify(radiograph, mask=np.ones((90, 90), bool))


def test_a_saved_checkpoint_answers_as_before(predictor: Predictor, radiograph: Radiograph, tmp_path: Path) -> None:
    half = predictor.model.half().float()
    saved = save_checkpoint(replace(predictor.checkpoint, model=half), tmp_path / "model")
    again = load(saved)
    assert again.checkpoint.packed
    expected = willing(predictor).segment(radiograph, NAMES)
    assert [f.tokens for f in willing(again).segment(radiograph, NAMES)] == [f.tokens for f in expected]
    assert not list(saved.glob("*.bin"))


def test_the_letterbox_maps_boxes_there_and_back() -> None:
    place = Letterbox.fit((300, 500), 160)
    box = (20.0, 40.0, 260.0, 480.0)
    assert place.out_of(place.into(box)) == pytest.approx(box)
    assert place.into((0, 0, 300, 500)) == pytest.approx((32, 0, 128, 160))
    assert place.cut((-20, 499.9, 400, 700)) == pytest.approx((0, 499, 300, 500))


def test_the_letterbox_keeps_the_aspect_ratio() -> None:
    pixels = np.zeros((300, 500), np.float32)
    pixels[100:200, 200:300] = 1
    square, _ = letterbox(pixels, 160)
    rows, columns = np.nonzero(square > 0.5)
    assert abs((np.ptp(rows) + 1) - (np.ptp(columns) + 1)) <= 1
    assert square[:30].max() == 0


def test_the_picture_lies_where_the_letterbox_says() -> None:
    pixels = np.ones((301, 400), np.float32)
    square, place = letterbox(pixels, 320)
    rows = np.flatnonzero(square.any(1))
    assert (place.top, rows[0], rows[-1] + 1) == (40, 40, 40 + round(301 * place.scale))
    odd, place = letterbox(np.ones((399, 400), np.float32), 400)
    assert np.flatnonzero(odd.any(1))[0] == place.top


def test_stretching_undoes_exposure() -> None:
    pixels = np.random.default_rng(0).random((50, 50), dtype=np.float32)
    assert np.allclose(stretch(pixels), stretch(0.2 + 0.5 * pixels), atol=1e-5)


def test_a_tokenizer_without_locations_is_refused(predictor: Predictor) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE()), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"
    )
    with pytest.raises(BrokenModel, match="loc"):
        Predictor(replace(predictor.checkpoint, tokenizer=bare), "cpu")


def test_a_box_can_be_shown_in_the_picture_and_a_mask_laid_over_it(predictor: Predictor, radiograph: Radiograph) -> None:
    model = willing(predictor)
    mask = np.zeros(radiograph.pixels.shape, bool)
    mask[20:60, 30:90] = True
    told = model.identify(radiograph, box=(20, 30, 60, 90), structures=NAMES)
    shown = model.identify(radiograph, box=(20, 30, 60, 90), structures=NAMES, drawn=True)
    laid_over = model.identify(radiograph, mask=mask, structures=NAMES, drawn=True)
    for answers in (told, shown, laid_over):
        assert sum(p for _, p in answers) == pytest.approx(1)
        assert len(answers) == len(NAMES)
    assert dict(told) != dict(shown) != dict(laid_over)


def test_marks_lie_where_they_were_asked_for() -> None:
    black, box, red = -torch.ones(1, 3, 100, 100), torch.tensor([[0.2, 0.3, 0.6, 0.8]]), torch.zeros(1, dtype=torch.long)
    pixels = outlined(black, box, red)[0]
    rows, columns = np.nonzero((pixels > -0.9).any(0).numpy())
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (19, 60, 29, 80)
    assert (pixels[:, 40, 50] == -1).all()
    crop = torch.zeros(1, 64, 64)
    crop[:, :32] = 1
    pixels = overlaid(black, box, crop, red + 1)[0]
    rows, columns = np.nonzero((pixels > -0.9).any(0).numpy())
    assert abs(rows.max() - 40) <= 1
    assert rows.min() == 20
    assert (columns.min(), columns.max()) == (30, 79)


@pytest.mark.parametrize(
    ("ranked", "told"),
    [
        ([("AP", 0.98), ("PA", 0.02), ("LATERAL", 0.0)], "PA or AP"),
        ([("LATERAL", 0.95), ("AP", 0.04), ("PA", 0.01)], "LATERAL"),
        ([("LATERAL", 0.5), ("PA", 0.3), ("AP", 0.2)], "LATERAL or PA or AP"),
        ([("OBLIQUE", 0.6), ("LATERAL", 0.35), ("PA", 0.05)], "OBLIQUE or LATERAL"),
    ],
)
def test_no_view_is_asserted_that_is_not_clear(ranked: list[tuple[str, float]], told: str) -> None:
    assert likely_views(ranked) == told


def test_the_view_is_one_of_the_known_ones(predictor: Predictor, radiograph: Radiograph) -> None:
    answers = predictor.view(radiograph)
    assert {name for name, _ in answers} == {"PA", "AP", "LATERAL", "OBLIQUE"}
    assert sum(p for _, p in answers) == pytest.approx(1)


def test_moved_looks_come_back_to_the_same_place(radiograph: Radiograph) -> None:
    square = -torch.ones(1, 3, 100, 100)
    square[..., 30:60, 40:70] = 1
    for look in LOOKS:
        seen = moved(square, look)[0, 0].numpy() > 0
        rows, columns = np.nonzero(seen)
        box = (float(rows.min()), float(columns.min()), float(rows.max() + 1), float(columns.max() + 1))
        assert np.allclose(look.back(box, 100), (30, 40, 60, 70), atol=1.2)


def test_the_accurate_mode_keeps_the_tokens_and_gives_a_probability(predictor: Predictor, radiograph: Radiograph) -> None:
    model = willing(predictor)
    plain, careful = model.segment(radiograph, NAMES[:3]), model.segment(radiograph, NAMES[:3], accurate=True)
    assert [f.tokens for f in plain] == [f.tokens for f in careful]
    for finding in careful:
        assert finding.probability is not None
        assert finding.probability.shape == radiograph.pixels.shape
        assert 0 <= finding.probability.min() <= finding.probability.max() <= 1
        assert finding.mask is not None
    assert plain[0].probability is None


def test_looks_that_disagree_give_a_doubtful_mask_where_most_of_them_agree(
    predictor: Predictor, radiograph: Radiograph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask and a probability that say the opposite of each other would be two answers."""
    write, top = decoding.write, iter(range(150, 900, 150))

    def scattered(*given: Any, **options: Any) -> list[Written]:
        low = next(top)
        return [replace(w, bins=(low, 100, low + 120, 900), presence=1.0) for w in write(*given, **options)]

    monkeypatch.setattr(decoding, "write", scattered)
    (finding,) = willing(predictor).segment(radiograph, ["heart"], accurate=True)
    assert finding.mask is not None
    assert finding.probability is not None
    surest = finding.probability.max()
    assert 0 < surest < 0.5
    np.testing.assert_array_equal(finding.mask, finding.probability > surest / 2)
    assert finding.confidence <= surest
    assert finding.doubtful


@pytest.mark.parametrize("pixels", [np.full((40, 50), np.nan), np.where(np.eye(40), np.inf, 0.5), np.zeros((0, 5))])
def test_pixels_that_are_no_numbers_are_refused(predictor: Predictor, pixels: np.ndarray) -> None:
    odd = Radiograph(pixels.astype(np.float32))
    for ask in (
        lambda: predictor.segment(odd, ["heart"]),
        lambda: predictor.view(odd),
        lambda: predictor.ask(odd, "segment heart"),
    ):
        with pytest.raises(ChexanatomyError, match="no numbers"):
            ask()


@pytest.mark.parametrize("box", [(0, 0, 0, 0), (10, 10, 5, 5), (5000, 5000, 6000, 6000), (np.nan, 0, 1, 1), (1, 2, 3)])
def test_a_box_that_is_none_is_refused(predictor: Predictor, radiograph: Radiograph, box: Any) -> None:
    with pytest.raises(ChexanatomyError, match="is no box in a picture"):
        predictor.identify(radiograph, box)


def test_a_mask_is_set_where_it_is_not_zero_and_a_candidate_counts_once(predictor: Predictor, radiograph: Radiograph) -> None:
    mask = np.zeros(radiograph.pixels.shape, bool)
    mask[10:20, 5:25] = True
    candidates = ["heart", "liver", "heart"]
    for drawn in (False, True):
        plain = predictor.identify(radiograph, mask=mask, structures=candidates, drawn=drawn)
        assert plain == predictor.identify(radiograph, mask=mask * np.uint8(255), structures=candidates, drawn=drawn)
        assert sorted(key for key, _ in plain) == ["heart", "liver"]


def test_a_free_answer_ends_by_itself_or_at_the_limit(predictor: Predictor, radiograph: Radiograph) -> None:
    with torch.inference_mode():
        prefix = see(predictor.model, predictor.prepare(radiograph.pixels)[0])
    prompt = predictor.tokens.prompt(segment_prompt(["heart", "liver"]))
    said = speak(predictor.model, predictor.tokens, prefix, prompt, most=12)
    assert len(said) <= 12
    assert predictor.tokens.eos not in said
    assert predictor.tokens.text(said[:1]) in predictor.ask(radiograph, segment_prompt(["heart", "liver"]))
