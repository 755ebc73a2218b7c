"""What the fuzzers call: each target takes any bytes, and raises only where a reader breaks its promise.

A promise: damaged input is refused by a ChexanatomyError in one sentence, whatever the bytes; what is accepted has the form that
the reader's docstring states. Nothing here needs the fuzzer, so the tests replay seeds and findings without it.
"""

from __future__ import annotations

import atexit
import io
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from training.errors import BrokenDataset, ChexanatomyError, UnreadableFile
from training.plain import is_plain

_SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)

FEW_BYTES = 1 << 16
"""Longer inputs only make the fuzzer slow: every reader's structure fits into less."""


def answers(data: bytes) -> None:
    """The reader of a model's answers never raises, counts every item once, and gives only boxes and codes that exist."""
    from training.tokens.boxes import is_box
    from training.tokens.grammar import SEG_CODES, read_answer, read_view, write_answer

    needs = ("mask", "box", "name")[data[0] % 3] if data else "box"
    text = data[1:].decode("utf-8", "surrogateescape")
    found, invalid = read_answer(text, needs)  # type: ignore[arg-type]
    assert invalid >= 0
    assert len(found) + invalid >= 1
    for answer in found:
        assert answer.bins is None or is_box(answer.bins)
        assert answer.codes is None or (len(answer.codes) == 16 and all(0 <= code < SEG_CODES for code in answer.codes))
        if answer.name and answer.name.split()[0].lower() != "none":
            assert read_answer(write_answer(answer), "name") == ([answer], 0), answer
    assert read_view(text) in (None, "PA", "AP", "LATERAL", "OBLIQUE")


def cases(data: bytes) -> None:
    """A data set opens or says why not; every case that it gives can be used to the end: files, split, spacing, its own line."""
    from training.dataset import Case, Dataset

    folder = _SCRATCH / "data"
    folder.mkdir(exist_ok=True)
    (folder / "cases.jsonl").write_bytes(data)
    try:
        dataset = Dataset.open(folder)
    except BrokenDataset as error:
        assert_one_sentence(error)
        return
    for case in dataset.cases:
        assert case.split in ("train", "val", "test")
        assert Case.from_json(case.to_json()) == case
        for read in (dataset.image, dataset.masks):
            try:
                read(case)
            except ChexanatomyError as error:
                assert_one_sentence(error)


def masks(data: bytes) -> None:
    """The masks of a case are read or refused, and what is read has the size that it states."""
    import json

    from training.images import from_rle, to_rle

    try:
        code = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        mask = from_rle(code)
    except ChexanatomyError as error:
        assert_one_sentence(error)
        return
    assert mask.dtype == bool
    assert mask.ndim == 2
    assert np.array_equal(from_rle(to_rle(mask)), mask)


def radiograph(data: bytes) -> None:
    """A radiograph is read as float32 0..1 or refused."""
    from training.images import read_radiograph

    path = _SCRATCH / "chest"
    path.write_bytes(data)
    try:
        found = read_radiograph(path)
    except UnreadableFile as error:
        assert_one_sentence(error)
        return
    assert found.pixels.dtype == np.float32
    assert min(found.pixels.shape) >= 16
    assert np.isfinite(found.pixels).all()
    assert found.pixels.min() >= 0
    assert found.pixels.max() <= 1
    assert found.spacing is None or all(np.isfinite(v) and v > 0 for v in found.spacing)


def volume(data: bytes) -> None:
    """A CT or label map is read or refused; the first byte chooses the file's ending."""
    from training.images import read_any
    from training.images.types import CT

    ending = (".nii", ".nii.gz", ".nrrd", ".mha", ".dcm")[data[0] % 5] if data else ".nii"
    path = _SCRATCH / f"volume{ending}"
    path.write_bytes(data[1:])
    try:
        opened = read_any(path)
    except ChexanatomyError as error:
        assert_one_sentence(error)
        return
    finally:
        path.unlink()
    for one in opened:
        if isinstance(one, CT):
            assert one.hu.dtype == np.int16
            assert all(np.isfinite(v) for v in (*one.spacing, *one.origin))
            assert min(one.spacing) > 0


