"""A contender is a command that is run as a whole, and what it does of the work."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Contender:
    """One program at one piece of work.

    Attributes:
        name: in tables and charts; that of ours begins with "layerstore".
        does: what it does of the work, stated fairly: who hashes, who flushes.
        command: what is measured, in a fresh directory.
        program: what must be installed.
        before: what is to be done first, given the directory; it is not measured.
        needs_root: whether only root can run it.
        tells: it measures itself, and prints the seconds of the clock and of the processor: for what is part of a process only.
    """

    name: str
    does: str
    command: list[str]
    program: str = "python3"
    before: Callable[[Path], object] = field(default=lambda _: None)
    needs_root: bool = False
    tells: bool = False

    @property
    def missing(self) -> str:
        """Why it cannot be run here; empty where it can."""
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed"
        return "needs root" if self.needs_root and os.geteuid() else ""


def layerstore(*arguments: str, driver: str = "vfs", root: str = "store") -> list[str]:
    """A command line of this checkout's layerstore, with its store in the current directory."""
    return [sys.executable, "-m", "layerstore_core", "--root", root, "--driver", driver, *arguments]


def python(code: str, *arguments: str) -> list[str]:
    """A command line that runs `code`."""
    return [sys.executable, "-c", code, *arguments]


def inside(what: str, *arguments: str) -> list[str]:
    """A command line that measures through the library; see `benchmarks.inside`."""
    return [sys.executable, "-m", "benchmarks.inside", what, *arguments]


def making(name: str) -> Callable[[Path], object]:
    """A `before` that makes a directory."""
    return lambda where: (where / name).mkdir()


def environment() -> Mapping[str, str]:
    """What all commands run in. Peers do not flush, so neither do we: what a flush costs is the disk's business."""
    # What is installed has its byte code; compiling it anew takes longer than to start.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": str(CHECKOUT), "LAYERSTORE_DURABILITY": "none"}
