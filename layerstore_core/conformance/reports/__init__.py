"""The reports of a run: text for a person, HTML, Markdown for a page, JUnit XML for a build server, and JSON."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

from layerstore_core.conformance.outcomes.results import Run
from layerstore_core.errors import ConfigError

_PACKAGE: Final = "layerstore_core.conformance.reports"
#: The modules with a function `document`, by the suffix of the file's name.
_MODULES: Final = {".html": "html", ".xml": "junit", ".md": "markdown", ".txt": "text"}


def write_report(run: Run, path: Path) -> None:
    """Write a report in the format of the file name's suffix.

    Raises:
        ConfigError: the suffix is none of `.json`, `.html`, `.xml`, `.md` and `.txt`.
        OSError: the file cannot be written.
    """
    check_report_name(path)
    if path.suffix == ".json":
        text = json.dumps(run.document(), indent=2) + "\n"
    else:
        document: Callable[[Run], str] = importlib.import_module(f"{_PACKAGE}.{_MODULES[path.suffix]}").document
        text = document(run)
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def check_report_name(path: Path) -> None:
    """Check that a report has a known format. To be called before the run, whose report would otherwise be lost.

    Raises:
        ConfigError: the name has no known suffix.
    """
    if path.suffix not in (".json", *_MODULES):
        raise ConfigError(
            f"the report {str(path)!r} has no known format: let it end with .html, .md, .txt, .json or .xml (JUnit)"
        )
