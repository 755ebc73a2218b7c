"""`predict`: masks, boxes and tokens for named structures in radiographs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from training.cli.console import Command, listed, structure_key
from training.errors import BrokenModel, Cancelled, ChexanatomyError, UnknownStructure
from training.evaluate.sources import IMAGE_SUFFIXES
from training.filenames import file_stem
from training.progress import report


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Find structures in radiographs by name.

    Writes DIR/<image stem>/<structure>.png (0 or 255, the image's size; all 0 for a structure that is not there) and
    DIR/predictions.json. A file that cannot be read is reported, the others are still done.

    Example: chexanatomy predict chest.png --structures lung_left,heart --out found
    """

    images: Positional[tuple[Path, ...]]
    """Radiographs (DICOM, PNG, JPEG, TIFF), or folders of them."""
    structures: str
    """Names, separated by commas: keys, display names or synonyms; an adapter's own name as it was given."""
    out: Path
    """Folder for the results."""
    model: str = "embedded"
    """The embedded model, a folder, a hub id, an adapter, or BASE+ADAPTER."""
    codebook: Path | None = None
    """Mask codebook for a model that brings none, such as vae-oid.npz."""
    batch: int = 32
    """Structures answered at once."""
    accurate: bool = False
    """Average five slightly moved looks, in five times the time; writes DIR/<image stem>/<structure>.probability.png as well."""

    def run(self) -> int:
        """Predict image by image; what is finished is on disk."""
        from training.model import load
        from training.results import write_json

        names = [structure_key(name) for name in listed(self.structures)]
        files = image_files(self.images)
        folders = distinct_stems(files)
        predictor = load(self.model, codebook=self.codebook)
        records: list[dict[str, Any]] = []
        failed = 0
        with self.reporting() as progress:
            for number, (path, folder) in enumerate(zip(files, folders, strict=True)):
                report(progress, number, len(files), path.name)
                try:
                    records.append(self._one(predictor, path, folder, names))
                except (Cancelled, UnknownStructure, BrokenModel):
                    raise
                except (ChexanatomyError, OSError) as problem:
                    if len(files) == 1:
                        raise
                    failed += 1
                    self.warn(f"{path.name} was left out: {problem}")
                else:
                    write_json(self.out / "predictions.json", records)
            report(progress, len(files), len(files), "done")
        found = sum(f["present"] for r in records for f in r["findings"])
        self.say(
            f"{self.out}: {found} structures found in {len(records)} of {len(files)} images. Research use, not for diagnosis."
        )
        return 2 if failed else 0

    def _one(self, predictor: Any, path: Path, folder: str, names: Sequence[str]) -> dict[str, Any]:
        from training.images import read_radiograph
        from training.results import write_findings

        radiograph = read_radiograph(path)
        findings = predictor.segment(radiograph, names, batch=self.batch, accurate=self.accurate)
        record = write_findings(self.out, folder, str(path), radiograph, findings, self.model)
        if self.accurate:
            from PIL import Image

            for finding in findings:
                grey = Image.fromarray((finding.probability * 255).round().astype("uint8"))
                grey.save(self.out / folder / f"{file_stem(finding.structure)}.probability.png")
        return record


def image_files(given: Sequence[Path]) -> list[Path]:
    """Return the files to read, each once, folders opened. Raises ChexanatomyError when there is none."""
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            files += sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))
        else:
            files.append(path)
    unique = list({path.resolve(): path for path in files}.values())
    if not unique:
        raise ChexanatomyError(f"There is no radiograph to read; give files or folders of {', '.join(IMAGE_SUFFIXES)}.")
    return unique


def distinct_stems(files: Sequence[Path]) -> list[str]:
    """Return one folder name per file: its stem, with -2, -3, ... added where another file has it already."""
    stems = [path.stem for path in files]
    taken: set[str] = set()
    names = []
    for stem in stems:
        name, number = stem, 2
        while name.casefold() in taken or (name != stem and name in stems):
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.casefold())
        names.append(name)
    return names
