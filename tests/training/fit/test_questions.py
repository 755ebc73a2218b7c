"""What an image is asked, and that answers, boxes and masks follow the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.fit.conftest import asker_for, questions
from training.dataset import Dataset
from training.errors import ChexanatomyError
from training.fit import Augmentation, PretrainConfig, Tasks
from training.fit.augment import CLOSEST
from training.fit.batches import make_plan
from training.fit.placement import place, resample
from training.fit.records import Records
from training.fit.targets import Moved
from training.model.special import SpecialTokens
from training.tokens import read_answer
from training.tokens.boxes import BOX_PADDING
from training.tokens.codebook import MaskCodebook, paste_mask


@pytest.mark.parametrize(
    ("turn", "elastic", "closer"), [(0, 0, 0), (25, 0, 0), (0, 0.8, 0), (25, 0.5, 0), (0, 0, 0.5), (25, 0.5, 0.5)]
)
def test_boxes_and_masks_follow_the_moved_picture(
    dataset: Path, records: Records, turn: float, elastic: float, closer: float
) -> None:
    opened = Dataset.open(dataset)
    cases = {c.id: c for c in opened.cases}
    chosen = np.arange(8)
    truth = [opened.masks(cases[str(records.ids[i])], ["lung_left"])["lung_left"] for i in chosen]
    picture = torch.from_numpy(np.stack(truth)[:, None].astype(np.float32))
    changes = Augmentation(untouched=0, turn=turn, zoom=0.2, shift=0.3, elastic=elastic, closer=closer)
    placement = place(changes, 8, np.random.default_rng(3))
    moved = Moved(records, chosen, placement)
    wanted = resample(picture, placement.whole, 192)[:, 0].numpy() > 0.5
    drawn = moved.dense(np.array([0]), 192)[:, 0].numpy() > 0.5
    assert moved.cut[:, 0].any()
    assert moved.whole[:, 0].any()
    shown = [image for image in range(8) if moved.box(image, 0) is not None]
    assert len(shown) == 8 or closer
    assert len(shown) > 4
    for image in shown:
        assert 2 * (wanted[image] & drawn[image]).sum() / (wanted[image].sum() + drawn[image].sum()) > 0.97
        box = moved.box(image, 0)
        assert box is not None
        rows, columns = np.nonzero(wanted[image])
        edges = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]) / 192
        room = np.array([-BOX_PADDING, -BOX_PADDING, BOX_PADDING, BOX_PADDING])
        assert np.allclose(box, (edges + room).clip(0, 1), atol=0.012)
        crop = moved.crops(np.array([image]), np.array([0]), box[None])[0].numpy()
        assert abs(crop.mean() * (box[2] - box[0]) * (box[3] - box[1]) - wanted[image].mean()) < 0.006


def test_a_distortion_bends_some_pictures_and_folds_none() -> None:
    elastic = replace(Augmentation.none(), untouched=0.5, elastic=0.9)
    placement = place(elastic, 32, np.random.default_rng(0))
    line = np.linspace(0, 1, 101)
    grid = np.broadcast_to(np.stack(np.meshgrid(line, line, indexing="ij"), -1), (32, 101, 101, 2))
    moved = placement.points(grid)
    bent = np.abs(moved - grid).max((1, 2, 3)) > 1e-6
    assert 4 < bent.sum() < 28
    down, across = np.diff(moved, axis=1)[:, :, :-1], np.diff(moved, axis=2)[:, :-1]
    assert (down[..., 0] * across[..., 1] - down[..., 1] * across[..., 0]).min() > 0
    with pytest.raises(ChexanatomyError, match="elastic"):
        Augmentation(elastic=1.0)


def test_parts_that_fill_the_frame_are_of_the_picture_and_from_all_over_it() -> None:
    closer = replace(Augmentation.none(), untouched=0, closer=0.7)
    placement = place(closer, 400, np.random.default_rng(0))
    scale = np.sqrt(np.linalg.det(placement.matrix))
    near = scale > 1
    assert 0.6 < near.mean() < 0.8
    assert np.allclose(scale[~near], 1)
    assert np.allclose(placement.offset[~near], 0)
    assert 2.3 < scale.max() <= CLOSEST
    frame = np.array([[0.0, 0.0], [1.0, 1.0]])[None] - placement.offset[:, None]
    corners = np.linalg.solve(placement.matrix[:, None], frame[..., None])
    assert corners.min() > -1e-9
    assert corners.max() < 1 + 1e-9
    closest = corners[scale > 2].squeeze(-1)
    assert (closest.min((0, 1)) < 0.05).all()
    assert (closest.max((0, 1)) > 0.95).all()


def test_what_a_border_hides_is_in_no_mask_and_no_box(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    still = place(Augmentation.none(), 2, np.random.default_rng(0))
    heart = records.boxes[0, 2]
    middle = float(heart[0] + heart[2]) / 2
    half = Moved(records, np.array([0, 0]), still, np.array([[0, 0, middle, 1], [float(heart[2]) + 0.1, 0, 1, 1]]))
    assert half.cut[0, 2]
    assert half.gone[1, 2]
    box = half.box(0, 2)
    assert box is not None
    assert box[2] == pytest.approx(middle + BOX_PADDING, abs=0.03)
    assert box[0] == pytest.approx(heart[0] - BOX_PADDING, abs=0.03)

    bordered = replace(config, images=8, augmentation=replace(Augmentation.none(), collimation=1.0))
    plan = make_plan(records, asker_for(records, config, tokens), bordered, 0, 0, 1, 64, 32)
    assert config.codebook is not None
    batch = plan.developed(MaskCodebook.load(config.codebook), tokens.seg)
    edges = plan.overlays.edges
    assert (edges > 0).any(1).sum() > 4
    for image, (top, left, bottom, right) in enumerate(edges.tolist()):
        hidden = torch.ones(64, 64, dtype=torch.bool)
        hidden[top : 64 - bottom, left : 64 - right] = False
        assert (batch.pixels[image, 0][hidden].unique().numel() <= 1) or not hidden.any()
        assert batch.masks[image][:, hidden[1::2, 1::2] & hidden[::2, ::2]].sum() == 0


def test_nothing_is_asked_about_slivers_at_the_edge(records: Records) -> None:
    still = place(Augmentation.none(), 1, np.random.default_rng(0))
    right = records.boxes[0, 0, 3]
    left = records.boxes[0, 0, 1]
    sliver = Moved(records, np.array([0]), replace(still, offset=np.array([[0.0, 0.995 - left]])))
    assert sliver.cut[0, 0]
    assert sliver.box(0, 0) is None
    away = Moved(records, np.array([0]), replace(still, offset=np.array([[0.0, 1.1 - left]])))
    assert away.gone[0, 0]
    half = Moved(records, np.array([0]), replace(still, offset=np.array([[0.0, 1 - (left + right) / 2]])))
    box = half.box(0, 0)
    assert box is not None
    assert box[3] == 1


def test_marked_structures_are_drawn_where_they_are(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), marked=1.0))
    prompts = set()
    for seed in range(6):
        moved = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
        pixels = torch.zeros(1, 3, 64, 64)
        segments, _ = questions(asker, config, moved, 3, seed, pixels)
        texts = [tokens.text(row[:total].tolist()) for row, total in zip(segments.ids, segments.total, strict=True)]
        (marked,) = [t for t in texts if t.startswith("name the")]
        names = {"left lung": 0, "right lung": 1, "heart": 2}
        box = moved.box(0, names[marked.split("\n")[1].strip()])
        assert box is not None
        rows, columns = np.nonzero((pixels[0].abs().amax(0) > 0.1).numpy())
        assert np.allclose([rows.min(), columns.min(), rows.max(), columns.max()], box * 64, atol=3)
        prompts.add(marked.split("\n")[0])
    assert prompts == {"name the drawn box", "name the overlaid mask"}


def test_the_auxiliary_loss_sees_what_is_pointed_at(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    assert config.codebook
    config = replace(config, dense=0.5, augmentation=Augmentation.none(), tasks=replace(Tasks.segment_only(), marked=0.5))
    asker, book = asker_for(records, config, tokens), MaskCodebook.load(config.codebook)
    batch = make_plan(records, asker, config, 3, 0, 1, 64, 32).developed(book, tokens.seg)
    coloured = (batch.pixels.amax(1) - batch.pixels.amin(1) > 0.1).numpy()
    assert batch.chosen[-1] == len(records.structures)
    assert batch.known[:, -1].tolist() == coloured.any((1, 2)).tolist()
    assert 0 < batch.known[:, -1].sum() < len(coloured)
    for seen, drawn in zip(coloured, batch.masks[:, -1].numpy(), strict=True):
        if seen.any():
            edges = [[at.min(), at.max()] for at in np.nonzero(seen)]
            assert np.allclose(edges, [[2 * at.min(), 2 * at.max() + 1] for at in np.nonzero(drawn)], atol=3)


def test_answers_about_several_structures_read_back(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), several=1.0))
    moved = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
    segments, _ = questions(asker, config, moved, 6, 0)
    for row, total in zip(segments.ids, segments.total, strict=True):
        prompt, answer = tokens.text(row[: int(total)].tolist()).split("\n")
        read, invalid = read_answer(answer)
        assert invalid == 0
        assert len(read) >= 2
        assert prompt == "segment " + " ; ".join(a.name for a in read)
        assert all(a.codes is not None for a in read)


def test_the_masks_beside_the_questions_are_those_of_their_codes(
    config: PretrainConfig, records: Records, tokens: SpecialTokens
) -> None:
    asker = asker_for(records, config, tokens, Tasks(absent=0.2, detect=0.2, caption_mask=0.2, several=0.3, spoken=0.5))
    assert config.codebook
    codebook = MaskCodebook.load(config.codebook)
    for seed in range(4):
        moved = Moved(records, np.array([0, 0]), place(Augmentation(), 2, np.random.default_rng(seed)))
        segments, crops = questions(asker, config, moved, 12, seed)
        _, _, wanted = segments.targets()
        codes = tokens.code_of[wanted]
        said = codes[codes >= 0].unflatten(0, (len(crops), -1))
        assert torch.equal(said, codebook.encode(crops))


def test_a_wrong_box_is_gone_on_from_with_the_mask_as_it_frames_it(
    config: PretrainConfig, records: Records, tokens: SpecialTokens
) -> None:
    """What is read back from box and codes is the structure where it is, though the box is off; the aim is the right box."""
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), slips=1.0))
    assert config.codebook
    codebook = MaskCodebook.load(config.codebook)
    off, names = [], {"left lung": 0, "right lung": 1, "heart": 2}
    for seed in range(8):
        moved = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
        segments, crops = questions(asker, config, moved, 4, seed)
        _, _, wanted = segments.targets()
        codes = tokens.code_of[wanted]
        assert torch.equal(codes[codes >= 0].unflatten(0, (len(crops), -1)), codebook.encode(crops))
        for row, aim, total, crop in zip(segments.ids, segments.aims, segments.total, crops, strict=True):
            (said, right) = (read_answer(tokens.text(ids[: int(total)].tolist()).split("\n")[1])[0][0] for ids in (row, aim))
            structure = names[said.name]
            assert np.allclose(np.array(right.bins) / 1023, moved.box(0, structure), atol=1 / 1023)
            assert right.codes == said.codes
            off.append(np.abs(np.subtract(said.bins, right.bins)).max())
            top, left, bottom, right_edge = (v / 1023 * 192 for v in said.bins)
            drawn = paste_mask((crop * 2 - 1).numpy(), (top, left, bottom, right_edge), (192, 192))
            there = moved.dense(np.array([structure]), 192)[0, 0].numpy() > 0.5
            inside = np.zeros_like(there)
            inside[int(top) + 1 : int(bottom), int(left) + 1 : int(right_edge)] = True
            assert (drawn & inside & there).sum() * 2 / ((drawn & inside).sum() + (there & inside).sum()) > 0.95
    assert max(off) > 20
    assert min(off) < 20


def test_what_comes_first_is_asked_wherever_it_is_seen(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), first=("heart",)))
    away = replace(place(Augmentation.none(), 2, np.random.default_rng(0)), offset=np.array([[0.0, 0.0], [0.62, 0.0]]))
    for seed in range(8):
        segments, _ = questions(asker, config, Moved(records, np.array([0, 0]), away), 2, seed)
        asked = [tokens.text(row[:length].tolist()).strip() for row, length in zip(segments.ids, segments.prompt, strict=True)]
        assert "segment heart" in asked[:2]
        assert "segment heart" not in asked[2:]


def test_a_detected_box_is_followed_by_the_name_alone(config: PretrainConfig, records: Records, tokens: SpecialTokens) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), detect=1.0, spoken=0.0))
    moved = Moved(records, np.array([0]), place(Augmentation.none(), 1, np.random.default_rng(0)))
    segments, _ = questions(asker, config, moved, 4, 0)
    for row, total in zip(segments.ids, segments.total, strict=True):
        prompt, answer = tokens.text(row[: int(total)].tolist()).split("\n")
        ((read,), invalid) = read_answer(answer, needs="box")
        assert invalid == 0
        assert read.codes is None
        assert prompt == f"detect {read.name}"
        assert int(row[int(total) - 1]) == tokens.eos


def test_structures_moved_out_of_the_picture_are_answered_none(
    config: PretrainConfig, records: Records, tokens: SpecialTokens
) -> None:
    asker = asker_for(records, config, tokens, replace(Tasks.segment_only(), absent=0.5))
    placement = place(Augmentation.none(), 1, np.random.default_rng(0))
    away = Moved(records, np.array([0]), replace(placement, offset=placement.offset + 2))
    asked, _ = questions(asker, config, away, 8, 0)
    assert all("none" in tokens.text(row.tolist()) for row in asked.ids)
    here, _ = questions(asker, config, Moved(records, np.array([0]), placement), 40, 0)
    texts = [tokens.text(row.tolist()) for row in here.ids]
    assert all(("none" in t) == ("humerus" in t or "upper arm" in t) for t in texts)
    assert {"none" in t for t in texts} == {True, False}
