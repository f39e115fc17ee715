"""Fixtures that the core's tests share: drivers and stores, directories, rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from layerstore_core import LayerStore, StoreConfig, log
from tests.driver_roots import DRIVERS, btrfs_file_system, remove_root, why_not
from tests.tree_state import everything

OpenStore = Callable[..., LayerStore]
NOBODY = 65534

needs_root = pytest.mark.needs_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("needs_root") and os.geteuid():
            item.add_marker(pytest.mark.skip(reason="needs the rights of root: owners, devices, mounts, other users"))


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    """The name of each driver in turn. A module whose tests do not depend on the driver overrides this."""
    name: str = request.param
    reason = why_not(name)
    if reason:
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.fixture(scope="session")
def btrfs_mount() -> Iterator[Path]:
    """A btrfs file system, made once a session."""
    with btrfs_file_system() as mount:
        yield mount


@pytest.fixture
def store_root(driver: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Where the store is: a directory that is not there yet, on a file system that the driver works on."""
    if driver == "btrfs":
        root = Path(request.getfixturevalue("btrfs_mount")) / tmp_path.name / "store"
    else:
        root = tmp_path / "store"
    yield root
    remove_root(root)


@pytest.fixture
def open_store(driver: str, store_root: Path) -> Iterator[OpenStore]:
    """Opens the store, any number of times; all are closed at the end. Settings are keywords."""
    with ExitStack() as opened:

        def open_(**overrides: Any) -> LayerStore:
            given = {"root": store_root, "driver": driver, "durability": "none", **overrides}
            return opened.enter_context(LayerStore.open(StoreConfig(**given)))

        yield open_


@pytest.fixture
def store(open_store: OpenStore) -> LayerStore:
    """An open store, empty."""
    return open_store()


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    """Descriptors and threads must be as many afterwards as before."""
    before = set(os.listdir("/proc/self/fd")), threading.active_count()
    yield
    assert (set(os.listdir("/proc/self/fd")), threading.active_count()) == before


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """What is logged, while a program listens."""
    messages: list[Any] = []
    sink = logger.add(lambda message: messages.append(message.record), level="WARNING")
    log.enable()
    yield messages
    log.silence()
    try:
        logger.remove(sink)
    except ValueError:
        pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory outside the root, which must be the same afterwards in every respect."""
    outside = tmp_path / "outside"
    (outside / "dir").mkdir(parents=True)
    (outside / "file").write_bytes(b"canary")
    (outside / "dir" / "inner").write_bytes(b"inner canary")
    (outside / "link").symlink_to("file")
    before = everything(outside)
    yield outside
    assert everything(outside) == before


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
