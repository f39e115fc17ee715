"""Contenders: commands that are measured as a whole, each with a description of the work that it does."""

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
    """One program that does one piece of work.

    Attributes:
        name: the name in tables and charts. Ours begins with "layerstore".
        does: the part of the work that the program does, stated fairly: whether it hashes, or flushes.
        command: the command that is measured. It runs in a new directory.
        program: the program that must be installed.
        before: the preparation. It is called with the directory, and is not measured.
        needs_root: whether only root can run the command.
        prints_seconds: the command measures itself, and prints the seconds by the clock and of the processor. For work
            that is only a part of a process.
    """

    name: str
    does: str
    command: list[str]
    program: str = "python3"
    before: Callable[[Path], object] = field(default=lambda _: None)
    needs_root: bool = False
    prints_seconds: bool = False

    @property
    def missing(self) -> str:
        """Why the command cannot be run here. Empty if it can."""
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed"
        return "needs root" if self.needs_root and os.geteuid() else ""


def layerstore(*arguments: str, driver: str = "vfs", root: str = "store") -> list[str]:
    """Return a command line of this checkout's layerstore, with its store in the current directory."""
    return [sys.executable, "-m", "layerstore_core", "--root", root, "--driver", driver, *arguments]


def python(code: str, *arguments: str) -> list[str]:
    """Return a command line that runs `code`."""
    return [sys.executable, "-c", code, *arguments]


def inside(what: str, *arguments: str) -> list[str]:
    """Return a command line that measures through the library. See `benchmarks.inside`."""
    return [sys.executable, "-m", "benchmarks.inside", what, *arguments]


def making(name: str) -> Callable[[Path], object]:
    """Return a `before` that creates a directory."""
    return lambda where: (where / name).mkdir()


def environment() -> Mapping[str, str]:
    """Return the environment of all commands.

    Peers do not flush, so neither does layerstore here: the cost of a flush depends on the disk.
    """
    # Installed programs have their byte code. Compiling it again would take longer than the start.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": str(CHECKOUT), "LAYERSTORE_DURABILITY": "none"}
