"""A btrfs file system in a file, which is made and mounted for the tests, and removed at the end."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from layerstore_btrfs import BtrfsDriver, subvolumes
from layerstore_btrfs.options import Options
from loguru import logger

from layerstore_core import DriverContext, LayerStream
from layerstore_core.tar.scanner import TarScanner

IMAGE_SIZE = 1 << 30


def _lacking():
    """Return why no btrfs file system can be made here; `None` if it can."""
    if os.geteuid() != 0:
        return "mounting a btrfs image needs root"
    if shutil.which("mkfs.btrfs") is None:
        return "mkfs.btrfs is not installed (package btrfs-progs)"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices here"
    if "\tbtrfs\n" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "btrfs"], check=False, capture_output=True)
        if "\tbtrfs\n" not in Path("/proc/filesystems").read_text():
            return "the kernel has no btrfs"
    return None


@pytest.fixture(scope="session")
def make_filesystem():
    """A function that makes and mounts a btrfs file system. All are removed at the end, even after failures."""
    reason = _lacking()
    if reason is not None:
        pytest.skip(reason)
    # Not in pytest's directories, which an ordinary user cannot enter.
    top = Path(tempfile.mkdtemp(prefix="layerstore-btrfs-"))
    top.chmod(0o755)
    mounts = []

    def make(name, *options):
        image, mount = top / f"{name}.img", top / name
        with open(image, "wb") as file:
            file.truncate(IMAGE_SIZE)
        subprocess.run(["mkfs.btrfs", "--quiet", image], check=True, capture_output=True)
        mount.mkdir()
        # nobarrier: these data need not survive a power cut. The loop device is released with the mount.
        command = ["mount", "-t", "btrfs", "-o", ",".join(("loop", "nobarrier", *options)), image, mount]
        subprocess.run(command, check=True, capture_output=True)
        mounts.append(mount)
        return mount

    yield make
    for mount in mounts:
        if subprocess.run(["umount", mount], check=False, capture_output=True).returncode:
            subprocess.run(["umount", "--lazy", mount], check=True)
    shutil.rmtree(top)


@pytest.fixture(scope="session")
def filesystem(make_filesystem):
    """A mounted btrfs file system."""
    return make_filesystem("main")


@pytest.fixture
def home(filesystem):
    """A new directory on btrfs. Its subvolumes are deleted at the end."""
    home = filesystem / "btrfs"
    home.mkdir()
    yield home
    with subvolumes.opened(filesystem) as directory:
        for path in [*home.glob("subvolumes/*"), *home.glob("*")]:
            with subvolumes.opened(path.parent) as parent:
                subvolumes.delete(parent, os.fsencode(path.name))
        subvolumes.delete(directory, b"btrfs")


@pytest.fixture
def context(home):
    """A function that makes a driver's context, with options as a user writes them."""

    def make(**options):
        return DriverContext(home=home, logger=logger, options=Options.model_validate(options))

    return make


@pytest.fixture
def driver(context):
    return BtrfsDriver(context())


@pytest.fixture
def ordinary_user():
    """A context manager in which this process has the rights of an ordinary user (nobody)."""

    @contextmanager
    def become():
        os.setegid(65534)
        os.seteuid(65534)
        try:
            yield 65534
        finally:
            os.seteuid(0)
            os.setegid(0)

    return become


@pytest.fixture
def layer_stream():
    """A function that makes the stream of a layer from names and contents; the content `None` makes a directory."""

    def make(files):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.mtime = 1_700_000_000
                if content is None:
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(info)
                else:
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
        out.seek(0)
        return LayerStream(TarScanner(lambda: out.read(4096)))

    return make
