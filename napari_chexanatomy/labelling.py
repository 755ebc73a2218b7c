"""A labelling project: a folder of radiographs with drawn structures, on disk after every change. No Qt here.

Layout: project.json, images/<name>.png (16 bit), masks/<structure>/<name>.png (0/255), adapters/<name>/, and what a drawing was
before in history/<structure>/<name>/<number>.png. Structures have masks of their own, so they may overlap as they like.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import ChexanatomyError
from training.images.types import Radiograph

PROJECT_FILE = "project.json"
HELD_OUT_FROM = 3
"""From this many drawn images on, at least one is held out to measure on."""
UNNAMED = "unnamed"
"""Folder of what is drawn before it has a name."""
KEPT_VERSIONS = 100
"""Earlier states of a drawing that are kept."""


@dataclass(frozen=True)
class Item:
    """One image of a project. name: file stem; title: what the user calls it; spacing: (row, column) [mm] or None; held_out: kept
    for measuring, never learnt from; absent: structures that are not in this image, so an empty mask is the right answer.
    """

    name: str
    title: str
    spacing: tuple[float, float] | None = None
    view: str = ""
    held_out: bool = False
    absent: tuple[str, ...] = ()


class Project:
    """A labelling project that is open; one of its structures is in hand."""

    def __init__(self, folder: Path, structure: str, structures: dict[str, str], items: list[Item]) -> None:
        """Use `create` or `open_project`. structures: name -> folder of its masks."""
        self.folder = folder
        self.structure = structure
        self._folders = structures
        self.items = items

    @classmethod
    def create(cls, folder: Path) -> Project:
        """Start a project in a new or empty folder. Raises ChexanatomyError when the folder holds something else."""
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ChexanatomyError(f"{folder.name} is not empty: name a new folder for the project.")
        for part in ("images", "masks", "adapters"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        project = cls(folder, "", {}, [])
        project.save()
        return project

    @classmethod
    def open_project(cls, folder: Path) -> Project:
        """Open a project. Raises ChexanatomyError when the folder is none."""
        try:
            record = json.loads((folder / PROJECT_FILE).read_text(encoding="utf-8"))
            items = [_item(entry) for entry in record["images"]]
            structure = str(record["structure"])
            structures = {str(name): _plain(str(where)) for name, where in record["structures"].items()}
        except FileNotFoundError as error:
            raise ChexanatomyError(f"{folder.name} is no labelling project: it has no {PROJECT_FILE}.") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ChexanatomyError(f"{folder.name}/{PROJECT_FILE} cannot be read ({error}).") from error
        for part in ("images", "masks", "adapters"):
            (folder / part).mkdir(exist_ok=True)
        there = [item for item in items if (folder / "images" / f"{item.name}.png").is_file()]
        return cls(folder, structure, structures, there)

    def save(self) -> None:
        """Write project.json in one step."""
        from training.results import write_json

        images = [asdict(item) for item in self.items]
        content = {"structure": self.structure, "structures": self._folders, "images": images}
        write_json(self.folder / PROJECT_FILE, content)

    # Structures -----------------------------------------------------------------------------------------------------

    @property
    def structures(self) -> list[str]:
        """What was drawn in this project so far, and what is in hand."""
        return list(self._folders)

    def choose_structure(self, name: str) -> None:
        """Take a structure in hand, a new one or one drawn before. One in hand that nothing was drawn of is forgotten."""
        if name == self.structure or not name:
            return
        before = self.structure
        if before and not any(self.drawn(item) for item in self.items):
            del self._folders[before]
        if not before:  # what was drawn before it had a name
            self.items = [replace(i, absent=tuple(name if a == "" else a for a in i.absent)) for i in self.items]
            if (self.folder / "masks" / UNNAMED).is_dir():
                self._folders.setdefault(name, UNNAMED)
        if name not in self._folders:
            self._folders[name] = _free(_plain(name) or "structure", (*self._folders.values(), UNNAMED))
        self.structure = name
        self.save()

    def rename_structure(self, name: str) -> None:
        """Give the structure in hand another name; its drawings stay. Raises ChexanatomyError when the name is taken."""
        if not self.structure:
            self.choose_structure(name)
        elif name and name != self.structure:
            if name in self._folders:
                raise ChexanatomyError(f"This project has drawings of “{name}” already: choose another name.")
            before = self.structure
            self._folders = {name if key == before else key: where for key, where in self._folders.items()}
            self.items = [replace(i, absent=tuple(name if a == before else a for a in i.absent)) for i in self.items]
            self.structure = name
            self.save()

    # Images ---------------------------------------------------------------------------------------------------------

    def add(self, radiograph: Radiograph) -> Item:
        """Copy a radiograph into the project."""
        from training.images import write_radiograph_png

        name = _free(_plain(radiograph.name) or "image", (item.name for item in self.items))
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

    def item(self, name: str) -> Item | None:
        """The image of this name."""
        return next((item for item in self.items if item.name == name), None)

    def remove(self, item: Item) -> None:
        """Take an image and its drawings out of the project."""
        self.items = [other for other in self.items if other.name != item.name]
        self.save()
        for where in self._folders.values():
            (self.folder / "masks" / where / f"{item.name}.png").unlink(missing_ok=True)
            shutil.rmtree(self.folder / "history" / where / item.name, ignore_errors=True)
        (self.folder / "images" / f"{item.name}.png").unlink(missing_ok=True)

    # Drawings of the structure in hand ------------------------------------------------------------------------------

    def mask(self, item: Item, structure: str = "") -> np.ndarray | None:
        """What is drawn, bool [row, column]; None where nothing was drawn yet. structure: by default the one in hand."""
        from training.images import read_mask_png

        path = self._mask_path(item, structure)
        return read_mask_png(path) if path.is_file() else None

    def set_mask(self, item: Item, mask: np.ndarray, undone: bool = False) -> None:
        """Write a drawing in one step, and keep what it was before; an empty one takes the file away.

        undone: the drawing is one that was before, so nothing is kept and it counts as an earlier state no longer.
        """
        from training.images import write_mask_png

        path = self._mask_path(item)
        if not mask.any() and not path.is_file():
            return
        kept = None if undone else self._keep_version(item, path, mask.shape)
        try:
            if mask.any():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mask_png(mask, path)
            else:
                path.unlink()
        except OSError:
            if kept is not None:
                kept.unlink(missing_ok=True)
            raise
        if undone:
            self._forget_versions_like(item, mask)
        for old in self._versions(item)[:-KEPT_VERSIONS]:
            old.unlink()

    def take_back(self, item: Item) -> np.ndarray | None:
        """Bring back what the drawing was before it was saved last, bool [row, column]; None where nothing is kept."""
        from training.images import read_mask_png

        self._forget_versions_like(item, self.mask(item))
        versions = self._versions(item)
        if not versions:
            return None
        earlier = read_mask_png(versions[-1])
        self.set_mask(item, earlier, undone=True)
        return earlier

    def others(self, item: Item) -> dict[str, np.ndarray]:
        """What is drawn of other structures in this image: name -> bool [row, column]."""
        found = {name: self.mask(item, name) for name in self._folders if name != self.structure}
        return {name: mask for name, mask in found.items() if mask is not None}

    def absent(self, item: Item) -> bool:
        """True where the structure in hand was marked as not there."""
        return self.structure in item.absent

    def drawn(self, item: Item) -> bool:
        """True when this image can be learnt from: something is drawn, or the structure is marked as not there."""
        return self.absent(item) or self._mask_path(item).is_file()

    def ready(self) -> list[Item]:
        """Images that can be learnt from or measured on."""
        return [item for item in self.items if self.drawn(item)]

    def set_absent(self, item: Item, absent: bool) -> Item:
        """Say that the structure in hand is not in this image, or that it is."""
        rest = tuple(name for name in item.absent if name != self.structure)
        return self.change(item, absent=(*rest, self.structure) if absent else rest)

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
        shown = [item for item in ready if not self.absent(item)]
        return self.change((shown if len(shown) > 1 else ready)[-1], held_out=True)

    def stage(self) -> Path:
        """Lay out what is drawn as folders images/ and masks/ for `chexanatomy adapt`; returns the folder.

        Raises ChexanatomyError when there is nothing to learn, or no name for it.
        """
        from training.images import write_mask_png

        self.hold_one_out()
        ready = self.ready()
        if not self.structure:
            raise ChexanatomyError("Name the structure that you are drawing first.")
        if not any(not item.held_out and not self.absent(item) for item in ready):
            raise ChexanatomyError("Draw the structure on at least one image that is not held out.")
        staged = self.folder / "learning"
        shutil.rmtree(staged, ignore_errors=True)
        for part in ("images", "masks"):
            (staged / part).mkdir(parents=True)
        for item in ready:
            file = f"{item.name}.png"
            shutil.copyfile(self.folder / "images" / file, staged / "images" / file)
            if self._mask_path(item).is_file() and not self.absent(item):
                shutil.copyfile(self._mask_path(item), staged / "masks" / file)
            else:
                write_mask_png(np.zeros(self.image(item).pixels.shape, bool), staged / "masks" / file)
        return staged

    def new_adapter(self) -> Path:
        """A free folder name for the next adapter."""
        taken = [path.name.lstrip(".").removesuffix(".partial") for path in (self.folder / "adapters").iterdir()]
        stem = _plain(self.structure) or "adapter"
        number = 1
        while f"{stem}-{number}" in taken:
            number += 1
        return self.folder / "adapters" / f"{stem}-{number}"

    def _mask_path(self, item: Item, structure: str = "") -> Path:
        where = self._folders.get(structure or self.structure, UNNAMED)
        return self.folder / "masks" / where / f"{item.name}.png"

    def _versions(self, item: Item) -> list[Path]:
        return sorted(self._history(item).glob("[0-9]*.png"))

    def _history(self, item: Item) -> Path:
        return self.folder / "history" / self._mask_path(item).parent.name / item.name

    def _keep_version(self, item: Item, path: Path, shape: tuple[int, ...]) -> Path:
        """Copy a drawing to its earlier states; where there is none, that is a state too."""
        from training.images import write_mask_png
        from training.images.paths import replacing

        versions = self._versions(item)
        kept = self._history(item) / f"{int(versions[-1].stem) + 1 if versions else 1:06d}.png"
        if path.is_file():
            with replacing(kept) as copy:
                shutil.copyfile(path, copy)
        else:
            write_mask_png(np.zeros(shape, bool), kept)
        return kept

    def _forget_versions_like(self, item: Item, mask: np.ndarray | None) -> None:
        """Forget the newest earlier states as far as they are the one that is there now (None: nothing is drawn)."""
        from training.images import read_mask_png

        for version in reversed(self._versions(item)):
            state = read_mask_png(version)
            if state.any() if mask is None else not np.array_equal(state, mask):
                return
            version.unlink()


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:60]


def _free(stem: str, taken: Iterable[str]) -> str:
    """`stem`, with a number behind it where it is taken."""
    folded = {name.casefold() for name in taken}
    name, number = stem, 2
    while name.casefold() in folded:
        name, number = f"{stem}-{number}", number + 1
    return name


def _item(entry: dict[str, Any]) -> Item:
    spacing = entry.get("spacing")
    return Item(
        name=str(entry["name"]),
        title=str(entry.get("title") or entry["name"]),
        spacing=(float(spacing[0]), float(spacing[1])) if spacing else None,
        view=str(entry.get("view", "")),
        held_out=bool(entry.get("held_out", False)),
        absent=tuple(map(str, entry.get("absent", ()))),
    )
