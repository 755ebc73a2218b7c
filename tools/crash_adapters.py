"""The jobs of tools/crashes.py that write adapters."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
from crash_job import SIDE, Job, base_model, require, whole_checkpoint


class Adapt(Job):
    """`adapt`: an adapter that was there stays until the new one is whole."""

    name = "adapt"

    def prepare(self) -> None:
        """Make a model and a first adapter."""
        base_model(self.inputs / "model")

    def work(self, told: Callable[[str], None]) -> None:
        """Teach an ellipse, twice over the same folder."""
        from training.fit import AdaptSettings, Augmentation, Example, adapt
        from training.images import Radiograph

        y, x = np.mgrid[:SIDE, :SIDE]
        mask = (y - 30) ** 2 / 400 + (x - 34) ** 2 / 200 < 1
        rng = np.random.default_rng(0)
        pictures = [(0.4 * mask + rng.random((SIDE, SIDE)) * 0.3).astype(np.float32) for _ in range(2)]
        examples = [Example(Radiograph(p), mask, name=str(i)) for i, p in enumerate(pictures)]
        settings = AdaptSettings(seconds=300, steps=2, views=2, rehearsal=0, augmentation=Augmentation.none())
        for _ in range(3):
            adapt(self.inputs / "model", examples, "a blob", self.out / "adapter", settings)
            told("adapter")

    def check(self, told: set[str]) -> int:
        """An adapter that was told of is there, and what is there is whole."""
        from training.folders import recover_folder

        recover_folder(self.out / "adapter")
        if not (self.out / "adapter").exists():
            require("adapter" not in told, "a finished adapter is gone")
            return 0
        whole_checkpoint(self.out / "adapter")
        return 1

    def finished(self) -> None:
        """The adapter opens on its model."""
        require(self.check({"adapter"}) == 1, "no adapter")
        left = [p.name for p in self.out.iterdir() if p.name != "adapter"]
        require(not left, f"leavings: {left}")


class Replace(Adapt):
    """Nothing but the last step of `adapt`, again and again: a finished adapter takes the place of the one before."""

    name = "replace"
    TIMES = 150

    def prepare(self) -> None:
        """Learn an adapter."""
        super().prepare()
        super().work(lambda _: None)
        self.out.rename(self.inputs / "learnt")

    def work(self, told: Callable[[str], None]) -> None:
        """Write it with a number in its card, which says how new it is."""
        from peft import LoraConfig
        from safetensors.torch import load_file

        from training.fit.lora import write_adapter
        from training.folders import replacing_folder

        learnt = self.inputs / "learnt" / "adapter"
        weights, card = load_file(learnt / "adapter_model.safetensors"), json.loads((learnt / "chexanatomy.json").read_text())
        for number in range(self._number() + 1, self.TIMES + 1):
            with replacing_folder(self.out / "adapter") as partial:
                write_adapter(partial, weights, LoraConfig.from_pretrained(str(learnt)), card["base"], {**card, "number": number})
            told(str(number))

    def check(self, told: set[str]) -> int:
        """What is there is whole, and no older than what was told of."""
        found = super().check({"adapter"} if told else set())
        newest = max((int(word) for word in told if word.isdigit()), default=0)
        require(self._number() >= newest, "an older adapter is there than was finished")
        return found

    def _number(self) -> int:
        from training.folders import recover_folder

        recover_folder(self.out / "adapter")
        card = self.out / "adapter" / "chexanatomy.json"
        return int(json.loads(card.read_text())["number"]) if card.exists() else 0

    def finished(self) -> None:
        """The last one is there."""
        super().finished()
        require(self._number() == self.TIMES, "the last adapter is missing")