def assert_one_sentence(error: ChexanatomyError) -> None:
    """The message is one line that ends like a sentence and can be printed everywhere."""
    text = str(error)
    assert text, repr(error)
    assert text[-1] in ".", text
    assert is_plain(text), repr(text)
    assert len(text) < 1000, text


TARGETS: dict[str, Callable[[bytes], None]] = {
    "answers": answers,
    "cases": cases,
    "masks": masks,
    "radiograph": radiograph,
    "volume": volume,
}


def seeds(name: str, folder: Path) -> list[bytes]:
    """Return small good inputs of a target, for the fuzzer to start from; folder: for scratch files."""
    return {"answers": _answer_seeds, "cases": _case_seeds, "masks": _mask_seeds, "radiograph": _radiograph_seeds}.get(
        name, _volume_seeds
    )(folder)


def _answer_seeds(_: Path) -> list[bytes]:
    box, mask = b"<loc0012><loc0000><loc1023><loc0700>", b"".join(b"<seg%03d>" % i for i in range(16))
    texts = [box + mask + b" heart", box + b" heart ; none liver", b"none", b"left lung", b"<bos>PA<eos>", b""]
    return [bytes([n]) + text for n in range(3) for text in texts]


def _case_seeds(_: Path) -> list[bytes]:
    from training.dataset import Case

    case = Case(
        "a-1", "a", "PA", {"spacing": [0.4, 0.4]}, "images/a-1.png", ("heart",), ("liver",), (), "ct", 7, "0.1"
    )  # fmt: skip
    line = case.to_json().encode()
    return [line + b"\n", line + b"\n" + line.replace(b"a-1", b"a-2") + b"\n", line + b'\n{"id":"ha']


def _mask_seeds(_: Path) -> list[bytes]:
    import json

    from training.images import to_rle

    mask = np.zeros((9, 7), bool)
    mask[2:5, 1:6] = True
    return [json.dumps(to_rle(mask)).encode(), json.dumps({"size": [2, 2], "counts": [1, 2, 1]}).encode()]


def _radiograph_seeds(folder: Path) -> list[bytes]:
    from PIL import Image

    from tests.training.images.makers import compress, dicom

    ramp = np.add.outer(np.arange(16), np.arange(18)).astype(np.uint16)
    grey = (ramp * 7).astype(np.uint8)
    found = []
    for form in ("PNG", "JPEG", "TIFF", "BMP", "GIF"):
        for mode in ("L", "RGB", "P", "1"):
            out = io.BytesIO()
            image = Image.fromarray(grey)
            (image if form == "JPEG" and mode in "P1" else image.convert(mode)).save(out, form)
            found.append(out.getvalue())
    for form in ("PNG", "TIFF"):
        out = io.BytesIO()
        Image.fromarray(ramp * 1000).save(out, form)
        found.append(out.getvalue())
    for syntax in ("", "JPEGLosslessProcess14_1", "JPEG2000Lossless", "JPEGLSLossless", "RLELossless"):
        path = dicom(
            folder / "seed.dcm", ramp * 100, Modality="DX", ViewPosition="PA", PatientOrientation=["L", "F"], WindowCenter=1500,
            WindowWidth=3000, ImagerPixelSpacing=[0.2, 0.2], PhotometricInterpretation="MONOCHROME1",
        )  # fmt: skip
        if syntax:
            compress(path, syntax)
        found.append(path.read_bytes())
    return found


def _volume_seeds(folder: Path) -> list[bytes]:
    from tests.training.images.makers import ct_series, write_itk

    matrix = np.diag([2.0, 1.5, 3.0, 1.0])
    array = np.linspace(-1000, 800, 6 * 7 * 8).reshape(6, 7, 8).astype(np.int16)
    found = []
    for number, ending in enumerate((".nii", ".nii.gz", ".nrrd", ".mha")):
        for values in (array, (array > 0).astype(np.uint8)):
            found.append(bytes([number]) + write_itk(folder / f"seed{ending}", values, matrix).read_bytes())
    return [*found, b"\x04" + ct_series(folder / "ct", 1, size=(8, 8))[0].read_bytes()]
