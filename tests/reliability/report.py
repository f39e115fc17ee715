"""The table of figures in `docs/reliability.md`, written from what the proofs have noted.

`python -m tests.reliability.report FIGURES [MINUTES]`
"""

from __future__ import annotations

import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_HEADING: Final = "## Figures\n"


def table(lines: list[str]) -> str:
    """A row for each proof, and one for all together.

    Args:
        lines: as `figures.note` writes them.
    """
    sums: dict[str, list[int]] = {}
    for line in lines:
        noted = json.loads(line)
        row = sums.setdefault(noted["proof"], [0, 0, 0])
        for column, key in enumerate(("operations", "faults", "losses")):
            row[column] += noted[key]
    rows = [(proof, *sums[proof]) for proof in sorted(sums)]
    rows.append(("all together", *(sum(row[column] for row in sums.values()) for column in range(3))))
    text = "| proof | operations | faults | losses |\n| --- | ---: | ---: | ---: |\n"
    return text + "".join(f"| {proof} | {done or ''} | {faults} | {lost} |\n" for proof, done, faults, lost in rows)


def write(figures: Path, took: str) -> None:
    """Replace the document's last section."""
    text = _DOCUMENT.read_text()
    head = text[: text.index(_HEADING) + len(_HEADING)]
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    said = f"\nOf {day}, Linux {platform.release().partition('-')[0]}, Python {platform.python_version()}{took}. `make reliability` writes this table.\n\n"
    _DOCUMENT.write_text(head + said + table(figures.read_text().splitlines()))


if __name__ == "__main__":
    write(Path(sys.argv[1]), f", {sys.argv[2]} minutes" if len(sys.argv) > 2 else "")
