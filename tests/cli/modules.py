"""The modules that a command loads."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

#: A command that succeeds ends by `os._exit`.
_REPORT: Final = """
import atexit, os, sys
def report():
    print("loaded:", *sys.modules, file=sys.stderr)
def end(code, end=os._exit):
    report()
    end(code)
atexit.register(report)
os._exit = end
"""
_PROGRAM: Final = "sys.argv[0] = 'layerstore'\nfrom layerstore_core.cli import main\nmain()\n"


def loaded(directory: Path, *words: str) -> set[str]:
    """Return the modules that a command loads, without those that an empty program loads."""
    return _imported(directory, _PROGRAM, *words) - _of_an_empty_program()


def own(modules: set[str]) -> set[str]:
    """Return the modules that are the core's."""
    return {name for name in modules if name.partition(".")[0] == "layerstore_core"}


@cache
def _of_an_empty_program() -> set[str]:
    return _imported(Path.cwd(), "pass")


def _imported(directory: Path, program: str, *words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _REPORT + program, *words],
        cwd=directory,
        env={**os.environ, "LAYERSTORE_DURABILITY": "none"},
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("loaded:"))
    return set(line.split()[1:])
