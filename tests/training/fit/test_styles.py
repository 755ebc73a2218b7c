"""Styles of features exchanged between the images of a step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from training.errors import BrokenModel, ChexanatomyError
from training.fit.augment import Augmentation
from training.fit.styles import draw_styles, exchanged, restyled


def test_every_image_keeps_what_it_does_not_take_from_another():
    styles = draw_styles(400, 0.5, np.random.default_rng(0))
    assert torch.allclose(styles.sum(1), torch.ones(400))
    assert (styles >= 0).all()
    own = styles.diagonal()
    assert 0.4 < (own == 1).float().mean() < 0.6
    assert torch.equal(draw_styles(8, 0.0, np.random.default_rng(0)), torch.eye(8))


def test_a_style_is_mean_and_spread_and_the_pattern_stays():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 50, 3, generator=generator) * torch.tensor([1.0, 4.0, 0.5]) + torch.tensor([0.0, 3.0, -1.0])
    swapped = restyled(features, torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    for image, other in ((0, 1), (1, 0)):
        assert torch.allclose(swapped[image].mean(0), features[other].mean(0), atol=1e-4)
        assert torch.allclose(swapped[image].std(0), features[other].std(0), atol=1e-3)
        for channel in range(3):
            pair = torch.stack([swapped[image, :, channel], features[image, :, channel]])
            assert torch.corrcoef(pair)[0, 1] > 0.9999
    assert torch.allclose(restyled(features, torch.eye(2)), features, atol=1e-3)


def test_a_layer_is_restyled_for_as_long_as_it_is_asked_for():
    layer, pictures = nn.Conv2d(1, 4, 3, padding=1), torch.randn(2, 1, 6, 5, generator=torch.Generator().manual_seed(1))
    before = layer(pictures)
    swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    with exchanged(layer, swap):
        during = layer(pictures)
    assert torch.allclose(during, restyled(before.flatten(2).mT, swap).mT.reshape(before.shape))
    with exchanged(layer, None):
        assert torch.equal(layer(pictures), before)
    assert torch.equal(layer(pictures), before)
    with pytest.raises(RuntimeError), exchanged(layer, swap):
        raise RuntimeError
    assert torch.equal(layer(pictures), before)
    assert not torch.allclose(during, before, atol=1e-3)


def test_the_same_step_draws_the_same_styles_and_nothing_else_changes(records, config):
    from training.fit.batches import make_plan

    plain = replace(config, augmentation=Augmentation())
    styled = replace(config, augmentation=Augmentation(styles=0.5))
    plans = [make_plan(records, None, c, 3, 0, 1, 64, 16) for c in (plain, styled, styled)]
    assert plans[0].styles is None
    assert torch.equal(plans[1].styles, plans[2].styles)
    assert torch.equal(plans[0].images, plans[1].images)
    assert torch.equal(plans[0].chosen, plans[1].chosen)


def test_the_model_learns_from_features_in_the_styles_of_others(config, records):
    from training.fit.batches import make_plan
    from training.fit.pupils import TokenPupil

    pupil = TokenPupil(replace(config, augmentation=Augmentation(styles=1.0)), config.structures)
    batch = pupil.develop(make_plan(records, pupil.asker(records), pupil._config, 0, 0, 1, pupil.image_size, pupil.side))
    losses = [pupil.learner(replace(batch, styles=s))[0] for s in (batch.styles, None, torch.eye(len(batch.pixels)))]
    assert abs(losses[0] - losses[1]) > 1e-4
    assert torch.allclose(losses[1], losses[2], atol=1e-3)
    losses[0].backward()
    tower = pupil.checkpoint.model.model.vision_tower
    assert all(weight.grad is not None and weight.grad.any() for weight in tower.embeddings.patch_embedding.parameters())


def test_a_unet_takes_none(config):
    with pytest.raises(ChexanatomyError, match="leave out styles"):
        replace(config, unet=True, augmentation=Augmentation(styles=0.5))
    with pytest.raises(ChexanatomyError, match="styles is a number from 0 to 1"):
        replace(config, augmentation=Augmentation(styles=1.5))


def test_a_run_goes_on_with_a_model_whose_features_are_evened_out(config, tmp_path):
    from training.fit.pupils import starting_point
    from training.model.checkpoint import save_checkpoint
    from training.model.evened import EvenedProjector

    made, _ = starting_point(replace(config, evened=0.5))
    made.model.model.multi_modal_projector.learn([torch.randn(3, 16, 32)])
    save_checkpoint(made, tmp_path / "evened")
    again, _ = starting_point(replace(config, evened=0.5, start=tmp_path / "evened"))
    projector = again.model.model.multi_modal_projector
    assert isinstance(projector, EvenedProjector)
    assert torch.allclose(projector.middle, made.model.model.multi_modal_projector.middle, atol=2e-3)
    with pytest.raises(BrokenModel, match="evened as that one has"):
        starting_point(replace(config, start=tmp_path / "evened"))
    with pytest.raises(ChexanatomyError, match="leave out evened"):
        replace(config, evened=0.5, reading=1.0)
