"""Temporary directories in a file system in memory, for tests of which no subject is a file system.

LAYERSTORE_TEST_IN_MEMORY=1, which `.ci/run` sets, asks for it; it needs root. Many small files are made and removed
there in four fifths of the processor time, and without waiting for a disk. Tests of trees, archives and drivers, of
power cuts, of daemons and peers stay on the disk, and so do all others in `make nightly`.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.directories import new_directory

WANTED: Final = os.environ.get("LAYERSTORE_TEST_IN_MEMORY", "") not in ("", "0") and os.geteuid() == 0
#: Packages and modules below `tests/`.
_TESTS: Final = (
    "cli",
    "docs",
    "images",
    "maintenance",
    "records",
    "registry",
    "reliability/test_interrupts.py",
    "reliability/test_kills.py",
    "snapshots",
    "store",
    "view",
)
_TOP: Final = Path(__file__).parent


def runs_in_memory(module: Path) -> bool:
    """Return whether the directories of a module's tests are in memory."""
    return WANTED and any((_TOP / one) in (module, *module.parents) for one in _TESTS)


@contextmanager
def file_system_in_memory() -> Iterator[Path]:
    """Mount a file system in memory for the length of a `with` block."""
    directory = new_directory(Path(tempfile.gettempdir()), "layerstore-memory-")
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", directory], check=True)
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)
    finally:
        directory.rmdir()


@contextmanager
def emptied(top: Path) -> Iterator[Path]:
    """Make a directory for the tests of a module, and remove it at the end of a `with` block."""
    directory = new_directory(top, "module-")
    yield directory
    subprocess.run(["rm", "-rf", "--one-file-system", directory], check=False)
