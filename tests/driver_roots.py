"""The drivers that the store is tested with, and roots for each of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path

from layerstore_core.driver import registry
from layerstore_core.driver.probe import probe
from tests import in_memory
from tests.in_memory import file_system_in_memory

DRIVERS = ("vfs", "overlay2", "btrfs")
_IMAGE_SIZE = 2 << 30
_BTRFS = "layerstore-btrfs-of-"


@cache
def why_not(driver: str) -> str:
    """Return why a driver cannot be tested here. Empty if it can."""
    if driver not in {installed.name for installed in registry.installed_drivers()}:
        return "its package is not installed"
    if driver == "btrfs":  # it gets its own file system
        return _why_no_btrfs()
    with tempfile.TemporaryDirectory() as directory:
        result = probe(driver, Path(directory))
    return "" if result.works else result.reason


def _why_no_btrfs() -> str:
    if os.geteuid() != 0:
        return "mounting an image needs the rights of root"
    if shutil.which("mkfs.btrfs") is None:
        return "mkfs.btrfs is not installed"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    if not _kernel_has_btrfs() and shutil.which("modprobe"):
        subprocess.run(["modprobe", "btrfs"], check=False, capture_output=True)
    return "" if _kernel_has_btrfs() else "the kernel has no btrfs"


def _kernel_has_btrfs() -> bool:
    return "\tbtrfs\n" in Path("/proc/filesystems").read_text()


@contextmanager
def btrfs_file_system() -> Iterator[Path]:
    """Mount a btrfs file system in an image for the length of a `with` block. The loop device ends with the mount.

    The image is not under pytest's directories, which other sessions clean up. Stale images of killed sessions are
    removed too. Where other tests have their files in memory, so is the image.
    """
    for other in Path(tempfile.gettempdir()).glob(f"{_BTRFS}*"):
        if not Path("/proc", other.name.removeprefix(_BTRFS).partition("-")[0]).exists():
            _remove_file_system(other)
    with file_system_in_memory() if in_memory.WANTED else nullcontext() as top:
        # A process may have several.
        directory = Path(tempfile.mkdtemp(prefix=f"{_BTRFS}{os.getpid()}-", dir=top))
        with _mounted(directory) as mount:
            yield mount


@contextmanager
def _mounted(directory: Path) -> Iterator[Path]:
    image, mount = directory / "image", directory / "mount"
    mount.mkdir()
    try:
        with open(image, "wb") as file:
            file.truncate(_IMAGE_SIZE)
        subprocess.run(["mkfs.btrfs", "--quiet", image], check=True, capture_output=True)
        # The tests do not need this file system after a power cut.
        subprocess.run(["mount", "-o", "loop,nobarrier", image, mount], check=True, capture_output=True)
        yield mount
    finally:
        _remove_file_system(directory)


def _remove_file_system(directory: Path) -> None:
    mount = directory / "mount"
    if os.path.ismount(mount) and subprocess.run(["umount", mount], check=False, capture_output=True).returncode:
        subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(directory, ignore_errors=True)


def mounts_below(directory: Path) -> list[str]:
    """Return the mount points under a directory, the last one mounted first."""
    prefix = f"{os.path.realpath(directory)}/"
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    points = [line.split(" ")[4].encode("latin-1", "replace").decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if point.startswith(prefix)]


def remove_root(root: Path) -> None:
    """Remove a store. Unmount first: a failed test or a killed process may have left mounts."""
    for point in mounts_below(root):
        subprocess.run(["umount", "--lazy", point], check=False, capture_output=True)
    if not root.exists():
        return
    if any(root.glob("btrfs/subvolumes/*")):
        _remove_subvolumes(root / "btrfs" / "subvolumes")
    shutil.rmtree(root)


def _remove_subvolumes(directory: Path) -> None:
    for path in sorted(directory.iterdir()):
        subprocess.run(["btrfs", "subvolume", "delete", path], check=True, capture_output=True)
