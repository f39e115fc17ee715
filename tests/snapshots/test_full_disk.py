"""Snapshots on a disk that is full: what cannot be made leaves nothing, and what is there can be removed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from layerstore_core import LayerStore, Snapshots, StoreConfig, check_store
from tests.conftest import needs_root


def fill(file: Path) -> None:
    """Take all pages of a file system in memory that are free."""
    with open(file, "ab") as filler:
        free = os.statvfs(file).f_bavail * 4096
        if free:
            os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, free)


@needs_root
def test_snapshots_are_removed_from_a_full_disk(tmpfs):
    disk = tmpfs("size=16m")
    with LayerStore.open(StoreConfig(root=disk / "root", driver="vfs")) as store, Snapshots(store) as snapshots:
        for number in range(50):
            snapshots.prepare(f"{number}")
        snapshots.commit("base", "0")
        fill(disk / "filler")
        refused = []
        for number in range(100):
            try:
                snapshots.prepare(f"new {number}", "base", {"label": "x" * 100_000})
            except OSError as error:
                refused.append(error.errno)
        assert set(refused) == {errno.ENOSPC}
        for one in reversed(list(snapshots.walk())):
            fill(disk / "filler")  # somebody else takes what becomes free
            snapshots.remove(one.key)
        assert list(snapshots.walk()) == []
        assert store.driver.layer_ids() == []
        assert check_store(store) == []
