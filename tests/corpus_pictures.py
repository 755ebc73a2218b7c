"""Broken and odd pictures of the corpus."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.corpus import Entry

RAMP = np.add.outer(np.arange(24) / 24, np.arange(32)) / 32


def _saved(ending: str, values: np.ndarray, mode: str | None = None, **options: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from PIL import Image

        image = Image.fromarray(values)
        (image.convert(mode) if mode else image).save(folder / f"chest.{ending}", **options)
        return folder / f"chest.{ending}"

    return make


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(columns: int, rows: int, data: bytes, bits: int = 8, interlaced: bool = False) -> bytes:
    """A grey PNG file of packed scan lines."""
    header = struct.pack(">IIBBBBB", columns, rows, bits, 0, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def interlaced() -> bytes:
    """RAMP as an interlaced PNG (Adam7)."""
    grey = np.rint(255 * RAMP).astype(np.uint8)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    lines = [b"\0" + row.tobytes() for top, left, down, right in passes for row in grey[top::down, left::right]]
    return png(32, 24, b"".join(lines), interlaced=True)


def bomb(form: str) -> bytes:
    """The head of a picture of 60,000 x 60,000 pixels."""
    side = 60_000
    if form == "png":
        return png(side, side, bytes(1000))
    if form == "bmp":
        return b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 0, 0, 0, 0, 0, 0)
    if form == "gif":
        return (
            b"GIF89a" + struct.pack("<HHBBB", side, side, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\2\0;"
        )
    tags = [(256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200), (278, 4, side), (279, 4, 100)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(300)


def _bytes(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _cut(ending: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = _saved(ending, np.random.default_rng(0).integers(0, 255, (100, 100)).astype(np.uint8))(folder)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return make


_GREY = np.rint(255 * RAMP).astype(np.uint8)
_COLOURS = np.random.default_rng(0).integers(0, 255, (80, 90, 3)).astype(np.uint8)

ENTRIES = [
    Entry("PNG palette", "radiograph", _saved("png", _GREY, "P")),
    Entry("PNG alpha", "radiograph", _saved("png", _GREY, "LA")),
    Entry("PNG colour and alpha", "radiograph", _saved("png", _GREY, "RGBA")),
    Entry("PNG 16 bit", "radiograph", _saved("png", np.rint(65535 * RAMP).astype(np.uint16))),
    Entry("PNG 1 bit", "radiograph", _saved("png", np.random.default_rng(0).random((24, 32)) > 0.5)),
    Entry("PNG interlaced", "radiograph", _bytes("chest.png", interlaced())),
    Entry("PNG named JPEG", "radiograph", _bytes("chest.jpg", interlaced())),
    Entry("TIFF of floats", "radiograph", _saved("tif", (3000 * RAMP - 500).astype(np.float32))),
    Entry("TIFF with NaN", "radiograph", _saved("tif", np.where(RAMP > 0.9, np.nan, RAMP).astype(np.float32))),
    Entry("PNG bomb", "radiograph", _bytes("bomb.png", bomb("png")), "100 megapixels"),
    Entry("TIFF bomb", "radiograph", _bytes("bomb.tif", bomb("tif")), "100 megapixels"),
    Entry("BMP bomb", "radiograph", _bytes("bomb.bmp", bomb("bmp")), "100 megapixels"),
    Entry("GIF bomb", "radiograph", _bytes("bomb.gif", bomb("gif")), "100 megapixels"),
    Entry("PNG cut short", "radiograph", _cut("png"), "damaged or incomplete"),
    Entry("JPEG cut short", "radiograph", _cut("jpg"), "damaged or incomplete"),
    Entry("TIFF cut short", "radiograph", _cut("tif"), "damaged or incomplete"),
    Entry("PNG of one value", "radiograph", _saved("png", np.full((40, 40), 7, np.uint8)), "same value"),
    Entry("PNG too small", "radiograph", _saved("png", _GREY[:8, :9]), "9 x 8 pixels"),
    Entry("colour photograph", "radiograph", _saved("png", _COLOURS), "colour photograph"),
    Entry("text as a picture", "radiograph", _bytes("chest.png", b"well"), "damaged or not what its name says"),
]
