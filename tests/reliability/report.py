"""Write the tables of figures in `docs/reliability.md` from what the tests have recorded.

`python -m tests.reliability.report FIGURES`
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.reliability.figures import Figures, sum_figures

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def table(figures: Sequence[Figures]) -> str:
    """Return a table with a row for each proof, and one for the total."""
    total = Figures("all together", *(sum(one[column] for one in figures) for column in (1, 2, 3)))
    text = "| proof | operations | faults | losses |\n| --- | ---: | ---: | ---: |\n"
    for one in (*figures, total):
        text += f"| {one.proof} | {one.operations or ''} | {one.faults} | {one.losses} |\n"
    return text


def write(section: str, figures: Sequence[Figures], how: str, command: str, document: Path = DOCUMENT) -> None:
    """Replace the text of a section, and do not change the other sections.

    Args:
        section: the section's heading.
        figures: the rows of the table.
        how: the conditions of the run, in addition to the machine.
        command: the command that writes this section.
        document: the document.
    """
    text = document.read_text()
    found = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"{document} has no section {section!r}")
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    kernel = platform.release().partition("-")[0]
    origin = f"Of {day}, Linux {kernel}, Python {platform.python_version()}: {how}. `{command}` writes this table."
    body = f"\n{origin}\n\n{table(figures)}"
    rest = text[found.end() :]
    document.write_text(text[: found.start(1)] + body + ("\n" + rest if rest else ""))


if __name__ == "__main__":
    write("Figures", sum_figures(Path(sys.argv[1]).read_text().splitlines()), "all of it", "make reliability")
