"""Rights, and file systems of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("needs_root") and os.geteuid():
            item.add_marker(pytest.mark.skip(reason="needs the rights of root: to mount, or to become another user"))


@pytest.fixture
def ordinary_user() -> Callable[[], AbstractContextManager[None]]:
    """A context in which this process has the rights of nobody; nothing where it has no more than that anyway."""

    @contextmanager
    def become() -> Iterator[None]:
        if os.geteuid():
            yield
            return
        groups = os.getgroups()
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(groups)

    return become


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may write in, and get to, which pytest's are not."""
    directory = Path(tempfile.mkdtemp(prefix="layerstore-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts file systems in memory, with mount options such as their sizes."""
    mounts: list[Path] = []

    def mount(options: str) -> Path:
        where = tmp_path / f"tmpfs{len(mounts)}"
        where.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", where], check=True)
        mounts.append(where)
        return where

    yield mount
    for where in mounts:
        subprocess.run(["umount", "--lazy", where], check=True)
