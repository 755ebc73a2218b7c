"""What the training loop teaches: a model that writes tokens. (The other pupil is the U-Net of `training.fit.unet`.)"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from training.anatomy import trainable
from training.errors import BrokenModel
from training.fit.batches import Batch, Plan
from training.fit.dense import DenseHead, dense_loss
from training.fit.lora import adapter_weights, add_lora, write_adapter
from training.fit.losses import code_aims, mask_loss, names_alone, token_loss
from training.fit.queries import Asker
from training.fit.records import Records
from training.fit.settings import PretrainConfig
from training.fit.state import averaged
from training.fit.styles import exchanged, restyled
from training.fit.validate import calibrate, validate
from training.model.attention import NAME as SHARED
from training.model.checkpoint import Checkpoint, create, save_checkpoint
from training.model.loading import load_checkpoint, open_codebook
from training.model.packing import logits_of, read, recall
from training.model.reading import ReadingProjector
from training.model.special import SpecialTokens
from training.model.taught import settled


class Pupil(Protocol):
    """learner: the module that is trained, called with a Batch, returns the loss and what is watched; image_size,
    side: edges of the pictures and of the masks that it wants; asker: draws its questions, None where it takes none."""

    learner: nn.Module
    image_size: int
    side: int

    def asker(self, records: Records) -> Asker | None:
        """What draws its questions."""

    def develop(self, plan: Plan) -> Batch:
        """A step's work, ready for the learner."""

    def write(self, folder: Path, card: dict[str, Any]) -> None:
        """Write what was learnt, and what is to be known about it."""

    def validate(self, records: Records, images: int) -> dict[str, float]:
        """Figures on up to `images` held-out cases."""

    def finish(self, records: Records, images: int) -> dict[str, Any]:
        """What is learnt on held-out cases at the end, for the card."""


class TokenPupil:
    """A PaliGemma-like model: chexanatomy-tiny from nothing, or a LoRA on a base."""

    def __init__(self, config: PretrainConfig, structures: tuple[str, ...]) -> None:
        self._config = config
        self.checkpoint, self._lora = starting_point(config)
        model = self.checkpoint.model
        if self.checkpoint.codebook is not None:
            self.checkpoint.codebook.requires_grad_(False)
        self._tokens = SpecialTokens(self.checkpoint.tokenizer, model.config.get_text_config().vocab_size)
        if self.checkpoint.packed:
            model.config.get_text_config()._attn_implementation = SHARED
        vision = model.config.vision_config
        drawn = len(structures) + config.points
        read = reader.read if (reader := reading_of(model)) is not None else None
        self._head = DenseHead(vision.hidden_size, drawn, config.dense_factor, read) if config.auxiliary else None
        if self._head is not None and config.dense_start is not None:
            take_weights(self._head, averaged(config.dense_start, "head"), config.dense_start)
        self.learner: nn.Module = Learner(self.checkpoint, self._head, self._tokens, config)
        self.image_size = self.checkpoint.image_size
        self.side = self.image_size // vision.patch_size * config.dense_factor

    def asker(self, records: Records) -> Asker:
        """What draws the questions."""
        return Asker(records, self._tokens, self._config.tasks)

    def develop(self, plan: Plan) -> Batch:
        """See `Plan.developed`."""
        return plan.developed(self.checkpoint.codebook, self._tokens.seg)

    def write(self, folder: Path, card: dict[str, Any]) -> None:
        """Write a whole checkpoint, or the adapter alone where a base was taught."""
        checkpoint = self.checkpoint
        own = {"stretch": True, "negatives": self._config.tasks.absent > 0}
        checkpoint.card.update(own | card)
        if self._lora is None:
            save_checkpoint(checkpoint, folder)
        else:
            write_adapter(folder, adapter_weights(checkpoint.model), self._lora, checkpoint, checkpoint.card)

    def validate(self, records: Records, images: int) -> dict[str, float]:
        """See `training.fit.validate`."""
        return validate(self.checkpoint, records, images, self._head)

    def finish(self, records: Records, images: int) -> dict[str, Any]:
        """Learn on held-out images what the model's certainty is worth, and what it draws better part by part."""
        return calibrate(self.checkpoint, records, images, self._config.augmentation)


