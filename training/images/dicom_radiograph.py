"""A radiograph from DICOM: modality LUT, VOI LUT or window, polarity, pixel spacing, view and orientation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.errors import UnreadableFile
from training.images.dicom_ct import decoded
from training.images.dicom_geometry import geometry_in
from training.images.dicom_headers import believable, dicom_errors, quiet, read_dataset, word
from training.images.identity import burned_in_note, shown_name
from training.images.paths import damaged
from training.images.radiograph import RECONSTRUCTED, check_size, first_frame, grey_of, oriented, without_gaps
from training.images.turning import AS_STORED
from training.images.types import Radiograph

MODALITIES = ("CR", "DX", "RG", "RF", "XA", "DR", "PX")
"""Modalities whose images are radiographs."""

CAPTURES = ("OT", "SC", "")
"""Modalities under which scanned films and screenshots are kept."""

_VIEWS = {"PA": "PA", "AP": "AP", "LL": "LATERAL", "RL": "LATERAL", "LAT": "LATERAL", "LATERAL": "LATERAL", "LLD": "", "RLD": ""}


def from_dicom(path: Path) -> Radiograph:
    """Read a DICOM radiograph. Raises UnreadableFile for other modalities, colour photographs and damaged files."""
    with quiet():
        try:
            return _read(read_dataset(path), path)
        except dicom_errors() as error:
            raise damaged(path, "a DICOM radiograph") from error


def _read(dataset: Any, path: Path) -> Radiograph:
    modality = word(dataset, "Modality", 16).upper()
    if modality == "CT":
        raise UnreadableFile(f"{path.name} is a CT slice, not a radiograph; open the folder of its series as a CT.")
    if modality not in MODALITIES + CAPTURES:
        raise UnreadableFile(f"{path.name} is a DICOM file of modality {modality}, not a radiograph; give a CR, DX or RG image.")
    if "Rows" not in dataset or "Columns" not in dataset:
        raise UnreadableFile(f"{path.name} is a DICOM file without an image; give a CR, DX or RG image.")
    check_size(path, int(dataset.Columns), int(dataset.Rows))
    frames = int(dataset.get("NumberOfFrames", None) or 1)
    check_size(path, int(dataset.Columns), int(dataset.Rows) * frames)
    notes: list[str] = []
    if modality in CAPTURES:
        notes.append("The file does not say that it is a radiograph (a screenshot or scanned film).")
    notes += filter(None, [burned_in_note(dataset, capture=modality in CAPTURES)])
    if frames > 1:
        notes.append(f"The file holds {frames} frames; the first was taken.")
    values = first_frame(decoded(path, dataset), frames)
    if word(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        values = apply_color_lut(values, dataset)
    if values.ndim == 3:
        values, note = grey_of(values, path)
        notes.append(note)
    if values.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise damaged(path, "a DICOM radiograph")
    stored = values
    pixels, note = _display(values, dataset)
    notes.extend([note] if note else [])
    if float(pixels.max()) == float(pixels.min()):
        raise UnreadableFile(f"Every pixel of {path.name} has the same value; it shows nothing.")
    if word(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        pixels = 1 - pixels
    padding = dataset.get("PixelPaddingValue", None)
    if padding is not None and (stored == padding).any():
        pixels[stored == padding] = 0
    pose = geometry_in(dataset)
    # A radiograph of ours lies as its pose says, rolled ones too.
    turn, turned = oriented(dataset.get("PatientOrientation", None)) if pose is None else (AS_STORED, ())
    notes.extend(turned)
    spacing, note = _spacing(dataset) if pose is None else ((float(pose["spacing"][0]), float(pose["spacing"][1])), "")
    notes.extend([note] if note else [])
    if spacing is not None and turn.transposed:
        spacing = spacing[::-1]
    view = _VIEWS.get(word(dataset, "ViewPosition").upper(), "")
    name = shown_name(path, dataset)
    reconstructed = pose is not None or word(dataset, "DerivationDescription") == RECONSTRUCTED
    return Radiograph(turn(pixels).astype(np.float32), spacing, view, name, tuple(notes), reconstructed, turn)


def _display(values: np.ndarray, dataset: Any) -> tuple[np.ndarray, str]:
    """Return float32 0..1 through the modality LUT and the VOI LUT or window that the file asks for, and a note."""
    from pydicom.pixels import apply_modality_lut

    real = without_gaps(np.asarray(apply_modality_lut(values, dataset), np.float64))
    shown = _by_lut(real, dataset)
    if shown is None:
        shown = _by_window(real, dataset)
    if shown is not None and shown.max() - shown.min() > 0.02:
        return shown.astype(np.float32), ""
    note = "The file states no display window" if shown is None else "The file's display window shows nothing"
    low, high = (float(v) for v in np.percentile(real, (0.5, 99.5)))
    if high <= low:
        low, high = float(real.min()), float(real.max())
    return np.clip((real - low) / max(high - low, 1e-9), 0, 1).astype(np.float32), f"{note}; its values were spread over 0 to 1."


def _by_lut(real: np.ndarray, dataset: Any) -> np.ndarray | None:
    tables = dataset.get("VOILUTSequence", None)
    if not tables or tables[0].get("LUTDescriptor", None) is None or tables[0].get("LUTData", None) is None:
        return None
    count, first, bits = (int(v) for v in tables[0].LUTDescriptor)
    data = tables[0].LUTData
    order = ">" if dataset.original_encoding[1] is False else "<"
    table = np.frombuffer(data, f"{order}u2" if bits > 8 else "u1") if isinstance(data, bytes) else np.asarray(data)
    table = table[: count or 65536].astype(np.float64)
    if first > 32767 and real.min() < 0:
        first -= 65536
    index = np.clip(np.rint(real) - first, 0, len(table) - 1).astype(np.int64)
    # Some makers state 16 bits over a table of 12: the table itself tells its range.
    full = 2 ** max(1, int(np.ceil(np.log2(table.max() + 1)))) - 1 if len(table) and table.max() > 0 else 1
    return table[index] / full


def _by_window(real: np.ndarray, dataset: Any) -> np.ndarray | None:
    """Window by the formulas of DICOM PS3.3 C.11.2.1.2, to 0..1."""
    centre, width = _first_number(dataset, "WindowCenter"), _first_number(dataset, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    function = (word(dataset, "VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (real - centre) / width, -50, 50)))
    if function == "LINEAR" and width > 1:
        return np.clip((real - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    return np.clip((real - centre) / width + 0.5, 0, 1)


def _first_number(dataset: Any, keyword: str) -> float | None:
    value = dataset.get(keyword, None)
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (str, int, float)) else value[0] if hasattr(value, "__getitem__") else value)


def _spacing(dataset: Any) -> tuple[tuple[float, float] | None, str]:
    """Pixel pitch (row, column) [mm], at the detector where stated, None where it is not known; and a note."""
    note = ""
    for keyword in ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing"):
        value = dataset.get(keyword, None)
        if value is None or len(value) != 2:
            continue
        row, column = float(value[0]), float(value[1])
        if believable((row, column)):
            return (row, column), ""
        note = note or f"The file states a pixel spacing of {row:g} x {column:g} mm, which no detector has; it was not used."
    ratio = dataset.get("PixelAspectRatio", None)
    if not note and ratio is not None and len(ratio) == 2 and int(ratio[0]) != int(ratio[1]):
        note = f"The file states pixels that are not square ({ratio[0]} to {ratio[1]}); they were read as if they were."
    return None, note
