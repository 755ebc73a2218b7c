"""`predict`: masks, boxes and tokens for named structures in radiographs, measurements, and agreement with references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from training.cli.console import Command, Lungs, listed, structure_key
from training.cli.exchange import write_segmentation
from training.errors import ChexanatomyError


@dataclass(frozen=True, kw_only=True)
class Predict(Command):
    """Find structures in radiographs by name.

    Writes DIR/<image stem>/<structure>.png (0 or 255, on the pixels of the image's file; all 0 for a structure that is not
    there), DIR/predictions.json and DIR/findings.csv. A file that cannot be read is reported, the others are still done.

    Example: chexanatomy predict chest.png --structures lung_left,heart --out found
    """

    images: Positional[tuple[Path, ...]]
    """Radiographs (DICOM, PNG, JPEG, TIFF), or folders of them."""
    structures: str = ""
    """Names, separated by commas: keys, display names or synonyms; an adapter's own name as it was given. Needed without
    --measure."""
    out: Path
    """Folder for the results."""
    model: str = "embedded"
    """The embedded model, a folder, a hub id, an adapter, or BASE+ADAPTER."""
    codebook: Path | None = None
    """Mask codebook for a model that brings none, such as vae-oid.npz."""
    batch: int = 32
    """Structures answered at once."""
    also: tuple[Literal["coco", "dicom", "dicom-attached"], ...] = ()
    """Further forms: `coco` writes DIR/coco.json for all images; `dicom` writes radiograph.dcm and masks.dcm (DICOM SEG) for each
    image, under a made-up patient and study; `dicom-attached` writes masks.dcm under the DICOM image's own patient and study, so
    that the result names the patient."""
    lungs: Lungs = "drawn"
    """What lung_left, lung_right and lungs mean on a radiograph taken of a person: `drawn`, the lung as readers outline it, with
    the part behind the heart; `projected`, the shadow that the lung of a CT casts, down behind the diaphragm. On pictures that
    this program made from a CT they are always projected, as their masks are."""
    accurate: bool = False
    """Average five slightly moved looks, in four to seven times the time; also writes
    DIR/<image stem>/<structure>.probability.png."""
    measure: bool = False
    """Find the heart and the lungs as well, and write cardiothoracic ratio and lung areas to DIR/measurements.csv."""
    references: Path | None = None
    """Reference masks to compare with: a folder per image stem with one <structure>.png each, or, for one image, the folder of
    its masks. Writes Dice, IoU and HD95 to DIR/agreement.csv and DIR/<image stem>/<structure>.overlap.png."""

    def run(self) -> int:
        """Predict image by image; what is finished is on disk."""
        from training.batch import Wishes, answer_all, image_files, sources_of
        from training.evaluate.measurements import needed
        from training.model import load
        from training.results import masks_of

        asked = listed(self.structures) if self.structures or not self.measure else []
        names = list(dict.fromkeys(structure_key(name) for name in asked))
        if self.references is not None and not self.references.is_dir():
            raise ChexanatomyError(f"{self.references} is no folder of reference masks.")
        if {"dicom", "dicom-attached"} <= set(self.also):
            raise ChexanatomyError("Both dicom and dicom-attached write masks.dcm; ask for one of them.")
        sources = sources_of(image_files(self.images, self.warn))
        predictor = load(self.model, codebook=self.codebook, say=self.warn)
        if self.measure:
            names = list(dict.fromkeys([*names, *needed(predictor.card.get("structures", ()))]))
        self.warn_of_untaught(self.model, predictor.untaught(names))
        wishes = Wishes(names, self.batch, self.accurate, self.measure, self.references, self.lungs == "projected")
        done = found = failed = 0
        with (
            self.reporting() as progress,
            self._records() as records,
            closing(answer_all(predictor, sources, wishes, self.out, self.model, progress)) as answers,
        ):
            for answered in answers:
                if answered.problem and len(sources) == 1:
                    raise ChexanatomyError(answered.problem)
                if answered.problem:
                    failed += 1
                    self.warn(f"{Path(answered.source.name).name} was left out: {answered.problem}")
                    continue
                done += 1
                for note in answered.notes:
                    if "burned" in note or "orientation" in note:
                        self.warn(f"{Path(answered.source.name).name}: {note}")
                found += sum(finding.present for finding in answered.findings)
                records.append(answered.record)
                if "dicom" in self.also or "dicom-attached" in self.also:
                    masks = masks_of(answered.shape, answered.findings, Path(answered.source.name).name)
                    folder, attach = self.out / answered.source.folder, "dicom-attached" in self.also
                    try:
                        write_segmentation(
                            folder, answered.source.path or Path(answered.source.name), masks.masks, self.model, attach
                        )
                    except ChexanatomyError as problem:
                        failed += 1
                        self.warn(f"{masks.image} has no masks.dcm: {problem}")
                if answered.measured is not None and answered.measured.problem:
                    self.warn(f"{Path(answered.source.name).name}: {answered.measured.problem}")
        self.say(f"{self.out}: {found} structures found in {done} of {len(sources)} images. Research use, not for diagnosis.")
        return 2 if failed else 0

    @contextmanager
    def _records(self) -> Iterator[list[Mapping[str, Any]]]:
        """Give a list for the records of predictions.json; those that are in it at the end, or when it was stopped, go into
        coco.json if that was asked for."""
        from training.images.coco import predicted, write_coco

        records: list[Mapping[str, Any]] = []
        try:
            yield records
        finally:
            if "coco" in self.also and records:
                write_coco(map(predicted, records), self.out / "coco.json")
