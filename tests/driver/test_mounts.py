"""Mounts: the note is written before the driver mounts, and a mount that fails leaves neither a mount nor a note."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from layerstore_core.base import inside
from layerstore_core.driver.mounts import MountCounts
from layerstore_core.locking.root_locks import RootLocks

LAYER = "a" * 64


class Driver:
    """A driver that records what is mounted. It calls `before` before a mount, and `after` afterwards."""

    def __init__(self) -> None:
        self.mounted: set[str] = set()
        self.before: Callable[[], object] = lambda: None
        self.after: Callable[[], object] = lambda: None

    def get(self, layer_id: str, mount_label: str) -> str:
        self.before()
        self.mounted.add(layer_id)
        self.after()
        return f"/{layer_id}"

    def put(self, layer_id: str) -> None:
        self.mounted.discard(layer_id)


@pytest.fixture
def driver() -> Driver:
    return Driver()


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[RootLocks]:
    found = RootLocks(tmp_path / "locks")
    yield found
    found.close()


@pytest.fixture
def mounts(driver: Driver, locks: RootLocks, tmp_path: Path) -> MountCounts:
    return MountCounts(tmp_path / "mounts" / "vfs", locks, driver.get, driver.put)


def fail() -> None:
    raise OSError(5, "no")


def notes(tmp_path: Path) -> list[str]:
    directory = tmp_path / "mounts" / "vfs"
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []


def test_a_mount_that_fails_on_a_full_disk_is_undone(mounts, driver, tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(inside, "write", full)
    assert mounts.get(LAYER, "") == f"/{LAYER}"  # without a note
    assert notes(tmp_path) == []
    mounts.put(LAYER)
    driver.after = fail
    with pytest.raises(OSError, match="no"):
        mounts.get(LAYER, "")
    assert driver.mounted == set()


@pytest.mark.parametrize("keep", [False, True])
def test_a_mount_is_noted_before_the_driver_mounts(
    mounts: MountCounts, driver: Driver, tmp_path: Path, keep: bool
) -> None:
    seen: list[list[str]] = []
    driver.before = lambda: seen.append(notes(tmp_path))
    mounts.get(LAYER, "", keep=keep)
    assert seen == [[LAYER]]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_mount_that_fails_is_undone(
    mounts: MountCounts, driver: Driver, locks: RootLocks, tmp_path: Path, when: str, keep: bool
) -> None:
    setattr(driver, when, fail)
    with pytest.raises(OSError, match="no"):
        mounts.get(LAYER, "", keep=keep)
    assert (driver.mounted, notes(tmp_path), mounts.is_used(LAYER)) == (set(), [], False)
    assert not locks.is_referenced(f"mounted {LAYER}")
    setattr(driver, when, lambda: None)
    assert mounts.get(LAYER, "") == f"/{LAYER}"
    mounts.put(LAYER)
    assert (driver.mounted, notes(tmp_path)) == (set(), [])


def test_a_layer_whose_mount_note_cannot_be_read_stays_mounted(
    mounts: MountCounts, driver: Driver, tmp_path: Path
) -> None:
    mounts.get(LAYER, "", keep=True)
    note = tmp_path / "mounts" / "vfs" / LAYER
    note.unlink()
    note.mkdir()
    assert mounts.stale() == []
    mounts.unmount_stale(LAYER)
    assert driver.mounted == {LAYER}
