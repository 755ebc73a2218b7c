"""Adapters on a model, and which weights answer which name.

A low-rank adapter that was taught one structure answers for that structure alone: every other name is asked of the weights as
they were before, so that what they say stays the same to the bit. An adapter that does not say what it was taught, such as one of
another project, is merged and answers everything.
"""

from __future__ import annotations

import copy
import hashlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.anatomy import vocabulary
from training.errors import BrokenModel
from training.model.checkpoint import Checkpoint, read_card
from training.model.folder import lora_settings, read_json
from training.tokens.grammar import clean_name

if TYPE_CHECKING:
    from peft import LoraModel
    from torch import Tensor

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"

OPENING_ERRORS = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, IndexError, ImportError, NotImplementedError),
    *(AssertionError, ZeroDivisionError, RecursionError, MemoryError),
)
"""What transformers and peft raise, beside SafetensorError, on configurations and weights that make no model."""

Adapters = tuple[str, ...]
"""peft's names of the adapters that are added to a model's weights; none of them: the weights as they are."""


class Weights:
    """A model's weights with and without its adapters. They are without, except inside of `answering`."""

    def __init__(self, model: Any, taught: Mapping[str, Adapters]) -> None:
        """taught: name to ask for -> the adapters that answer it."""
        self.active: Adapters = ()
        self._taught = dict(taught)
        self._layers = list(_layers(model).values()) if taught else []
        self._activate(())

    def of(self, name: str) -> Adapters:
        """What answers a name."""
        return self._taught.get(name, ())

    def groups(self, names: Sequence[str]) -> dict[Adapters, list[int]]:
        """Places of the names in the list, by what answers them; the weights without adapters first."""
        found: dict[Adapters, list[int]] = {}
        for place, name in enumerate(names):
            found.setdefault(self.of(name), []).append(place)
        return dict(sorted(found.items()))

    @contextmanager
    def answering(self, adapters: Adapters) -> Iterator[None]:
        """Add these adapters to the weights for a while."""
        before = self.active
        self._activate(adapters)
        try:
            yield
        finally:
            self._activate(before)

    def _activate(self, adapters: Adapters) -> None:
        for layer in self._layers:
            layer.set_adapter(list(adapters), inference_mode=True)
        self.active = adapters


def with_adapter(base: Checkpoint, folder: Path) -> Checkpoint:
    """Put an adapter on its base. Raises BrokenModel for a folder that is none or that belongs on another model."""
    for file, remedy in ((ADAPTER_CONFIG, "name the adapter's own folder"), (ADAPTER_WEIGHTS, "take its safetensors version")):
        if not (folder / file).exists():
            raise BrokenModel(f"{folder.name} is no adapter that can be opened, it has no {file}: {remedy}.")
    settings = lora_settings(folder, read_json(folder / ADAPTER_CONFIG))
    card, weights = read_card(folder), _read_weights(folder, base)
    if base.weights and card.get("base_weights", base.weights) != base.weights:
        raise BrokenModel(
            f"The adapter {folder.name} was taught on other weights than those of {base.name}, perhaps of an earlier version: "
            "open it on those, or teach it again."
        )
    structure = card.get("structure")
    # Biases and modules that are trained themselves cannot be taken off again; what a vision tower sees is shared by all names.
    removable = settings.get("bias", "none") == "none" and not settings.get("modules_to_save")
    alone = isinstance(structure, str) and removable and all("language_model" in name for name in weights)
    base = base if alone else settled(base)
    name = f"taught{len(_chain(base))}"
    tuner = _put_on(base, folder, settings, weights, name, whole=bool(card))
    taught = {**base.taught, _asked_for(structure): (*_chain(base), name)} if alone else {}
    return replace(
        base,
        model=(base.model if alone else tuner.merge_and_unload()).eval(),
        taught=taught,
        card=_together(base.card, card, alone),
        name=f"{base.name}+{folder.name}",
        source=f"{base.source}+{folder.resolve()}",
        weights=_sampled_with(base.weights, folder),
    )


def _sampled_with(weights: str, folder: Path) -> str:
    """As `Checkpoint.weights`, for a model that has an adapter on it."""
    own = (folder / ADAPTER_WEIGHTS).read_bytes()
    return hashlib.blake2b(weights.encode() + own, digest_size=6).hexdigest() if weights else ""


def answers_alone(card: Mapping[str, Any]) -> bool:
    """Whether a card is that of a low-rank adapter taught from drawings, which leaves every other structure as it was."""
    settings = card.get("settings")
    return isinstance(card.get("structure"), str) and isinstance(settings, Mapping) and settings.get("method") == "lora"


