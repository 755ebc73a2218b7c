"""Commands to look around: the demo, and what is installed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.cli.console import Command
from training.cli.screen import require_screen, virtual_screen
from training.errors import ChexanatomyError
from training.plain import plain


@dataclass(frozen=True, kw_only=True)
class Demo(Command):
    """Show the sample CT, its radiograph, the projected masks and the predicted masks in the napari window.

    With --headless nothing needs a screen: the folder gets radiograph.png, masks/, predictions.json and, where a window can be
    opened on a virtual screen, window.png.

    Example: chexanatomy demo --headless demo
    """

    headless: Path | None = None
    """Write the results into this folder instead of opening the window."""
    phantom: bool = False
    """Take the procedural phantom instead of the CT; it needs no network."""

    def run(self) -> int:
        """Compute in the core, show on the desk."""
        from training.demo import make_demo

        if self.headless is None:
            require_screen()
            window = desk()
        with self.reporting() as progress:
            demo = make_demo(self.headless, phantom=self.phantom, progress=progress)
        shown = (demo.ct, demo.labels, demo.geometry, demo.radiograph, demo.masks, demo.findings)
        if self.headless is None:
            window.show(*shown)
            return 0
        try:
            with virtual_screen():
                desk().show(*shown, screenshot=self.headless / "window.png")
        except ChexanatomyError as problem:
            self.warn(f"there is no picture of the window: {problem}")
        self.say(f"{self.headless}: {len(demo.masks)} projected masks, {sum(f.present for f in demo.findings)} predicted ones")
        return 0


@dataclass(frozen=True, kw_only=True)
class Info(Command):
    """Say what is installed: versions, the vocabulary, where downloads are kept, and the model's card with what was measured.

    Example: chexanatomy info --structures
    """

    model: str = "embedded"
    """Whose card to show: the embedded model, a folder, or an adapter."""
    structures: bool = False
    """List every structure with its names."""

    def run(self) -> int:
        """Print it."""
        from importlib.metadata import PackageNotFoundError, version

        from training.anatomy import vocabulary
        from training.model.checkpoint import read_card, read_page
        from training.model.loading import EMBEDDED, EMBEDDED_FOLDER
        from training.samples import cache_folder

        if self.structures:
            for s in vocabulary().values():
                self.say(f"{s.key:32} {s.name} ({s.group}){'; ' + ', '.join(s.synonyms) if s.synonyms else ''}")
            return 0
        for package in ("napari-chexanatomy", "torch", "transformers", "peft", "numba", "SimpleITK", "napari"):
            try:
                self.say(f"{package:20} {version(package)}")
            except PackageNotFoundError:
                self.say(f"{package:20} not installed")
        self.say(f"{'vocabulary':20} {len(vocabulary())} structures (list them with --structures)")
        self.say(f"{'downloads':20} {cache_folder()}")
        folder = EMBEDDED_FOLDER if self.model == EMBEDDED else Path(self.model)
        card = read_card(folder)
        self.say(f"{'model':20} {self.model}{'' if card else f' (there is no card in {folder})'}")
        for key, value in card.items():
            self.say(f"  {_whole(key):18} {_whole(_short(value))}")
        page = read_page(folder)
        for line in ("", *page.splitlines()) if page else ():
            self.say(_whole(line))
        return 0


def _short(value: Any) -> str:
    """Return a card's value on one line; long lists are counted."""
    if isinstance(value, (list, tuple)) and len(value) > 8:
        return f"{', '.join(str(v) for v in value[:6])}, ... ({len(value)} in all)"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def _whole(text: str) -> str:
    """Return a line of a file uncut, without what a terminal would act on."""
    return plain(text, len(text))


def desk() -> Any:
    """Return the desk's demo module. Raises ChexanatomyError where napari is not installed."""
    try:
        from napari_chexanatomy import demo
    except ImportError as problem:
        raise ChexanatomyError(
            f"The window needs napari ({problem}): install it with pip install 'napari-chexanatomy[all]', or use --headless."
        ) from problem
    return demo
