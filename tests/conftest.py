"""Fixtures that the core's tests share: drivers and stores, directories, permissions."""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from layerstore_core import LayerStore, StoreConfig, log
from layerstore_core.base.kernels import engine
from tests import in_memory
from tests.directories import new_directory
from tests.driver_roots import btrfs_file_system, remove_root, why_not
from tests.in_gate import GATE_DRIVERS, in_gate
from tests.ordinary_users import OrdinaryUsers, why_no_users
from tests.quick_program import quick_program as quick_program_in
from tests.registry.fake_registry import FakeRegistry
from tests.tree_state import everything
from tests.without_kernels import plain_way

OpenStore = Callable[..., LayerStore]
NOBODY = 65534

needs_root = pytest.mark.needs_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("needs_root") and os.geteuid():
            item.add_marker(pytest.mark.skip(reason="needs the rights of root: owners, devices, mounts, other users"))


@pytest.fixture(params=in_gate(*GATE_DRIVERS))
def driver(request: pytest.FixtureRequest) -> str:
    """Return the name of each driver in turn. A module whose tests do not depend on the driver overrides this."""
    name: str = request.param
    reason = why_not(name)
    if reason:
        pytest.skip(f"{name}: {reason}")
    return name


@pytest.fixture(params=["kernels", "plain"])
def each_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test with the kernels in C, and then without them; return which it is."""
    name: str = request.param
    if name == "plain":
        with plain_way():
            yield name
    elif engine().kernels is None:
        pytest.skip(engine().reason)
    else:
        yield name


@pytest.fixture(scope="session")
def btrfs_mount() -> Iterator[Path]:
    """Mount a btrfs file system, once in a session."""
    with btrfs_file_system() as mount:
        yield mount


if in_memory.WANTED:

    @pytest.fixture(scope="session")
    def memory() -> Iterator[Path]:
        """Mount a file system in memory, once in a session."""
        with in_memory.file_system_in_memory() as mount:
            yield mount

    @pytest.fixture(scope="module")
    def memory_of_module(memory: Path) -> Iterator[Path]:
        """Yield a directory in memory, which is removed after the tests of the module."""
        with in_memory.emptied(memory) as directory:
            yield directory

    @pytest.fixture
    def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Return a directory for a test, in memory or, as pytest's own fixture does, on the disk."""
        name = re.sub(r"\W", "_", request.node.name)[:24]
        if in_memory.runs_in_memory(request.path):
            return new_directory(request.getfixturevalue("memory_of_module"), f"{name.strip('_')}-")
        return tmp_path_factory.mktemp(name)


@pytest.fixture
def store_root(driver: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Yield the root of the store: a directory that does not exist yet, on a file system that the driver supports."""
    if driver == "btrfs":
        root = Path(request.getfixturevalue("btrfs_mount")) / tmp_path.name / "store"
    else:
        root = tmp_path / "store"
    yield root
    remove_root(root)


@pytest.fixture
def open_store(driver: str, store_root: Path) -> Iterator[OpenStore]:
    """Yield a function that opens the store, with settings as keywords. All opened stores are closed at the end."""
    with ExitStack() as opened:

        def open_(**overrides: Any) -> LayerStore:
            given = {"root": store_root, "driver": driver, "durability": "none", **overrides}
            return opened.enter_context(LayerStore.open(StoreConfig(**given)))

        yield open_


@pytest.fixture
def store(open_store: OpenStore) -> LayerStore:
    """Return an open, empty store."""
    return open_store()


@pytest.fixture(params=["vfs", "overlay2"])
def mounting_store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LayerStore]:
    """Yield an empty store of a driver that copies, and of one that mounts: to compare trees with what is mounted.

    It does not depend on `driver`, which a module of tests without a driver overrides.
    """
    if reason := why_not(request.param):
        pytest.skip(f"{request.param}: {reason}")
    root = tmp_path / "root"
    with ExitStack() as opened:
        opened.callback(remove_root, root)
        yield opened.enter_context(LayerStore.open(StoreConfig(root=root, driver=request.param, durability="none")))


@pytest.fixture(scope="session")
def quick_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a directory with a program `layerstore` that starts quickly."""
    with quick_program_in(tmp_path_factory.mktemp("program")) as directory:
        yield directory


@pytest.fixture
def users() -> Iterator[OrdinaryUsers]:
    """Yield two ordinary users with subordinate IDs."""
    if reason := why_no_users():
        pytest.skip(reason)
    directory = Path(tempfile.mkdtemp(prefix="layerstore-"))
    directory.chmod(0o755)
    yield OrdinaryUsers(directory)
    shutil.rmtree(directory)


@pytest.fixture
def fake_registry() -> Iterator[FakeRegistry]:
    """Yield a registry in this process that can be told to be faulty, empty and for everyone."""
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def nothing_left_open() -> Iterator[None]:
    """Check that there are no more descriptors and threads after the test than before."""

    def state() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = state()
    yield
    for _ in range(3000):  # the threads of a server take a moment to see that a client is gone
        if all(now <= then for now, then in zip(state(), before, strict=True)):
            return
        time.sleep(0.02)
    pytest.fail(f"descriptors and threads are {state()}, and were {before}")


@pytest.fixture
def said() -> Iterator[list[Any]]:
    """Collect the records that are logged from WARNING on, while logging is enabled."""
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
    """Yield a directory outside the root, and check that nothing in it has changed afterwards."""
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
    """Return a context in which this process has the rights of the user nobody. It changes nothing without root."""

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
def no_room() -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which no file can grow: each write to one fails with EFBIG."""

    @contextmanager
    def refuse() -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return refuse


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Yield a directory that every user may reach and write in, unlike pytest's directories."""
    directory = Path(tempfile.mkdtemp(prefix="layerstore-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Yield a function that mounts a file system in memory, with mount options such as its size."""
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
