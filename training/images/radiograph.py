"""A radiograph from PNG, JPEG, TIFF or DICOM: grey values 0..1, bone bright."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import UnreadableFile
from training.images.paths import READING_ERRORS, damaged, existing, kind, not_this, stem
from training.images.turning import AS_STORED, Turn
from training.images.types import Radiograph

MOST_MEGAPIXELS = 100
"""More pixels than any detector has: a file that claims them is refused before it is unpacked."""

FEWEST_PIXELS = 16
"""A picture with a shorter side shows no chest."""

FULL_SCALE = 65535
"""White in a 16-bit picture. Detectors have 10 to 14 bits, and many files keep those in 16 without spreading them."""

RECONSTRUCTED = "digitally reconstructed radiograph"
"""What files of ours say of those that were reckoned from a CT: the text "Source" of a PNG, DICOM's Derivation Description."""

WRITTEN_BY = "napari-chexanatomy"
"""The PNG text "Software" of radiographs that this package wrote."""

_PHOTOMETRIC, _ORIENTATION = 262, 274
"""TIFF's and EXIF's numbers for what zero means and how to turn the picture."""

COLOURED_PIXEL = 0.1
"""A pixel counts as coloured when a channel is this far (0..1) from what its brightness predicts."""

MOST_COLOURED = 0.15
"""A picture with a larger part of coloured pixels is a colour photograph; markings drawn into a radiograph take less."""

_WANTED = "give a radiograph as PNG, JPEG, TIFF or DICOM (CR, DX, RG)"


def read_radiograph(path: str | os.PathLike[str]) -> Radiograph:
    """Read a radiograph: PNG, JPEG, TIFF (8 or 16 bit, grey, palette or RGB) or DICOM CR, DX, RG, RF, XA.

    A PNG with the JSON file that write_radiograph puts beside it has its pixel pitch and view from there.

    DICOM values go through the modality LUT and the VOI LUT or window, MONOCHROME1 is inverted, spacing and view are taken over.
    Raises UnreadableFile for a CT slice, a colour photograph, a damaged or oversized file.
    """
    source = existing(path)
    match kind(source):
        case "picture":
            from training.images.sidecar import with_sidecar

            return with_sidecar(_from_picture(source), source)
        case "dicom":
            from training.images.dicom_radiograph import from_dicom

            return from_dicom(source)
        case "nifti" | "nrrd" | "meta":
            raise not_this(source, f"{_WANTED}, or open it as a CT")
        case _:
            raise not_this(source, _WANTED)


