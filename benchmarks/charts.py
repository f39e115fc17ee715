"""Draw bar charts and curves as small SVG files, without a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_FONT: Final = 'font-family="sans-serif" font-size="13"'
_OURS: Final = "#2563eb"
_OTHERS: Final = "#94a3b8"
_LINES: Final = ("#2563eb", "#ea580c", "#16a34a", "#9333ea")


def bars(title: str, values: Sequence[tuple[str, float]], unit: str) -> str:
    """Return a chart of horizontal bars, the shortest first. Those of layerstore have another colour."""
    ordered = sorted(values, key=lambda one: one[1])
    longest = max(value for _, value in ordered)
    height = 40 + 26 * len(ordered)
    parts = [_start(680, height, title)]
    for number, (name, value) in enumerate(ordered):
        y = 40 + 26 * number
        width = 340 * value / longest
        colour = _OURS if name.startswith("layerstore") else _OTHERS
        parts += [
            f'<text x="230" y="{y + 14}" text-anchor="end" {_FONT}>{escape(name)}</text>',
            f'<rect x="240" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>',
            f'<text x="{246 + width:.1f}" y="{y + 14}" {_FONT}>{value:.2f} {escape(unit)}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def curves(title: str, lines: Mapping[str, Sequence[tuple[int, float]]], unit: str) -> str:
    """Return a chart of curves over growing numbers. The values begin at zero, and the numbers are at equal distances.

    All lines have the same numbers.
    """
    highest = max(value for points in lines.values() for _, value in points) * 1.2
    numbers = [number for number, _ in next(iter(lines.values()))]
    step = 520 / max(1, len(numbers) - 1)
    parts = [_start(680, 290, title), '<line x1="60" y1="240" x2="640" y2="240" stroke="#94a3b8"/>']
    parts += [
        f'<text x="{80 + step * place:.1f}" y="260" text-anchor="middle" {_FONT}>{number:,}</text>'
        for place, number in enumerate(numbers)
    ]
    for place, ((name, points), colour) in enumerate(zip(lines.items(), _LINES, strict=False)):
        at = [(80 + step * number, 240 - 190 * value / highest) for number, (_, value) in enumerate(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts += [
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<text x="{80 + 160 * place}" y="280" fill="{colour}" {_FONT}>{escape(name)}, {escape(unit)}</text>',
        ]
        for (x, y), (_, value) in zip(at, points, strict=True):
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
                f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle" {_FONT}>{value:.1f}</text>',
            ]
    return "\n".join([*parts, "</svg>\n"])


def _start(width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        f'<text x="16" y="24" font-family="sans-serif" font-size="15" font-weight="bold">{escape(title)}</text>'
    )
