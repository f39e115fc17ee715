"""What commands load: upper bounds by name. Most of the time of a short command is that of loading modules."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Modules of others that take longer to load than what they would do for a short command.
SLOW = frozenset(
    {
        "asyncio", "click", "dataclasses", "importlib.metadata", "importlib_metadata", "inspect", "loguru", "pluggy",
        "pydantic", "pydantic_core", "pydantic_settings", "rich", "shutil", "sqlite3", "ssl", "tempfile", "urllib3",
        "zipfile",
    }
)  # fmt: skip


def loaded(directory: Path, *words: str) -> set[str]:
    """Return the modules that the program has loaded when it ends, less those of an empty program."""
    report = "import sys, atexit; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr));"
    program = f"{report} from layerstore_core.cli import main; sys.argv = ['layerstore', *{list(words)!r}]; main()"
    found = []
    for code in (report, program):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=directory,
            env={**os.environ, "LAYERSTORE_DURABILITY": "none"},
            capture_output=True,
            text=True,
            check=True,
        )
        found.append(set(done.stderr.split()))
    return found[1] - found[0]


def own(modules: set[str]) -> set[str]:
    return {name for name in modules if name.partition(".")[0] == "layerstore_core"}


def test_the_version_is_printed_by_three_modules(tmp_path: Path) -> None:
    modules = loaded(tmp_path, "--version")
    assert own(modules) == {"layerstore_core", "layerstore_core._version", "layerstore_core.cli"}
    assert modules <= {*own(modules), "__future__", "gc"}
