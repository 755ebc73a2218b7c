"""Line charts with intervals as SVG, which every browser and code host shows, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 460, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 30, 46
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
"""Okabe and Ito's, which colour-blind readers tell apart."""


@dataclass(frozen=True)
class Line:
    """One line: points (x, y, low, high); low and high may be NaN."""

    name: str
    points: Sequence[tuple[float, float, float, float]]


def chart(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """Return the SVG of a line chart; y runs from 0 to 1 at least."""
    xs = sorted({p[0] for line in lines for p in line.points})
    ys = [v for line in lines for p in line.points for v in p[1:] if np.isfinite(v)]
    if not xs or not ys:
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"></svg>\n'
    top = max(1.0, max(ys)) if max(ys) <= 1 else max(ys) * 1.05
    span = (xs[-1] - xs[0]) or 1.0

    def at(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - xs[0]) / span * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="16" text-anchor="middle" font-size="13">{escape(title)}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(13 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    for share in (0, 0.25, 0.5, 0.75, 1):
        _, y = at(xs[0], share * top)
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{share * top:.2g}</text>')
    for tick in xs:
        parts.append(f'<text x="{at(tick, 0)[0]}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{tick:g}</text>')
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        for x, _, low, high in line.points:
            if np.isfinite(low) and np.isfinite(high):
                (across, bottom), (_, end) = at(x, low), at(x, high)
                parts.append(f'<path d="M{across} {bottom}V{end}" stroke="{colour}" stroke-width="5" opacity="0.25"/>')
        places = [at(x, y) for x, y, _, _ in line.points if np.isfinite(y)]
        path = "L".join(f"{x} {y}" for x, y in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        y = TOP + 16 + 14 * number
        parts.append(f'<text x="{WIDTH - RIGHT - 4}" y="{y}" text-anchor="end" fill="{colour}">{escape(line.name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
