"""Carry decoded data sets to a machine that has a GPU and little else: about 23 kB a radiograph with the masks of 85 structures.

    python tools/carry_records.py pack --size 320 --cache cache --out packs DATASET...
    python tools/carry_records.py unpack --data data --cache cache PACK...

What is unpacked trains by the usual command with `--set cache=... cache_size=...`, on all structures and with as many held-out
images as by default; the data sets have their cases there and no pictures. Masks, boxes and outermost points are exact, pictures
are WebP of quality 90 in 8 bits: for training, not for measuring.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import lzma
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from training.anatomy import trainable
from training.errors import BrokenDataset
from training.fit import PretrainConfig
from training.fit.pretraining import held_out_records
from training.fit.records import KEPT, MADE_AS, load_records

CHUNK = 160
QUALITY = 90
CARRIED = ("cases.jsonl", MADE_AS)


def pack(datasets: list[Path], size: int, cache: Path, out: Path, workers: int) -> None:
    """Decode what a run looks at, into `cache`, and write it small: out/DATASET/KEY.NUMBER.npz.xz."""
    cache.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        for folder in datasets:
            target = out / folder.name
            target.mkdir(parents=True, exist_ok=True)
            for file in (folder / name for name in CARRIED if (folder / name).exists()):
                (target / f"{file.name}.xz").write_bytes(lzma.compress(file.read_bytes()))
            before = set(cache.glob("*-*"))
            with contextlib.suppress(BrokenDataset):  # no case of this split
                load_records([folder], "train", trainable(), size, cache, workers)
            held_out_records(PretrainConfig((folder,), out, cache=cache, cache_size=size, workers=workers), trainable(), None)
            decoded = sorted(set(cache.glob("*-*")) - before)
            if not decoded:
                raise SystemExit(f"{cache} holds {folder.name} already, or it has no case to learn from: give an empty folder.")
            for stored in decoded:
                count = len(np.load(stored / "view.npy"))
                jobs = [(stored, start, target / f"{stored.name}.{start:06d}.npz.xz", size) for start in range(0, count, CHUNK)]
                print(f"{folder.name} {stored.name}: {count} radiographs, {sum(pool.map(_write, jobs)) / 1e6:.1f} MB")


def unpack(packs: list[Path], data: Path, cache: Path, workers: int) -> None:
    """Write data/DATASET/cases.jsonl and the arrays that training looks for in `cache`."""
    with ProcessPoolExecutor(workers) as pool:
        for folder in packs:
            (data / folder.name).mkdir(parents=True, exist_ok=True)
            for file in (folder / f"{name}.xz" for name in CARRIED):
                if file.exists():
                    (data / folder.name / file.stem).write_bytes(lzma.decompress(file.read_bytes()))
            keys = sorted({file.name.split(".")[0] for file in folder.glob("*.npz.xz")})
            for key in keys:
                parts = list(pool.map(_read, sorted(folder.glob(f"{key}.*.npz.xz"))))
                partial = cache / f"{key}.partial"
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                for name in KEPT:
                    np.save(partial / f"{name}.npy", np.concatenate([part[name] for part in parts]))
                os.replace(partial, cache / key)


def _write(job: tuple[Path, int, Path, int]) -> int:
    stored, start, file, size = job
    part = {name: np.load(stored / f"{name}.npy", mmap_mode="r")[start : start + CHUNK] for name in KEPT}
    pictures = [_picture(image) for image in part["images"]]
    points = _grid(part["outermost"], size)
    packed = {
        "images": np.frombuffer(b"".join(pictures), np.uint8),
        "ends": np.cumsum([len(p) for p in pictures]),
        "boxes": _grid(part["boxes"], size),
        "outermost": np.diff(points, axis=2, prepend=points.dtype.type(0)).transpose(3, 0, 1, 2),
        **{name: part[name] for name in ("state", "masks", "view")},
    }
    raw = io.BytesIO()
    np.savez(raw, size=size, **packed)  # type: ignore[arg-type]
    file.write_bytes(lzma.compress(raw.getvalue(), preset=9))
    return file.stat().st_size


def _read(file: Path) -> dict[str, Any]:
    with np.load(io.BytesIO(lzma.decompress(file.read_bytes())), allow_pickle=False) as packed:
        scale = 2 * int(packed["size"])
        files = np.split(packed["images"], packed["ends"][:-1])
        pictures = [np.asarray(Image.open(io.BytesIO(f.tobytes())).convert("L"), np.float32) / 255 for f in files]
        points = np.cumsum(packed["outermost"].transpose(1, 2, 3, 0), axis=2, dtype=np.int32)
        return {
            "images": np.stack(pictures).astype(np.float16),
            "boxes": (packed["boxes"] / scale).astype(np.float32),
            "outermost": (points / scale).astype(np.float32),
            **{name: packed[name] for name in ("state", "masks", "view")},
        }


def _picture(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray((image.astype(np.float32) * 255).round().astype(np.uint8)).save(file, "WEBP", quality=QUALITY, method=6)
    return file.getvalue()


def _grid(places: np.ndarray, size: int) -> np.ndarray:
    """Shares of the side as half pixels, int32: exact where the longer edge of the radiographs is `size`."""
    halves = places * 2 * size
    whole = np.rint(halves).astype(np.int32)
    if np.abs(halves - whole).max(initial=0) > 0.01:
        raise SystemExit(f"These radiographs are not {size} pixels long: give their longer edge as --size.")
    return whole


def main() -> None:
    """Pack or unpack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--size", type=int, default=320, help="longer edge of the radiographs [px]")
    parser.add_argument("--out", type=Path, default=Path("packs"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    if given.what == "pack":
        pack(given.folders, given.size, given.cache, given.out, given.workers)
    else:
        unpack(given.folders, given.data, given.cache, given.workers)


if __name__ == "__main__":
    main()
