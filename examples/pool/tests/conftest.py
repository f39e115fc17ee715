"""Drivers on a new root, layers by one call, and a btrfs file system for reflinks."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import LayerStream, StoreConfig
from layerstore_core.sdk import open_driver

File = tuple[str, bytes] | tuple[str, bytes, dict[str, Any]]


def tar_of(*files: File) -> io.BytesIO:
    """A tar of regular files, with attributes of `TarInfo`; with `linkname`, of hard links."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content, *more in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode, info.uid, info.gid = len(content), 10**9, 0o644, os.getuid(), os.getgid()
            for key, value in (more[0] if more else {}).items():
                setattr(info, key, value)
            if info.linkname:
                info.type = tarfile.LNKTYPE
            tar.addfile(info, io.BytesIO(content))
    out.seek(0)
    return out


class Bench:
    """The driver on a new root."""

    def __init__(self, root: Path, opened: ExitStack, options: dict[str, Any]) -> None:
        config = StoreConfig(root=root, driver="pool", drivers={"pool": options} if options else {})
        self.driver = opened.enter_context(open_driver(config))
        self.home = root / "pool"

    def add(self, layer_id: str, *files: File, parent: str = "") -> Path:
        """Make a layer, and return its tree."""
        self.driver.create(layer_id, parent, {})
        return self.apply(layer_id, *files, parent=parent)

    def writable(self, layer_id: str, parent: str) -> Path:
        """Make a writable layer, and return its tree."""
        self.driver.create_read_write(layer_id, parent, "", {})
        return self.tree(layer_id)

    def apply(self, layer_id: str, *files: File, parent: str = "") -> Path:
        self.driver.apply_diff(layer_id, parent, LayerStream.over(tar_of(*files)))
        return self.tree(layer_id)

    def tree(self, layer_id: str) -> Path:
        with self.driver.mounted(layer_id) as path:
            return Path(path)

    def pool(self) -> list[str]:
        return sorted(os.listdir(self.home / "pool"))


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """A function that opens the driver, with options, on a new root."""
    with ExitStack() as opened:

        def make(root: Path = tmp_path / "root", **options: Any) -> Bench:
            return Bench(root, opened, options)

        yield make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench(sharing="links")


@pytest.fixture(scope="session")
def btrfs() -> Iterator[Path]:
    """A new btrfs file system."""
    with btrfs_file_system() as mounted:
        yield mounted


@contextmanager
def btrfs_file_system() -> Iterator[Path]:
    """Make and mount a btrfs file system for the length of a `with` block; skip the test where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("mounting a btrfs image needs root")
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("mkfs.btrfs is not installed (package btrfs-progs)")
    top = Path(tempfile.mkdtemp(prefix="layerstore-pool-"))
    try:
        with open(top / "image", "wb") as image:
            image.truncate(1 << 30)
        subprocess.run(["mkfs.btrfs", "--quiet", top / "image"], check=True, capture_output=True)
        (top / "mounted").mkdir()
        subprocess.run(["mount", "-o", "loop,nobarrier", top / "image", top / "mounted"], check=True)
        try:
            yield top / "mounted"
        finally:
            subprocess.run(["umount", top / "mounted"], check=True)
    finally:
        shutil.rmtree(top)