def settled(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with all its adapters merged into a copy of the weights: to be trained further, or written as a whole."""
    if not checkpoint.taught:
        return checkpoint
    model = copy.deepcopy(checkpoint.model)
    for name, layer in _layers(model).items():
        layer.merge(adapter_names=list(_chain(checkpoint)))
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    del model.peft_config
    return replace(checkpoint, model=model, taught={})


def taught_card(card: Mapping[str, Any], structure: str) -> dict[str, Any]:
    """A model's card after it was taught a structure from drawings: `learned` has names outside the vocabulary, `structures`
    the keys (where nothing is listed, nobody knows what the model knows), `from_drawings` both."""
    own = "structures" if structure in vocabulary() else "learned"
    added = dict(card)
    for field in ("from_drawings", own):
        known = list(card.get(field, ()))
        if structure not in known and (known or field != "structures"):
            added[field] = [*known, structure]
    return added


def _together(base: Mapping[str, Any], card: Mapping[str, Any], alone: bool) -> dict[str, Any]:
    """The card of a base with an adapter. alone: the adapter answers for its own structure and says nothing of the rest."""
    merged = {**base, **({k: v for k, v in card.items() if k in ("scores", "structure")} if alone else card)}
    merged["learned"] = list(dict.fromkeys([*base.get("learned", ()), *card.get("learned", ())]))
    return taught_card(merged, str(card["structure"])) if alone else merged


def _asked_for(structure: Any) -> str:
    known = vocabulary().get(structure)
    return clean_name(known.name if known else str(structure))


def _chain(checkpoint: Checkpoint) -> Adapters:
    """All adapters that are on a model, in the order in which they were taught."""
    return max(checkpoint.taught.values(), key=len, default=())


def _unfit(folder: Path, base: Checkpoint, reason: str) -> BrokenModel:
    return BrokenModel(
        f"The adapter {folder.name} does not fit the model {base.name} ({reason}): name the base it was trained on."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _read_weights(folder: Path, base: Checkpoint) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(folder / ADAPTER_WEIGHTS)
    except (SafetensorError, *OPENING_ERRORS) as error:
        raise _unfit(folder, base, _first_line(error)) from error
    if not weights:
        raise _unfit(folder, base, "it holds nothing")
    return {_current(name): weight for name, weight in weights.items()}


def _put_on(
    base: Checkpoint, folder: Path, settings: Mapping[str, Any], weights: Mapping[str, Tensor], name: str, whole: bool
) -> LoraModel:
    """Add an adapter to the modules of a base, in place; returns peft's frame around it. whole: it must have weights for all
    layers of the decoder, as those written here do."""
    from peft import LoraConfig, LoraModel, set_peft_model_state_dict

    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by an old name.
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
            warnings.filterwarnings("ignore", message="Already found a `peft_config`", category=UserWarning)
            tuner = LoraModel(base.model, LoraConfig(**settings, task_type="CAUSAL_LM"), name)
        outcome = set_peft_model_state_dict(base.model, dict(weights), name)
    except OPENING_ERRORS as error:
        raise _unfit(folder, base, _first_line(error)) from error
    if outcome.unexpected_keys:
        raise _unfit(folder, base, f"it holds {outcome.unexpected_keys[0]}")
    lacking = [key for key in outcome.missing_keys if "language_model" in key and "lora_" in key and f".{name}." in key]
    if whole and lacking:
        raise _unfit(folder, base, f"it lacks {lacking[0]}")
    return tuner


def _layers(model: Any) -> dict[str, Any]:
    """The modules that have adapters on them, by name."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {name: part for name, part in model.named_modules() if isinstance(part, BaseTunerLayer)}


def _current(name: str) -> str:
    """The name of an adapter weight in today's transformers, from the one it had when it was published.

    Until transformers 4.51 the decoder was `language_model.model` and the vision tower `vision_tower.vision_model`.
    """
    for old, new in _MOVED:
        name = re.sub(old, new, name)
    return name


_MOVED = (
    (r"^base_model\.model\.language_model\.model\.", "base_model.model.model.language_model."),
    (r"^base_model\.model\.language_model\.lm_head", "base_model.model.lm_head"),
    (r"^base_model\.model\.(vision_tower|multi_modal_projector)\.", r"base_model.model.model.\1."),
    (r"\.vision_tower\.vision_model\.", ".vision_tower."),
)
