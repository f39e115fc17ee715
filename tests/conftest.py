"""What the core's tests share: the drivers that the store is tested over."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from layerstore_core import LayerStore, StoreConfig, log
from tests.driver_roots import DRIVERS, btrfs_file_system, remove_root, why_not

OpenStore = Callable[..., LayerStore]


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
