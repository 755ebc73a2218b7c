"""Draws what training runs logged, side by side.

python tools/learning_curves.py RUN... --figure val/dice --out curve.svg [--against minutes]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from training.evaluate.charts import Line, chart


def points(run: Path, figure: str, against: str) -> list[tuple[float, float, float, float]]:
    """What a run's log.jsonl says about one figure."""
    nan = float("nan")
    records = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found = [(r.get(against), r.get(figure)) for r in records]
    return sorted((float(x), float(y), nan, nan) for x, y in found if x is not None and y is not None)


def thinned(line: list[tuple[float, float, float, float]], most: int) -> list[tuple[float, float, float, float]]:
    """At most about `most` points, the last one among them."""
    step = max(1, len(line) // most)
    return [*line[::step], *(line[-1:] if (len(line) - 1) % step else [])]


def main() -> None:
    """Write the chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--figure", default="val/dice")
    parser.add_argument("--against", default="step", choices=("step", "minutes"))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    lines = [Line(run.name, thinned(points(run, given.figure, given.against), 8)) for run in given.runs]
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(chart(given.figure, given.against, given.figure, lines), encoding="utf-8")


if __name__ == "__main__":
    main()