def shape_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (rows, columns) of a radiograph file, of a PNG by its head alone. Raises UnreadableFile."""
    from PIL import Image

    with contextlib.suppress(*READING_ERRORS, Image.DecompressionBombError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            if image.format == "PNG":
                return image.height, image.width
    rows, columns = read_radiograph(path).pixels.shape
    return rows, columns


def _from_picture(path: Path) -> Radiograph:
    values, notes = read_picture(path)
    dtype = values.dtype
    if values.ndim == 3:
        values, note = grey_of(values, path)
        notes = (*notes, note)
    ours, reconstructed = _written_by_us(path)
    pixels, more = _scaled(values, dtype, path, ours)
    return Radiograph(pixels, name=stem(path), notes=(*notes, *more), reconstructed=reconstructed)


def read_picture(path: Path) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return a picture file's values [row, column] or [row, column, rgb], and notes. Raises UnreadableFile."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                check_size(path, *image.size)
                frames = getattr(image, "n_frames", 1)
                if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV", "RGBA", "RGBX", "RGBa"):
                    values = np.asarray(image.convert("RGBA" if image.mode in ("P", "PA") else "RGB"))[..., :3]
                elif image.mode in ("LA", "La", "1"):
                    values = np.asarray(image.convert("L"))
                else:
                    values = np.asarray(image)
                    if image.mode.startswith("I;16") and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:
                        values = full_scale(values) - values  # white is zero; Pillow turns it round for 8 bits alone
                stated = image.getexif().get(_ORIENTATION, 1) if image.format != "TIFF" else 1  # Pillow has turned a TIFF
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except (*READING_ERRORS, MemoryError) as error:
        raise damaged(path, "a picture") from error
    notes = [f"{path.name} holds {frames} pages; the first was taken."] if frames > 1 else []
    if stated not in (0, 1):
        notes.append(
            f"{path.name} asks viewers to turn or mirror it (EXIF orientation {stated}) and was read as it is stored: check left "
            "and right, and save it upright if it does not stand."
        )
    return values, tuple(notes)


def check_size(path: Path, columns: int, rows: int) -> None:
    """Raise UnreadableFile for a picture that is too large to unpack or too small to show a chest."""
    if rows * columns > MOST_MEGAPIXELS * 1_000_000:
        raise _too_large(path)
    if min(rows, columns) < FEWEST_PIXELS:
        raise UnreadableFile(f"{path.name} is {columns} x {rows} pixels; a radiograph has at least {FEWEST_PIXELS} on each side.")


def _too_large(path: Path) -> UnreadableFile:
    return UnreadableFile(
        f"{path.name} claims more than {MOST_MEGAPIXELS} megapixels, more than any radiograph has; give a smaller copy."
    )


def grey_of(colours: np.ndarray, path: Path) -> tuple[np.ndarray, str]:
    """Return float32 [row, column], in the same range, of a picture [row, column, rgb]. Raises UnreadableFile for a photograph.

    Tinted film is accepted: its channels all follow from the brightness.
    """
    full = float(np.iinfo(colours.dtype).max) if colours.dtype.kind == "u" else float(max(colours.max(), 1))
    step = max(1, int(np.sqrt(colours.shape[0] * colours.shape[1] / 250_000)))
    sample = colours[::step, ::step, :3].reshape(-1, 3).astype(np.float64) / full
    brightness = sample.mean(axis=1)
    bins = np.minimum((brightness * 64).astype(int), 63)
    count = np.maximum(np.bincount(bins, minlength=64), 1)
    off = np.zeros(len(sample))
    for channel in range(3):
        usual = np.bincount(bins, sample[:, channel], minlength=64) / count
        off = np.maximum(off, np.abs(sample[:, channel] - usual[bins]))
    if (off > COLOURED_PIXEL).mean() > MOST_COLOURED:
        raise UnreadableFile(f"{path.name} is a colour photograph, not a radiograph; {_WANTED}.")
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return colours[..., :3].astype(np.float32) @ weights, "Colours were turned into grey."


def _scaled(values: np.ndarray, dtype: np.dtype, path: Path, ours: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return float32 0..1 of values that the file stores as `dtype`; whole numbers by the range of their type."""
    values = without_gaps(values)
    low, high = float(values.min()), float(values.max())
    if ours:
        return values.astype(np.float32) / np.float32(FULL_SCALE), ()
    if low == high:
        raise UnreadableFile(f"Every pixel of {path.name} has the same value; it shows nothing.")
    if dtype.kind == "f" and low >= 0 and high <= 1:
        return values.astype(np.float32), ()
    if dtype == np.uint8 or dtype.kind == "b":
        return values.astype(np.float32) / np.float32(255 if dtype == np.uint8 else 1), ()
    if dtype.kind in "iu" and low >= 0 and high <= FULL_SCALE:
        full = full_scale(values)
        notes = (f"Its 16-bit values go only to {high:g} and were read as 0 to {full}.",) if full < FULL_SCALE else ()
        return values.astype(np.float32) / np.float32(full), notes
    pixels = ((values.astype(np.float64) - low) / (high - low)).astype(np.float32)
    return pixels, (f"Its values from {low:g} to {high:g} were spread over 0 to 1.",)


def without_gaps(values: np.ndarray) -> np.ndarray:
    """Values with the lowest finite one in place of those that are not finite."""
    finite = np.isfinite(values)
    return values if finite.all() else np.where(finite, values, values[finite].min() if finite.any() else 0)


def full_scale(values: np.ndarray) -> int:
    """The largest value of the detector that such values, whole numbers up to 65535, may come from: 8, 10, 12, 14 or 16 bits."""
    return next(2**bits - 1 for bits in (8, 10, 12, 14, 16) if values.max() <= 2**bits - 1)


def _written_by_us(path: Path) -> tuple[bool, bool]:
    """Whether a picture is a 16-bit PNG that this package wrote, which uses the full scale, however dark it is; and whether it
    says that it was reckoned from a CT."""
    from PIL import Image

    with Image.open(path) as image:
        ours = image.info.get("Software") == WRITTEN_BY and image.mode.startswith("I")
        return ours, image.info.get("Source") == RECONSTRUCTED


def first_frame(values: np.ndarray, frames: int) -> np.ndarray:
    """The first of several frames."""
    return values[0] if frames > 1 else values


def oriented(orientation: Any) -> tuple[Turn, tuple[str, ...]]:
    """The turn after which rows go to the feet and columns to the patient's left, by DICOM's PatientOrientation, and a note.

    orientation: where the rows and where the columns point, such as ("L", "F"); an order that is not known changes nothing.
    """
    letters = [str(part).strip().upper()[:1] for part in (orientation or ())]
    if len(letters) != 2 or not all(letters):
        return AS_STORED, ()
    across, down = letters
    transposed = across in "HF" and down not in "HF"
    if transposed:
        across, down = down, across
    turn = Turn(transposed, down == "H", across == "R")
    said = ("turned upright", "turned feet down", "mirrored to patient right on image left")
    changed = [text for text, done in zip(said, (turn.transposed, turn.flipped, turn.mirrored), strict=True) if done]
    return turn, (f"The image was {' and '.join(changed)}, by its stated orientation.",) if changed else ()
