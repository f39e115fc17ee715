"""Bars of the speed as SVG, for a page that has light and dark colours."""

from __future__ import annotations

from html import escape
from typing import Final

from layerstore_core.conformance.reports.speed import Chart

_WIDTH: Final = 640
_ROW: Final = 24
#: Where bars begin, and how long the longest is.
_LEFT: Final = 130
_LONGEST: Final = 380


def svg(chart: Chart, driver: str) -> str:
    """Return a chart: one bar for each driver. That of the driver under test has another class, and so colour."""
    slowest = max((time for _, time in chart.times), default=0.0) or 1.0
    title = f"{chart.step}, {chart.files:,} files"
    spoken = "; ".join(f"{name} {time:.1f} ms" for name, time in chart.times)
    label = escape(f"{title}: {spoken}")
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {34 + _ROW * len(chart.times)}" role="img" aria-label="{label}">',
        f'<text x="0" y="18" class="title">{escape(title)}</text>',
    ]
    for number, (name, time) in enumerate(chart.times):
        y = 30 + _ROW * number
        width = max(1.0, _LONGEST * time / slowest)
        kind = "own" if name == driver and number == 0 else "other"
        parts += [
            f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="18" rx="2" class="{kind}"/>',
            f'<text x="{_LEFT + 6 + width:.1f}" y="{y + 14}">{time:.1f} ms</text>',
        ]
    return "\n".join([*parts, "</svg>"])
