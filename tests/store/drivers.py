"""Drivers as third parties may write them: the smallest one, one that mounts, and two that keep tars."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from layerstore_core import Capabilities, DriverContext, LayerStore, StoreConfig, copy_tree, hookimpl, remove_tree
from layerstore_core.driver.open import bind_driver
from layerstore_core.locking.root_locks import RootLocks
from layerstore_core.store.open import make_context


def open_with(factory: Any, root: Path, **settings: Any) -> LayerStore:
    """Open a store with a driver that no package provides."""
    config = StoreConfig(root=root, durability="none", **settings)
    locks = RootLocks(root / "layerstore" / "locks")
    try:
        return LayerStore(make_context(config, bind_driver(factory, "test", config, locks), locks))
    except BaseException:
        locks.close()
        raise


class SmallestDriver:
    """A driver with the six required hooks only."""

    def __init__(self, context: DriverContext) -> None:
        self.home = context.home
        self.home.mkdir(exist_ok=True, parents=True)

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        os.mkdir(self.home / layer_id, 0o755)
        if parent_id:
            copy_tree(self.home / parent_id, self.home / layer_id)

    @hookimpl
    def create_read_write(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        self.create(layer_id, parent_id, storage_opt)

    @hookimpl
    def remove(self, layer_id: str) -> None:
        remove_tree(os.fsencode(self.home / layer_id))

    @hookimpl
    def get(self, layer_id: str) -> str:
        os.stat(self.home / layer_id)
        return str(self.home / layer_id)

    @hookimpl
    def put(self, layer_id: str) -> None:
        pass

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return (self.home / layer_id).is_dir()


class MountingDriver(SmallestDriver):
    """A driver that logs each mount and unmount; its mounts outlive the process, like those of the kernel."""

    def __init__(self, context: DriverContext) -> None:
        super().__init__(context)
        self.log = context.home.parent / "mount-log"
        self.mounted = context.home.parent / "mounted"
        self.mounted.mkdir(exist_ok=True)

    @hookimpl
    def get(self, layer_id: str) -> str:
        path = super().get(layer_id)
        if not (self.mounted / layer_id).exists():
            (self.mounted / layer_id).touch()
            self._write(f"get {layer_id}")
        return path

    @hookimpl
    def put(self, layer_id: str) -> None:
        if (self.mounted / layer_id).exists():
            (self.mounted / layer_id).unlink()
            self._write(f"put {layer_id}")

    @hookimpl
    def remove(self, layer_id: str) -> None:
        self.put(layer_id)
        super().remove(layer_id)

    def _write(self, line: str) -> None:
        with open(self.log, "a") as file:
            file.write(f"{line}\n")


class ArchiveDriver(SmallestDriver):
    """A driver that keeps the tar of each layer and exports the same bytes."""

    def _tar(self, layer_id: str) -> Path:
        return self.home / f"{layer_id}.tar"

    @hookimpl
    def capabilities(self) -> Capabilities:
        return Capabilities(reproduces_exact_diffs=True)

    @hookimpl
    def apply_diff(self, layer_id: str, diff: Any) -> int:
        data = diff.read()
        self._tar(layer_id).write_bytes(data)
        return len(data)

    @hookimpl
    def diff(self, layer_id: str) -> BinaryIO:
        return open(self._tar(layer_id), "rb")

    @hookimpl
    def remove(self, layer_id: str) -> None:
        self._tar(layer_id).unlink(missing_ok=True)
        super().remove(layer_id)


class LyingDriver(ArchiveDriver):
    """A driver that claims to reproduce exact tars, and changes the last byte."""

    @hookimpl
    def diff(self, layer_id: str) -> BinaryIO:
        return io.BytesIO(self._tar(layer_id).read_bytes()[:-1] + b"!")
