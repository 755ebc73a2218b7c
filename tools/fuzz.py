"""Coverage-guided fuzzing of the readers with atheris: python tools/fuzz.py radiograph --minutes 30 --work DIR

atheris is not among the dependencies of the project: install it into an environment of its own that also sees the others. Inputs
that a reader does not survive lie in DIR/<target>/findings with their traceback, one for each place where it failed, and the run
goes on; an input that ends the process lies in DIR/<target>/last. DIR/<target>/corpus keeps what was worth trying, for later runs
to go on from. When a reader is mended, a finding goes into tests/fuzz/test_targets.py.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

INSTRUMENTED = {
    "answers": ["training"],
    "cases": ["training", "json"],
    "masks": ["training"],
    "radiograph": ["training", "pydicom", "PIL"],
    "volume": ["training", "pydicom"],
}
"""Packages whose branches count as coverage; what is compiled beneath them does not show."""


def main() -> None:
    """Fuzz one target until its time is over or a finding stops it."""
    import atheris

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=INSTRUMENTED)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--work", type=Path, default=Path("fuzzing"))
    chosen = parser.parse_args()

    with atheris.instrument_imports(include=INSTRUMENTED[chosen.target], exclude=["training.images.rle"]):
        import pydicom  # noqa: F401
        from PIL import Image  # noqa: F401

        import training.dataset
        import training.images.any_file
        import training.images.dicom_radiograph
        import training.tokens.grammar  # noqa: F401
        from tests.fuzz.targets import FEW_BYTES, TARGETS, seeds
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    folder = chosen.work / chosen.target
    for part in ("corpus", "findings", "seeds"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(chosen.target, folder / "seeds")):
        (folder / "corpus" / f"seed-{number:02d}").write_bytes(seed)
    options = [
        f"-max_total_time={int(60 * chosen.minutes)}",
        f"-max_len={FEW_BYTES}",
        f"-artifact_prefix={folder / 'findings'}/",
        "-timeout=120",  # CharLS takes seconds to give up some damaged JPEG-LS
        "-rss_limit_mb=4096",
        "-print_final_stats=1",
        str(folder / "corpus"),
    ]
    atheris.Setup([sys.argv[0], *options], _noting(TARGETS[chosen.target], folder))
    atheris.Fuzz()


def _noting(target: Callable[[bytes], None], folder: Path) -> Callable[[bytes], None]:
    """The target with what it does not survive written down instead of raised."""
    seen: set[tuple[str, str]] = set()
    last = folder / "last"

    def run(data: bytes) -> None:
        last.write_bytes(data)
        try:
            target(data)
        except Exception as error:  # noqa: BLE001 - anything at all is a finding
            frames = traceback.extract_tb(error.__traceback__)
            place = next((f"{f.filename}:{f.lineno}" for f in reversed(frames) if "/training/" in f.filename), "target")
            if (key := (type(error).__name__, place)) not in seen:
                seen.add(key)
                name = f"{len(seen):02d}-{key[0]}"
                (folder / "findings" / name).write_bytes(data)
                (folder / "findings" / f"{name}.txt").write_text("".join(traceback.format_exception(error)))

    return run


if __name__ == "__main__":
    main()
