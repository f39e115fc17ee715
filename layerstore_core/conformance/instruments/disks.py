"""Small disks: a file system in an image, which can be full, and which can be copied as a power cut leaves it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from layerstore_core.conformance.rig import file_system_of

_MIB: Final = 1 << 20
_ATTEMPTS: Final = 5


@dataclass(frozen=True)
class FileSystem:
    """The command that creates a file system, the mount options, and the size in bytes."""

    make: list[str]
    options: str
    size: int


EXT4: Final = FileSystem(
    ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-J", "size=4"],
    "loop",
    48 * _MIB,
)
BTRFS: Final = FileSystem(["mkfs.btrfs", "--quiet", "--metadata", "single", "--nodiscard"], "loop", 128 * _MIB)
XFS: Final = FileSystem(["mkfs.xfs", "-q", "-f"], "loop", 320 * _MIB)
#: On a small btrfs, data and metadata have to share their room. Otherwise no metadata can be written any more when a
#: file that took all room is deleted.
_SMALL_BTRFS: Final = FileSystem(["mkfs.btrfs", "--quiet", "--mixed", "--nodiscard"], BTRFS.options, BTRFS.size)
#: By the kernel's name of its type.
_LIKE: Final = {"btrfs": _SMALL_BTRFS, "xfs": XFS}


class Disk:
    """A file system in an image.

    Args:
        system: its kind.
        directory: where the image and the mount point are made.

    Attributes:
        mount: the mount point.
    """

    def __init__(self, system: FileSystem, directory: Path) -> None:
        self._system = system
        self._image = directory / "image"
        self._copies = 0
        self.mount: Final = directory / "mount"
        make_file_system(system, self._image)
        self.mount.mkdir()

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount the file system for the length of a `with` block."""
        mount_image(self._system, self._image, self.mount)
        try:
            yield self.mount
        finally:
            if subprocess.run(["umount", self.mount], check=False, capture_output=True).returncode:
                subprocess.run(["umount", "--lazy", self.mount], check=False, capture_output=True)

    def copy(self) -> Path:
        """Copy what is on the disk now, without what is only in the kernel's memory: as a power cut leaves it."""
        self._copies += 1
        target = self._image.with_name(f"copy-{self._copies}")
        copy_image(self._image, target)
        return target

    def replace_by(self, image: Path) -> None:
        """Put a copy in the place of the image, which must not be mounted."""
        image.rename(self._image)


def why_not(like: Path) -> str:
    """Return why no small disk with the same type of file system can be made here. Empty if it can."""
    if os.geteuid():
        return "mounting a disk needs the rights of root"
    if not os.path.exists("/dev/loop-control"):
        return "there are no loop devices"
    program = _kind(like).make[0]
    return "" if shutil.which(program) else f"{program} is not installed"


@contextmanager
def small_disk(like: Path) -> Iterator[Disk]:
    """Make a small disk with the same type of file system as a directory. A type that is unknown here becomes ext4.

    Nothing is left of it after the `with` block.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="layerstore-disk-", dir=memory) as name:
        yield Disk(_kind(like), Path(name))


def make_file_system(system: FileSystem, image: Path) -> None:
    """Create a file system in a file."""
    with open(image, "wb") as file:
        file.truncate(system.size)
    subprocess.run([*system.make, image], check=True, capture_output=True)


def mount_image(system: FileSystem, image: Path, where: Path) -> None:
    """Mount a file system that is in a file."""
    command = ["mount", "-o", system.options, str(image), str(where)]
    for _ in range(_ATTEMPTS):
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.2)  # another process may have taken the free loop device first
    subprocess.run(command, check=True, capture_output=True)


def copy_image(source: Path, target: Path) -> None:
    """Copy a file, with its holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def fill(directory: Path) -> Path:
    """Fill the file system of a directory to the last byte. Return the file that takes the room."""
    path = directory / "filler"
    with open(path, "wb", buffering=0) as file:
        size = _MIB
        while size:
            try:
                while file.write(bytes(size)) == size:
                    pass
                os.fsync(file.fileno())
            except OSError:
                size //= 2
    return path


def _kind(like: Path) -> FileSystem:
    return _LIKE.get(file_system_of(like), EXT4)
