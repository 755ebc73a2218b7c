"""Commands that hand data to other programs and take it from them: export, convert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from training.cli.console import Command
from training.errors import ChexanatomyError

if TYPE_CHECKING:
    from training.images import MaskSet


@dataclass(frozen=True, kw_only=True)
class Export(Command):
    """Write a data set in a form that other programs read, or read one.

    `folders` is the layout of the method's reference code, one folder per case with ct.png and <structure>.png, and beside them
    case.json, which names its subject; `webdataset` is a series of tar shards for clusters; `coco` is a folder of images with
    annotations.json; `dicom` one folder per case with radiograph.dcm (DX) and masks.dcm (SEG), under made-up patients. `dataset`
    turns a folder in the reference layout into a data set; a case without case.json is a subject of its own, taken of a person.
    What was rejected in a review is left out. An interrupted export goes on where it stopped.

    Example: chexanatomy export data --form webdataset --out shards
    """

    dataset: Positional[Path]
    """Data set folder; for the form `dataset` a folder of case folders."""
    out: Path
    """Folder for the result."""
    form: Literal["folders", "webdataset", "coco", "dicom", "dataset"] = "folders"
    """Which form to write."""
    cases_per_shard: int = 500
    """Cases in one tar file."""

    def run(self) -> int:
        """Open and write."""
        from training.dataset import (
            Dataset,
            export_coco,
            export_dicom,
            export_folders,
            export_webdataset,
            import_folders,
        )

        with self.reporting() as progress:
            match self.form:
                case "dataset":
                    cases = len(import_folders(self.dataset, self.out, progress).cases)
                case "folders":
                    cases = export_folders(Dataset.open(self.dataset), self.out, progress)
                case "coco":
                    cases = export_coco(Dataset.open(self.dataset), self.out, progress)
                case "dicom":
                    cases = export_dicom(Dataset.open(self.dataset), self.out, progress)
                case "webdataset":
                    cases = export_webdataset(Dataset.open(self.dataset), self.out, self.cases_per_shard, progress)
        self.say(f"{self.out}: {cases} cases")
        return 0


@dataclass(frozen=True, kw_only=True)
class Convert(Command):
    """Turn masks from one exchange form into another: COCO JSON, a folder of PNG, DICOM SEG.

    The source may also be the predictions.json of `predict` or the folder that `render` wrote. DICOM SEG needs the radiograph
    that the masks lie on; it is filed under a made-up patient and study, with the radiograph beside it, unless --attach is given.

    Example: chexanatomy convert found/predictions.json --form coco --out masks.json
    """

    masks: Positional[Path]
    """COCO JSON, predictions.json, folder of PNG, or DICOM SEG."""
    out: Path
    """File for coco; folder for png and dicom (a folder for each image where there are several)."""
    form: Literal["coco", "png", "dicom"]
    """What to write."""
    image: Path | None = None
    """The radiograph that the masks lie on; for several images the folder that holds them by name."""
    attach: bool = False
    """For dicom: file masks.dcm under the patient and study of the DICOM image itself. The result then names the patient."""

    def run(self) -> int:
        """Read and write."""
        from training.images import read_masks, read_radiograph, write_coco, write_mask_folder
        from training.images.paths import existing

        if self.image is not None:
            existing(self.image)
        sets = read_masks(self.masks)
        if not any(one.masks for one in sets):
            raise ChexanatomyError(f"There is no mask in {self.masks.name}.")
        for note in dict.fromkeys(note for one in sets for note in one.notes):
            self.say(note)
        if self.form == "coco":
            count = write_coco([self._named(one, sets) for one in sets], self.out)
            self.say(f"{self.out}: {count} masks on {len(sets)} images")
            return 0
        folders = _folders(self.out, [one.image for one in sets])
        images = [self._image(one, sets) for one in sets] if self.form == "dicom" else []
        for number, one in enumerate(sets):
            if self.form == "png":
                write_mask_folder(one.on_stored().masks, folders[number])
            elif one.masks:
                masks = one.on_read(read_radiograph(images[number]).turn).masks
                write_segmentation(folders[number], images[number], masks, attach=self.attach)
        self.say(f"{self.out}: {sum(len(one.masks) for one in sets)} masks of {len(sets)} images")
        return 0

    def _named(self, one: MaskSet, sets: Sequence[MaskSet]) -> MaskSet:
        from training.images.identity import neutral

        if self.image is None or self.image.is_dir() or len(sets) > 1:
            return one
        return replace(one, image=neutral(self.image).name)

    def _image(self, one: MaskSet, sets: Sequence[MaskSet]) -> Path:
        if self.image is None:
            raise ChexanatomyError("DICOM SEG refers to the radiograph that the masks lie on: add --image.")
        if not self.image.is_dir():
            if len(sets) > 1:
                raise ChexanatomyError(f"The masks lie on {len(sets)} images: give the folder of these images as --image.")
            return self.image
        found = self.image / Path(one.image).name
        if not one.image or not found.is_file():
            raise ChexanatomyError(
                f"There is no {one.image or 'image name'} in {self.image}: name the radiograph itself as --image."
            )
        return found


def write_segmentation(out: Path, image: Path, masks: Any, made_by: str = "", attach: bool = False) -> None:
    """Write masks.dcm for the masks on a radiograph file, filed under its own patient (attach) or with a stand-in beside it.

    Raises ChexanatomyError when attach is asked for on a file that is no DICOM.
    """
    from training.images import read_radiograph, write_masks_dicom
    from training.images.dicom_headers import quiet, read_dataset
    from training.images.dicom_write import owner_of
    from training.images.paths import existing, kind
    from training.results import write_dicom_pair

    if not attach:
        radiograph = read_radiograph(image)
        write_dicom_pair(out, radiograph, masks, owner_of(image), made_by)
        return
    if kind(existing(image)) != "dicom":
        raise ChexanatomyError(f"{image.name} is no DICOM file: masks can only be attached to one; leave the attaching out.")
    read_radiograph(image)
    with quiet():
        header = read_dataset(image)
    write_masks_dicom(masks, out / "masks.dcm", header, made_by)


def _folders(out: Path, images: Sequence[str]) -> list[Path]:
    from training.batch import distinct_stems
    from training.filenames import file_stem

    if len(images) == 1:
        return [out]
    return [out / stem for stem in distinct_stems([Path(file_stem(Path(image).name or "image")) for image in images])]
