"""A labelling project: a folder of radiographs with one drawn structure, on disk after every change. No Qt here.

Layout: project.json, images/<name>.png (16 bit), masks/<name>.png (0/255), adapters/<name>/.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import ChexanatomyError
from training.images.types import Radiograph

PROJECT_FILE = "project.json"
HELD_OUT_FROM = 3
"""From this many drawn images on, at least one is held out to measure on."""


@dataclass(frozen=True)
class Item:
    """One image of a project. name: file stem; title: what the user calls it; spacing: (row, column) [mm] or None; held_out: kept
    for measuring, never learnt from; absent: the structure is not in this image, so an empty mask is the right answer.
    """

    name: str
    title: str
    spacing: tuple[float, float] | None = None
    view: str = ""
    held_out: bool = False
    absent: bool = False


class Project:
    """A labelling project that is open."""

    def __init__(self, folder: Path, structure: str, items: list[Item]) -> None:
        """Use `create` or `open_project`."""
        self.folder = folder
        self.structure = structure
        self.items = items

    @classmethod
    def create(cls, folder: Path) -> Project:
        """Start a project in a new or empty folder. Raises ChexanatomyError when the folder holds something else."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ChexanatomyError(f"{folder.name} is not empty: name a new folder for the project.")
        for part in ("images", "masks", "adapters"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        project = cls(folder, "", [])
        project.save()
        return project

    @classmethod
    def open_project(cls, folder: Path) -> Project:
        """Open a project. Raises ChexanatomyError when the folder is none."""
        try:
            record = json.loads((folder / PROJECT_FILE).read_text(encoding="utf-8"))
            items = [_item(entry) for entry in record["images"]]
            structure = str(record["structure"])
        except FileNotFoundError as error:
            raise ChexanatomyError(f"{folder.name} is no labelling project: it has no {PROJECT_FILE}.") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ChexanatomyError(f"{folder.name}/{PROJECT_FILE} cannot be read ({error}).") from error
        for part in ("images", "masks", "adapters"):
            (folder / part).mkdir(exist_ok=True)
        return cls(folder, structure, [item for item in items if (folder / "images" / f"{item.name}.png").is_file()])

    def save(self) -> None:
        """Write project.json in one step."""
        from training.results import write_json

        write_json(self.folder / PROJECT_FILE, {"structure": self.structure, "images": [asdict(item) for item in self.items]})

    def rename_structure(self, name: str) -> None:
        """Say what is drawn."""
        if name != self.structure:
            self.structure = name
            self.save()

    def add(self, radiograph: Radiograph) -> Item:
        """Copy a radiograph into the project."""
        from training.images import write_radiograph_png

        name = self._free_name(radiograph.name)
        write_radiograph_png(radiograph, self.folder / "images" / f"{name}.png")
        number = sum(other.title.split(" #")[0] == radiograph.name for other in self.items) + 1
        title = f"{radiograph.name} #{number}" if number > 1 else radiograph.name
        item = Item(name, title, radiograph.spacing, radiograph.view)
        self.items.append(item)
        self.save()
        return item

    def image(self, item: Item) -> Radiograph:
        """Read an image of the project."""
        from training.images import read_radiograph

        radiograph = read_radiograph(self.folder / "images" / f"{item.name}.png")
        return replace(radiograph, spacing=item.spacing, view=item.view, name=item.title)

    def mask(self, item: Item) -> np.ndarray | None:
        """What is drawn, bool [row, column]; None where nothing was drawn yet."""
        from training.images import read_mask_png

        path = self._mask_path(item)
        return read_mask_png(path) if path.is_file() else None

    def set_mask(self, item: Item, mask: np.ndarray) -> None:
        """Write a drawing in one step; an empty one takes the file away."""
        from training.images import write_mask_png

        path = self._mask_path(item)
        if not mask.any():
            path.unlink(missing_ok=True)
            return
        part = path.with_name(path.stem + ".part.png")
        write_mask_png(mask, part)
        part.replace(path)

    def drawn(self, item: Item) -> bool:
        """True when this image can be learnt from: something is drawn, or the structure is marked as not there."""
        return item.absent or self._mask_path(item).is_file()

    def ready(self) -> list[Item]:
        """Images that can be learnt from or measured on."""
        return [item for item in self.items if self.drawn(item)]

    def change(self, item: Item, **changes: Any) -> Item:
        """Replace fields of an item. Raises ChexanatomyError when no image would be left to measure on, or to learn from."""
        changed = replace(item, **changes)
        items = [changed if other.name == item.name else other for other in self.items]
        ready = [other for other in items if self.drawn(other)]
        if item.held_out and not changed.held_out and len(ready) >= HELD_OUT_FROM and not any(i.held_out for i in ready):
            raise ChexanatomyError("From three images on, one is held out to measure on: hold out another one first.")
        if changed.held_out and not item.held_out and self.drawn(item) and all(i.held_out for i in ready):
            raise ChexanatomyError("At least one drawn image has to be left to learn from: draw on another one first.")
        self.items = items
        self.save()
        return changed

    def hold_one_out(self) -> Item | None:
        """From three drawn images on, hold the last one out if none is; returns the one that was chosen now."""
        ready = self.ready()
        if len(ready) < HELD_OUT_FROM or any(item.held_out for item in ready):
            return None
        return self.change(ready[-1], held_out=True)

    def remove(self, item: Item) -> None:
        """Take an image and its drawing out of the project."""
        self.items = [other for other in self.items if other.name != item.name]
        self.save()
        self._mask_path(item).unlink(missing_ok=True)
        (self.folder / "images" / f"{item.name}.png").unlink(missing_ok=True)

    def stage(self) -> Path:
        """Lay out what is drawn as folders images/ and masks/ for `chexanatomy adapt`; returns the folder.

        Raises ChexanatomyError when there is nothing to learn, or no name for it.
        """
        from training.images import write_mask_png

        ready = self.ready()
        if not self.structure:
            raise ChexanatomyError("Name the structure that you are drawing first.")
        if not any(not item.held_out and not item.absent for item in ready):
            raise ChexanatomyError("Draw the structure on at least one image that is not held out.")
        staged = self.folder / "learning"
        shutil.rmtree(staged, ignore_errors=True)
        for part in ("images", "masks"):
            (staged / part).mkdir(parents=True)
        for item in ready:
            file = f"{item.name}.png"
            shutil.copyfile(self.folder / "images" / file, staged / "images" / file)
            if self._mask_path(item).is_file() and not item.absent:
                shutil.copyfile(self._mask_path(item), staged / "masks" / file)
            else:
                write_mask_png(np.zeros(self.image(item).pixels.shape, bool), staged / "masks" / file)
        return staged

    def new_adapter(self) -> Path:
        """A free folder name for the next adapter."""
        stem = _plain(self.structure) or "adapter"
        number = 1
        while (self.folder / "adapters" / f"{stem}-{number}").exists():
            number += 1
        return self.folder / "adapters" / f"{stem}-{number}"

    def adapters(self) -> list[Path]:
        """Finished adapters, oldest first."""
        found = [path for path in (self.folder / "adapters").iterdir() if path.is_dir() and any(path.iterdir())]
        return sorted(found, key=lambda path: path.stat().st_mtime)

    def _mask_path(self, item: Item) -> Path:
        return self.folder / "masks" / f"{item.name}.png"

    def _free_name(self, title: str) -> str:
        stem = _plain(title) or "image"
        taken = {item.name.casefold() for item in self.items}
        name, number = stem, 2
        while name.casefold() in taken:
            name, number = f"{stem}-{number}", number + 1
        return name


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60]


def _item(entry: dict[str, Any]) -> Item:
    spacing = entry.get("spacing")
    return Item(
        name=str(entry["name"]),
        title=str(entry.get("title") or entry["name"]),
        spacing=(float(spacing[0]), float(spacing[1])) if spacing else None,
        view=str(entry.get("view", "")),
        held_out=bool(entry.get("held_out", False)),
        absent=bool(entry.get("absent", False)),
    )
