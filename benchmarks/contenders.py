"""Contenders: commands that are measured as a whole, each with a description of the work that it does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from layerstore_core.base.kernels import VARIABLE

CHECKOUT: Final = Path(__file__).resolve().parents[1]
#: The end of the name of a contender that does without the kernels.
WITHOUT: Final = ", no kernels"


class PreparationError(Exception):
    """The failure of a command that prepares the work of several contenders."""


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
        daemon: the file with the process ID of a daemon that does the work. Its processor's time counts, too.
        environment: variables of the command, in addition to those of all commands.
    """

    name: str
    does: str
    command: list[str]
    program: str = "python3"
    before: Callable[[Path], object] = field(default=lambda _: None)
    needs_root: bool = False
    prints_seconds: bool = False
    daemon: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> str:
        """Why the command cannot be run here. Empty if it can."""
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed"
        return "needs root" if self.needs_root and os.geteuid() else ""


def layerstore(*arguments: str, driver: str = "vfs", root: str = "store") -> list[str]:
    """Return a command line of this checkout's layerstore, with its store in the current directory."""
    return [sys.executable, "-m", "layerstore_core", "--root", root, "--driver", driver, *arguments]


def in_both_engines(contenders: Iterable[Contender]) -> list[Contender]:
    """Return contenders of ours, each with the kernels, and once more in Python alone."""
    found = list(contenders)
    return found + [replace(one, name=f"{one.name}{WITHOUT}", environment={VARIABLE: "0"}) for one in found]


def python(code: str, *arguments: str) -> list[str]:
    """Return a command line that runs `code`."""
    return [sys.executable, "-c", code, *arguments]


def inside(what: str, *arguments: str) -> list[str]:
    """Return a command line that measures through the library. See `benchmarks.inside`."""
    return [sys.executable, "-m", "benchmarks.inside", what, *arguments]


def program(*arguments: str, root: Path, driver: str = "vfs") -> list[str]:
    """Return a command line of the installed program, which starts more quickly than a module of a checkout."""
    installed = Path(sys.executable).with_name("layerstore")
    if not installed.exists():
        return layerstore(*arguments, driver=driver, root=str(root))
    return [str(installed), "--root", str(root), "--driver", driver, *arguments]


def shell(script: str, *words: str) -> list[str]:
    """Return a command line that runs a script, in which `$1` and so on are the words. It ends at the first failure."""
    return ["sh", "-ec", script, "sh", *words]


def quietly(command: list[str]) -> Callable[[Path], object]:
    """Return a `before` that runs a command, which may fail."""
    return lambda where: subprocess.run(command, check=False, capture_output=True, env=environment(), cwd=where)


def run(command: list[str]) -> str:
    """Run a command, as a preparation of several contenders. Return what it prints.

    Raises:
        PreparationError: it has failed.
    """
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
    if done.returncode:
        raise PreparationError(f"{' '.join(command)[:300]} … failed: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def absent(name: str, does: str, what: str) -> Contender:
    """Return a contender that cannot take part, because something is not installed or does not answer."""
    return Contender(name, does, [what], f"{what}-that-answers")


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