class Learner(nn.Module):
    """The model, and the head of the auxiliary loss that is thrown away afterwards."""

    def __init__(self, checkpoint: Checkpoint, head: DenseHead | None, tokens: SpecialTokens, config: PretrainConfig) -> None:
        super().__init__()
        self.model, self.head, self.codebook = checkpoint.model, head, checkpoint.codebook
        self._checkpoint, self._tokens, self._config = checkpoint, tokens, config
        book = checkpoint.codebook
        self._aims = code_aims(book, config.smoothing, config.near) if book is not None else None

    def forward(self, batch: Batch, answers: bool = True) -> tuple[Tensor, dict[str, tuple[float, int]]]:
        """Return the loss to minimise, and sums and counts of what is watched. answers: False leaves the decoder out."""
        config, segments = self._config, batch.segments
        watched: dict[str, tuple[float, int]] = {}
        inner = self.model.model
        with exchanged(inner.vision_tower.embeddings.patch_embedding, batch.styles):
            looked = inner.get_image_features(batch.pixels.to(self.model.dtype), return_dict=True)
        features, seen = looked.pooler_output, looked.last_hidden_state
        if batch.styles is not None:
            seen = restyled(seen, batch.styles)
            features = inner.multi_modal_projector(seen)
        loss = features.sum() * 0
        if answers:
            if (reader := reading_of(self.model)) is not None:
                # Masks alone teach what is read: a decoder that could change it would hide in it what it knows better.
                shares = reader.shares(looked.last_hidden_state).detach()
                features = reader.written(seen, shares, batch.apart, batch.blend)
            prefix = recall(self.model, features, looked.last_hidden_state, packed=self._checkpoint.packed)
            hidden, _, _ = read(self.model, prefix, segments, len(segments.ids) // len(batch.pixels))
            row, position, wanted = segments.targets()
            logits = logits_of(self.model, hidden[row, position])
            weight = torch.where(names_alone(segments, self._tokens), config.naming, 1.0)[row]
            loss, watched = token_loss(logits, wanted, self._tokens, config.sigma, self._aims, weight)
            watched["token_loss"] = (float(loss.detach()) * len(wanted), len(wanted))
            if config.drawn and len(batch.crops):
                drawn = self._drawn(logits, wanted, batch.crops)
                watched["drawn_loss"] = (float(drawn.detach()), 1)
                loss = loss + config.drawn * drawn
        if self.head is not None:
            logits = self.head(looked.last_hidden_state, batch.chosen)
            cut = -1 if config.points else None
            dense = dense_loss(logits[:, :cut], batch.masks[:, :cut], batch.known[:, :cut])
            if config.points:  # by itself: among all structures it would hardly count
                pointed = dense_loss(logits[:, cut:], batch.masks[:, cut:], batch.known[:, cut:])
                watched["pointed_loss"] = (float(pointed.detach()), 1)
                dense = dense + pointed
            watched["dense_loss"] = (float(dense.detach()), 1)
            loss = loss + config.auxiliary * dense
        return loss, watched

    def _drawn(self, logits: Tensor, wanted: Tensor, crops: Tensor) -> Tensor:
        """What the codes draw, compared with the masks, for up to `drawn_most` of them."""
        assert self.codebook is not None
        home = logits.device
        here = self._tokens.code_of.to(home)[wanted] >= 0
        codes = logits[here][:, self._tokens.seg.to(home)].unflatten(0, (len(crops), -1))
        every = -(-len(crops) // self._config.drawn_most)
        return mask_loss(codes[::every], crops[::every], self.codebook)


def starting_point(config: PretrainConfig) -> tuple[Checkpoint, Any]:
    """The model before the first step, chexanatomy-tiny with random weights or a PaliGemma with a fresh LoRA, and the LoRA's
    configuration."""
    from training.tokens.tokenizer import build_tokenizer

    if config.base is None:
        if config.codebook is None:
            raise BrokenModel("Training needs a mask codebook: give the path of a codebook.safetensors or of vae-oid.npz.")
        checkpoint = create(
            build_tokenizer(),
            open_codebook(config.codebook),
            config.seed,
            image_size=config.image_size,
            patch=config.patch,
            vision_width=config.vision_width,
            vision_depth=config.vision_depth,
            text_width=config.text_width,
            text_depth=config.text_depth,
            text_hidden=config.text_hidden,
            heads=config.heads,
            stem=config.stem,
            stem_depth=config.stem_depth,
            reading=len(config.structures or trainable()) + (config.tasks.marked > 0) if config.reading else 0,
            reading_factor=config.dense_factor,
            reading_blend=config.reading,
            evened=config.evened,
            vision_reach=config.vision_reach,
            text_reach=config.text_reach,
            informed=config.informed,
        )
        if config.start is not None:
            take_weights(checkpoint.model, settled(load_checkpoint(config.start)).model.state_dict(), config.start)
        if config.tower is not None:
            tower = load_checkpoint(config.tower).model.model.vision_tower
            take_weights(checkpoint.model.model.vision_tower, tower.state_dict(), config.tower)
        if config.freeze_vision:
            if config.start is None and config.tower is None:
                raise BrokenModel("A vision tower of random weights is not worth keeping: give start or tower, or let it learn.")
            checkpoint.model.model.vision_tower.requires_grad_(False)
            if (reader := reading_of(checkpoint.model)) is not None:
                reader.read.requires_grad_(False)
        checkpoint.model.train()
        return checkpoint, None

    checkpoint = settled(load_checkpoint(config.base, config.codebook))
    if checkpoint.codebook is None:
        raise BrokenModel(f"{config.base} comes without a mask codebook: give the path of vae-oid.npz.")
    if checkpoint.image_size != config.image_size:
        raise BrokenModel(f"{config.base} looks at {checkpoint.image_size} px: set the image size to {checkpoint.image_size}.")
    lora = add_lora(checkpoint.model, config.lora_rank, freeze_vision=config.freeze_vision)
    if config.checkpointing:
        if checkpoint.packed:
            raise BrokenModel("Only a stock PaliGemma can recompute its layers; leave checkpointing out for this base.")
        checkpoint.model.activation_checkpointing_enable()
    checkpoint.model.train()
    return checkpoint, lora


def reading_of(model: Any) -> ReadingProjector | None:
    """The part of a model that reads shares of structures; None where the decoder reads features."""
    projector = model.model.multi_modal_projector
    return projector if isinstance(projector, ReadingProjector) else None


def take_weights(module: nn.Module, trained: Mapping[str, Tensor], folder: Path) -> None:
    """Copy the weights of a trained module of the same shape. One that saw smaller or larger pictures gives its places too,
    resampled to the new grid; to one with fewer layers, further ones are added that change nothing yet: they leave what goes
    through them as it is (compare Chen et al., arXiv 1511.05641). Raises BrokenModel for another shape."""
    weights, here = dict(trained), module.state_dict()
    for name in weights:
        if name.endswith(PLACES) and name in here:
            weights[name] = at_grid(weights[name], len(here[name]))
    for name in here.keys() - weights.keys():
        if LAYER.sub(r"\1.layers.0.", name) in weights:
            weights[name] = here[name] * 0 if name.rsplit(".", 2)[1] in ADDS else here[name]
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise BrokenModel(
            f"The model {folder.name} has another shape: give the run the same patch and widths, no fewer layers, "
            "and reading and evened as that one has them."
        ) from error


LAYER = re.compile(r"(encoder|language_model(?:\.model)?)\.layers\.\d+\.")
ADDS = ("out_proj", "fc2", "o_proj", "down_proj")
"""What adds the outcome of a layer's attention and of its mixing to what went in, in SigLIP and in Gemma."""
PLACES = "position_embedding.weight"


def at_grid(places: Tensor, count: int) -> Tensor:
    """Embeddings of the places of a square grid, float [places, width], for a grid of `count` places."""
    old, new = round(len(places) ** 0.5), round(count**0.5)
    if old == new or old**2 != len(places) or new**2 != count:
        return places
    grid = places.T.reshape(1, -1, old, old)
    return nn.functional.interpolate(grid, (new, new), mode="bicubic", align_corners=False)[0].flatten(1).T.contiguous()
