"""Bar charts and curves as SVG, small and without a library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

_FONT: Final = 'font-family="sans-serif" font-size="13"'
_OURS: Final = "#2563eb"
_OTHERS: Final = "#94a3b8"


def bars(title: str, values: Sequence[tuple[str, float]], unit: str) -> str:
    """Horizontal bars, the shortest first; those of layerstore stand out."""
    ordered = sorted(values, key=lambda one: one[1])
    longest = max(value for _, value in ordered)
    height = 40 + 26 * len(ordered)
    parts = [_start(640, height, title)]
    for number, (name, value) in enumerate(ordered):
        y = 40 + 26 * number
        width = 340 * value / longest
        colour = _OURS if name.startswith("layerstore") else _OTHERS
        parts += [
            f'<text x="180" y="{y + 14}" text-anchor="end" {_FONT}>{escape(name)}</text>',
            f'<rect x="190" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>',
            f'<text x="{196 + width:.1f}" y="{y + 14}" {_FONT}>{value:.2f} {escape(unit)}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def curve(title: str, points: Sequence[tuple[int, float]], unit: str) -> str:
    """One value over a growing number, which stands on a scale of equal steps."""
    highest = max(value for _, value in points) * 1.2
    step = 520 / max(1, len(points) - 1)
    places = [(70 + step * number, 220 - 170 * value / highest) for number, (_, value) in enumerate(points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [_start(640, 260, title), f'<polyline points="{line}" fill="none" stroke="{_OURS}" stroke-width="2"/>']
    for (x, y), (count, value) in zip(places, points, strict=True):
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_OURS}"/>',
            f'<text x="{x:.1f}" y="{y - 10:.1f}" text-anchor="middle" {_FONT}>{value:.1f} {escape(unit)}</text>',
            f'<text x="{x:.1f}" y="245" text-anchor="middle" {_FONT}>{count:,}</text>',
        ]
    return "\n".join([*parts, "</svg>\n"])


def _start(width: int, height: int, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">\n'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
        f'<text x="16" y="24" font-family="sans-serif" font-size="15" font-weight="bold">{escape(title)}</text>'
    )
