"""The pool as a whole: what no layer has any more is removed, and damaged files are found and repaired."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Set
from pathlib import Path
from typing import Final

import layerstore_core
from layerstore_core.sdk import Descriptor, copy_extents, inside
from layerstore_pool.extents import shares_extents
from layerstore_pool.sharing import ANY, READ, facts_of, files_of, key_of

#: The digest, the metadata, and a number: see `layerstore_pool`.
_NAME: Final = re.compile(r"[0-9a-f]{64}\.([0-9a-f]{64}|any)\.[0-9]+")
_WRITE: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK: Final = 1 << 20
#: How many damaged files are named, and how many of the layers that have one.
_MOST: Final = 90
_MOST_LAYERS: Final = 3


class Pool:
    """The pool of a driver.

    Args:
        directory: where its files are.
        layers: the directory of the layers, each with a directory `tree`.
    """

    def __init__(self, directory: Path, layers: Path) -> None:
        self.directory: Final = directory
        self._layers = layers

    def names(self) -> list[str]:
        """Return the names of its files, sorted."""
        return [name for name in inside.names(self.directory) if _NAME.fullmatch(name)]

    def collect(self, inodes: Set[int] | None = None) -> None:
        """Remove the files that no layer has.

        Meanwhile a layer may begin to use one: then the file is lost for the layers after it, but not for this one.

        Args:
            inodes: look only at the files with these inodes; `None`: at all.
        """
        if not inside.is_directory(self.directory):
            return
        with inside.open_directory(self.directory) as pool, os.scandir(pool) as entries:
            names = [entry.name for entry in entries if inodes is None or entry.inode() in inodes]
            for name in filter(_NAME.fullmatch, names):
                if not _is_in_use(pool, name):
                    os.unlink(name, dir_fd=pool)

    def check(self, *, full: bool) -> list[str]:
        """Return which files are damaged, and which layers have them. If `full`, read all contents."""
        damaged = self._damaged(full=full)
        users: dict[int, list[str]] = {inode: [] for inode, _ in damaged.values()}
        for layer_id in inside.names(self._layers) if damaged else ():
            for path, inode in files_of(self._layers / layer_id / "tree"):
                if inode in users:
                    users[inode].append(f"{layer_id} as {os.fsdecode(path)}")
        found = [
            f"{self.directory / name}: {what}; {_in_words(users[inode])}" for name, (inode, what) in damaged.items()
        ]
        more = [f"{len(found) - _MOST} more files in {self.directory} are damaged"] if found[_MOST:] else []
        return found[:_MOST] + more

    def repair(self) -> list[str]:
        """Write damaged files again, so that they are whole in all layers.

        This needs another file with the same content and metadata. There is one as soon as a layer that has this file
        was registered or rebuilt after the damage.
        """
        damaged, done = self._damaged(full=True), []
        good = {name.rpartition(".")[0]: name for name in self.names() if name not in damaged}
        for name in damaged:
            source = good.get(name.rpartition(".")[0])
            if source is not None and name.split(".")[1] != ANY:
                _restore(self.directory / name, self.directory / source)
                done.append(f"wrote {self.directory / name} again, as {source} is")
        return done[:_MOST]

    def _damaged(self, *, full: bool) -> dict[str, tuple[int, str]]:
        """Return the damaged files by name: the inode of each, and what is wrong."""
        damaged = {}
        names = self.names()
        if names:
            with inside.open_directory(self.directory) as pool:
                for name in names:
                    if (found := _problem(pool, name, full=full)) is not None:
                        damaged[name] = found
        return damaged


def _is_in_use(pool: int, name: str) -> bool:
    """Return whether a layer has a file of the pool."""
    status = os.stat(name, dir_fd=pool, follow_symlinks=False)
    if status.st_nlink > 1 or name.split(".")[1] != ANY or not stat.S_ISREG(status.st_mode):
        return status.st_nlink > 1
    with Descriptor(os.open, name, READ, dir_fd=pool) as fd:
        return shares_extents(fd)


def _problem(pool: int, name: str, *, full: bool) -> tuple[int, str] | None:
    """Return the inode of a file of the pool, and what is wrong with it; `None` for nothing."""
    digest, metadata, _ = name.split(".")
    try:
        status = os.stat(name, dir_fd=pool, follow_symlinks=False)
    except FileNotFoundError:
        return None  # garbage collection has just removed it
    try:
        if not stat.S_ISREG(status.st_mode):
            return status.st_ino, "it is no regular file"
        with Descriptor(os.open, name, READ, dir_fd=pool) as fd:
            if full and (found := _digest_of(fd)) != digest:
                return status.st_ino, f"its content has the digest {found}"
            if metadata != ANY and key_of(digest, facts_of(fd)) != f"{digest}.{metadata}":
                return status.st_ino, "its mode, owner, time or attributes have changed"
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        return status.st_ino, f"it cannot be read: {error.strerror}"


def _digest_of(fd: int) -> str:
    found = hashlib.sha256()
    while chunk := os.read(fd, _CHUNK):
        found.update(chunk)
    return found.hexdigest()


def _restore(damaged: Path, good: Path) -> None:
    """Give a file the content and metadata of another one. If it is interrupted, the next repair does it again."""
    with inside.parent(damaged) as (pool, name):
        os.chmod(f"/proc/self/fd/{pool}/{name}", 0o600)  # an ordinary user needs the right to write
        with (
            Descriptor(os.open, good.name, READ, dir_fd=pool) as source,
            Descriptor(os.open, name, _WRITE, dir_fd=pool) as target,
        ):
            os.ftruncate(target, 0)
            copy_extents(source, target, os.fstat(source))
            os.fsync(target)
    layerstore_core.copy_metadata(str(good), str(damaged))


def _in_words(users: list[str]) -> str:
    """Return which layers have a file."""
    if not users:
        return "no layer links to it"
    more = f" and {len(users) - _MOST_LAYERS} more" if users[_MOST_LAYERS:] else ""
    return f"it is in layer {', '.join(users[:_MOST_LAYERS])}{more}"
